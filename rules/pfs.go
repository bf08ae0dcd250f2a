package rules

import (
	"fmt"
	"slices"
	"strings"

	"github.com/ipsecfw/ipsecfw/ipsec"
)

// readPFS reads whether every SA has a key exchange of its own, or by which
// groups.
func (r *reader) readPFS(n *node, k keyed, into *Negotiate) {
	switch {
	case n.isBool():
		into.PFS = n.text == "true"
	case n.kind != sequence:
		r.report(n.at, `"pfs" is neither true, false nor a list of groups`, "write "+k.write)
	default:
		into.PFSGroups = r.readTexts(n, k, func(text string) (string, string, string) {
			_, problem, hint := parsePFS(text)
			return text, problem, hint
		})
	}
}

// pfsPattern is a regular expression for an item of "pfs".
func pfsPattern() string {
	words := strings.Join(keywords(ipsec.ProtoESP, ipsec.TypeGroup), "|")
	return fmt.Sprintf("^(%s)(-ke[1-7]_(%[1]s))*$", words)
}

// parsePFS returns the key exchanges of an SA: the keyword of a group, and
// behind "-" those of additional ones.
func parsePFS(text string) (ts []ipsec.Transform, problem, hint string) {
	first, rest, more := strings.Cut(text, "-")
	group, ok := keyword(ipsec.ProtoESP, first, ipsec.TypeGroup)
	if !ok {
		return nil, fmt.Sprintf("unknown key exchange group %q", first), meant(first, keywords(ipsec.ProtoESP, ipsec.TypeGroup), "write "+oneOf(keywords(ipsec.ProtoESP, ipsec.TypeGroup)))
	}
	ts = []ipsec.Transform{group}
	for more {
		var word string
		word, rest, more = strings.Cut(rest, "-")
		t, ok := keyword(ipsec.ProtoESP, word, addedTypes...)
		switch {
		case ok && t.ID == ipsec.GroupNone:
			return nil, fmt.Sprintf("%q of %q is no key exchange", word, text), "leave it out; what may be done without stands as an item of its own in the list"
		case !ok:
			return nil, fmt.Sprintf("unknown additional key exchange %q", word), meant(word, keywords(ipsec.ProtoESP, addedTypes...), "write it as in x25519-ke1_mlkem768")
		case slices.ContainsFunc(ts, func(x ipsec.Transform) bool { return x.Type == t.Type }):
			return nil, fmt.Sprintf("two additional key exchanges of %q are number %d", text, t.Type-ipsec.TypeADDKE1+1), "write them as two items of the list"
		}
		ts = append(ts, t)
	}
	return ts, "", ""
}

// exchanges returns the key exchanges that an SA is offered to have of its
// own, each for a proposal: groups that go with the same additional key
// exchanges share one. A proposal with additional ones is refused as a whole by
// whoever does not know them (RFC 9370 section 2.2.1).
func (n *Negotiate) exchanges(under Exchange) [][]ipsec.Transform {
	var out [][]ipsec.Transform
	add := func(ts []ipsec.Transform) {
		added := func(t ipsec.Transform) bool { return t.Type.Additional() }
		more := filtered(ts, added)
		for i, x := range out {
			if !slices.Equal(filtered(x, added), more) {
				continue
			}
			for _, t := range ts {
				if !slices.Contains(out[i], t) {
					out[i] = slices.Insert(out[i], len(out[i])-len(more), t)
				}
			}
			return
		}
		out = append(out, slices.Clone(ts))
	}
	for _, text := range n.PFSGroups {
		ts, _, _ := parsePFS(text) // Parse lets no other pass
		add(ts)
	}
	if n.PFS {
		for _, p := range under.ike() {
			add(filtered(p.Transforms, func(t ipsec.Transform) bool { return t.Type == ipsec.TypeGroup || t.Type.Additional() }))
		}
	}
	if out == nil {
		return [][]ipsec.Transform{nil}
	}
	return out
}

func filtered(ts []ipsec.Transform, keep func(ipsec.Transform) bool) []ipsec.Transform {
	return slices.DeleteFunc(slices.Clone(ts), func(t ipsec.Transform) bool { return !keep(t) })
}
