package rules

import (
	"fmt"
	"maps"
	"slices"

	"github.com/ipsecfw/ipsecfw/filter"
)

// GenericFilter is a filter of a rule as it is written, with its keywords: the
// view of the administrator. Entries has what it stands for.
type GenericFilter struct {
	Rule     string
	List     string
	Index    int // the filter's place in its list, from 0
	Position string
	From, To string // as in "{dns: vpn.example.com}" or "[me, 10.1.0.0/16]"
	Filter   Filter
	On       []filter.Connection // empty for all
	Forward  bool
	Action   string // the action's name
	Does     filter.Action
}

// Filters returns the filters of the rules that are enabled, in the order of
// the rules.
func (f *File) Filters() []GenericFilter {
	n, at := f.names(), placeIn(f.Path)
	var out []GenericFilter
	for i := range f.Rules {
		rule := &f.Rules[i]
		if !rule.Enabled {
			continue
		}
		for j, x := range n.lists[rule.List].Filters {
			out = append(out, GenericFilter{
				Rule: rule.Name, List: rule.List, Index: j, Position: at.at(x.Position),
				From: sidesText(x.From), To: sidesText(x.To), Filter: x,
				On: rule.Connections, Forward: rule.Forward,
				Action: rule.Action, Does: n.actions[rule.Action].Action,
			})
		}
	}
	return out
}

// Needs is what the caller finds out for Addresses.
type Needs struct {
	Names           []string // DNS names, sorted
	DNSServers      bool
	DHCPServers     bool
	DefaultGateways bool
}

// Needs returns what the dynamic sides of enabled rules and of assertions
// stand for.
func (f *File) Needs() Needs {
	var out Needs
	names := map[string]bool{}
	f.used(func(s Side) {
		switch s.Kind {
		case SideName:
			names[s.Name] = true
		case SideDNSServers:
			out.DNSServers = true
		case SideDHCPServers:
			out.DHCPServers = true
		case SideDefaultGateway:
			out.DefaultGateways = true
		}
	})
	out.Names = slices.Sorted(maps.Keys(names))
	return out
}

// used calls do for each side of the filters that are in force, and of the
// address sets that they name, once for each set.
func (f *File) used(do func(s Side)) {
	n, done := f.names(), map[string]bool{}
	var side func(s Side)
	side = func(s Side) {
		do(s)
		if s.Kind == SideSet && !done[s.Name] {
			done[s.Name] = true
			for _, m := range n.sets[s.Name].Members {
				side(m)
			}
		}
	}
	ends := func(x *Filter) {
		for _, s := range x.From {
			side(s)
		}
		for _, s := range x.To {
			side(s)
		}
	}
	lists := map[string]bool{}
	for i := range f.Rules {
		if name := f.Rules[i].List; f.Rules[i].Enabled && !lists[name] {
			lists[name] = true
			for j := range n.lists[name].Filters {
				ends(&n.lists[name].Filters[j])
			}
		}
	}
	for i := range f.Startup.Exempt {
		ends(&f.Startup.Exempt[i])
	}
	for i := range f.Asserts {
		ends(&f.Asserts[i].Filter)
	}
}

// Warning is something in a rule file that works, but has no effect, or hardly the
// one that is meant.
type Warning struct {
	Position string // as in "payroll.yaml:9:3"
	Text     string // what it is
	Hint     string // what to do
}

// Unused returns the filter lists, filter actions, address sets and groups of
// peers that nothing in force uses, in the order of the file.
func (f *File) Unused() []Warning {
	lists, actions, peers, sets := map[string]bool{}, map[string]bool{}, map[string]bool{}, map[string]bool{}
	rules := f.Rules
	if f.Response != nil {
		rules = append(slices.Clone(rules), *f.Response)
	}
	for i := range rules {
		if rules[i].Enabled {
			lists[rules[i].List], actions[rules[i].Action], peers[rules[i].Peers] = true, true, true
		}
	}
	f.used(func(s Side) {
		if s.Kind == SideSet {
			sets[s.Name] = true
		}
	})
	var out doubts
	warn := func(used map[string]bool, name, what, by string, at Position) {
		if !used[name] {
			out = append(out, doubt{at, fmt.Sprintf("no %s uses the %s %q", by, what, name), fmt.Sprintf("remove it, or write %s that uses it", article(by))})
		}
	}
	for _, x := range f.Sets {
		warn(sets, x.Name, "address set", "filter in force", x.Position)
	}
	for _, x := range f.Peers {
		warn(peers, x.Name, "peer group", "enabled rule", x.Position)
	}
	for _, x := range f.Lists {
		warn(lists, x.Name, "filter list", "enabled rule", x.Position)
	}
	for _, x := range f.Actions {
		warn(actions, x.Name, "filter action", "enabled rule", x.Position)
	}
	return out.warnings(f.Path)
}
