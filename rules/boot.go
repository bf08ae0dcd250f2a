package rules

import "github.com/ipsecfw/ipsecfw/filter"

// BootMode is what holds until the daemon has the policy. The zero value is
// invalid.
type BootMode uint8

// The boot modes.
const (
	BootStateful BootMode = iota + 1 // what the host begins, and the answers to it
	BootBlock                        // nothing
	BootPermit                       // everything
)

var bootModes = []string{"stateful", "block", "permit"}

// String returns the rule file's keyword.
func (m BootMode) String() string {
	if m < BootStateful || m > BootPermit {
		return "invalid boot mode"
	}
	return bootModes[m-1]
}

// Startup is what holds until the daemon has the policy, beside DHCP, which
// always passes.
type Startup struct {
	Stated bool // the file has the key; without it another file's holds, if there is one
	Mode   BootMode
	Exempt []Filter // what passes all the same; no side is dynamic
}

var startupKeys = table[Startup]{
	{name: "mode", about: "what passes; stateful, which is what the host begins, if missing", write: "mode: stateful, mode: block or mode: permit",
		value: word(bootModes, func(s *Startup, word string) {
			for m := BootStateful; m <= BootPermit; m++ {
				if m.String() == word {
					s.Mode = m
				}
			}
		})},
	{name: "exempt", about: "filters whose packets pass all the same", write: "exempt: [{from: any, to: me, protocol: tcp, to-port: 22}]",
		value: value[Startup]{
			read:     func(r *reader, n *node, k keyed, s *Startup) { s.Exempt = r.readExempt(n, k) },
			describe: describeFilters,
		}},
}

func startup[T any](of func(*T) *Startup) value[T] {
	return value[T]{
		read: func(r *reader, n *node, k keyed, into *T) {
			s := of(into)
			s.Stated = true
			startupKeys.read(r, n, quoted(k.name), s)
			if exempt := n.get("exempt"); exempt != nil && s.Mode == BootPermit {
				r.report(exempt.at, `"exempt" has no effect in boot mode permit`, `remove "exempt", or write mode: stateful`)
			}
		},
		describe: func(d *definitions) *schema { return startupKeys.describe(d) },
	}
}

// readExempt reads filters that hold before anything can be looked up.
func (r *reader) readExempt(n *node, k keyed) []Filter {
	var out []Filter
	r.readList(n, quoted(k.name), k.write, func(v *node) {
		var f Filter
		readFilter(r, v, "a filter", filterKeys, &f, &f)
		out = append(out, f)
		r.later = append(r.later, func(x *expander) {
			if x.dynamic(f.From) || x.dynamic(f.To) {
				r.report(f.Position, "a boot exemption depends on addresses that are not known at boot", "write addresses in place of names, dns-servers, dhcp-servers and default-gateway")
			}
		})
	})
	return out
}

// Boot returns what holds until the daemon has the policy, and the filters,
// all of which permit, whose packets pass all the same. Their rule is "boot".
func (f *File) Boot() (BootMode, []filter.Entry) {
	x, at := newExpander(f.names(), Addresses{}), placeIn(f.Path)
	var out []filter.Entry
	for i := range f.Startup.Exempt {
		e := &f.Startup.Exempt[i]
		out = x.appendEntries(out, e, filter.Entry{
			Name: "boot", List: "exempt", Index: i,
			Position: at.at(e.Position), Action: filter.Permit,
		}, nil)
	}
	return f.Startup.Mode, out
}
