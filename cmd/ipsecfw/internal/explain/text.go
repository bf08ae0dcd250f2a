package explain

import (
	"fmt"
	"strings"

	"github.com/ipsecfw/ipsecfw/filter"
)

// String writes the explanation for people, in several lines.
func (e Explanation) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s\n", e.Flow)
	e.Packets.write(&b, "  ")
	if n := e.Negotiation; n != nil {
		fmt.Fprintf(&b, "  negotiates: %s mode with %s, %s; authentication by %s\n", n.Mode, n.Peer, strings.Join(n.Methods, ", or "), strings.Join(n.Authentication, ", or "))
		if n.PeerID != "" {
			fmt.Fprintf(&b, "  the peer must be %q\n", n.PeerID)
		}
		if n.Group != "" {
			fmt.Fprintf(&b, "  the peer must belong to the group %q\n", n.Group)
		}
	}
	switch {
	case e.SA != "":
		fmt.Fprintf(&b, "  carried now by the SA %s\n", e.SA)
	case e.NoSA != "":
		fmt.Fprintf(&b, "  carried by no SA now: %s\n", e.NoSA)
	}
	b.WriteString("answers\n")
	e.Answers.write(&b, "  ")
	return b.String()
}

// String writes the verdict in a line.
func (v Verdict) String() string {
	words := v.Action
	if len(v.Options) > 0 {
		words += " (" + strings.Join(v.Options, ", ") + ")"
	}
	switch {
	case v.Exempt != "":
		return words + ": no filter is asked, for this is " + v.Exempt
	case v.Filter == nil:
		return words + ": no filter matches"
	}
	return words + ": by " + v.Filter.String()
}

func (v Verdict) write(b *strings.Builder, indent string) {
	fmt.Fprintf(b, "%s%s\n", indent, v)
	switch {
	case v.Next != nil:
		fmt.Fprintf(b, "%swithout it: %s, by %s\n", indent, v.Next.Action, v.Next)
	case v.Filter != nil:
		fmt.Fprintf(b, "%swithout it: %s, for no other filter matches\n", indent, filter.Permit)
	}
}

// String names the filter in a line.
func (f Filter) String() string {
	mirrored := ""
	if f.Mirrored {
		mirrored = ", mirrored"
	}
	return fmt.Sprintf("%s: rule %q, filter %d of list %q (%s%s), weight %d", f.Position, f.Rule, f.Index, f.List, f.Selector, mirrored, f.Weight)
}
