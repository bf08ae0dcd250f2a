package daemon

import (
	"crypto/hmac"
	"fmt"
	"maps"
	"net/netip"
	"reflect"
	"slices"
	"time"

	"github.com/ipsecfw/ipsecfw/cmd/ipsecfw/internal/api"
	"github.com/ipsecfw/ipsecfw/cmd/ipsecfw/internal/credentials"
	"github.com/ipsecfw/ipsecfw/cmd/ipsecfw/internal/verify"
	"github.com/ipsecfw/ipsecfw/filter"
	"github.com/ipsecfw/ipsecfw/ipsec"
	"github.com/ipsecfw/ipsecfw/ipsec/ike"
	"github.com/ipsecfw/ipsecfw/rules"
)

// policy is the rule files in force as one policy, with the addresses that
// names stand for. It is immutable, and tells the key exchange about peers
// (ike.Policies).
type policy struct {
	parts     []*part // the persistent one first
	addresses rules.Addresses
	spd       *filter.SPD
	rules     map[string]*negotiation
	// secured are the filters of those rules in the SPD's order. A stranger's
	// packet can make us look through them, so they are worked out before.
	secured []secured
}

// secured is a filter whose packets are to be secured.
type secured struct {
	entry *filter.Entry
	rule  *negotiation
	ways  []way
}

var _ ike.Policies = (*policy)(nil)

// settings is the file whose settings hold: the one that was applied last,
// since all files have settings and there can be one only.
func (p *policy) settings() *rules.File { return p.parts[len(p.parts)-1].file }

// combine makes one policy of rule files. The error is an *api.Error.
func combine(parts []*part, addresses rules.Addresses, generation uint64) (*policy, error) {
	p := &policy{parts: parts, addresses: addresses, rules: map[string]*negotiation{}}
	var entries []filter.Entry
	names := map[string]bool{}
	for i, x := range parts {
		for _, r := range x.file.Rules {
			if names[r.Name] && i > 0 {
				return nil, invalid(fmt.Errorf("%s:%d:%d: the persistent policy has a rule %q too: give one of the two another name",
					x.file.Path, r.Position.Line, r.Position.Column, r.Name))
			}
			names[r.Name] = true
		}
		entries = append(entries, x.file.Entries(addresses)...)
		maps.Copy(p.rules, x.under(parts[len(parts)-1]))
	}
	var err error
	if p.spd, err = filter.New(entries, filter.Settings{Generation: generation, Exemptions: p.settings().Exemptions}); err != nil {
		return nil, invalid(err)
	}
	v := verify.Policy{Addresses: addresses, SPD: p.spd}
	for _, x := range parts {
		v.Files = append(v.Files, x.file)
	}
	if err := v.Errors(); err != nil {
		return nil, invalid(err)
	}
	p.secured = p.securing()
	return p, nil
}

// securing works out what p.secured is.
func (p *policy) securing() []secured {
	var out []secured
	for _, e := range p.spd.Entries() {
		if n := p.rules[e.Name]; n != nil && e.Action == filter.Negotiate {
			out = append(out, secured{e, n, waysOf(e)})
		}
	}
	return out
}

func invalid(err error) error {
	return &api.Error{Code: api.CodeInvalidPolicy, Message: err.Error()}
}

// Peer implements ike.Policies: the rule of the most specific filter that
// concerns the peer says how to deal with it, or else the default response.
// What the peer proves then may not do for all rules that concern it, which
// their ike.ChildPolicy says.
func (p *policy) Peer(local, remote netip.Addr) (ike.Policy, bool) {
	for i := range p.secured {
		if s := &p.secured[i]; s.concerns(local, remote) {
			return s.rule.peer, true
		}
	}
	if n := p.rules[rules.DefaultResponseRule]; n != nil {
		return n.peer, true
	}
	return ike.Policy{}, false
}

// concerns reports whether the peer at an address may be the other end of an
// SA for the filter.
func (s *secured) concerns(local, remote netip.Addr) bool {
	if s.rule.Mode == ipsec.Tunnel {
		return s.rule.TunnelPeer == remote && s.rule.TunnelLocal == local
	}
	return slices.ContainsFunc(s.ways, func(w way) bool { return w.remote.Side.Contains(remote) })
}

// Child implements ike.Policies.
func (p *policy) Child(local, remote netip.Addr, _, _ []ipsec.TrafficSelector, transport bool) []ike.ChildPolicy {
	mode := ipsec.Tunnel
	if transport {
		mode = ipsec.Transport
	}
	var out []ike.ChildPolicy
	for i := range p.secured {
		s := &p.secured[i]
		if !s.concerns(local, remote) {
			continue
		}
		if c := s.rule.around(local, remote); c != nil && transport && !slices.ContainsFunc(out, func(o ike.ChildPolicy) bool { return o.SameMeaning(*c) }) {
			out = append(out, *c)
		}
		if s.rule.Mode != mode {
			continue
		}
		for _, w := range s.ways {
			if c, ok := s.rule.child(s.entry, w, local, remote); ok {
				out = append(out, c)
			}
		}
	}
	if n := p.rules[rules.DefaultResponseRule]; n != nil && transport {
		out = append(out, n.response(local, remote))
		if c := n.around(local, remote); c != nil {
			out = append(out, *c)
		}
	}
	return out
}

// same reports whether a rule means the same to SAs in both policies, so that
// they may live on. How an IKE SA begins, and how long it lives, is nothing to
// them.
func (p *policy) same(q *policy, rule string) bool {
	a, b := p.rules[rule], q.rules[rule]
	if a == nil || b == nil {
		return false
	}
	meaning := func(n rules.Negotiation) rules.Negotiation {
		n.Reauth, n.Childless, n.Exchange = 0, false, rules.Exchange{}
		n.Position, n.Places = "", rules.Places{} // a comment may have been added above
		if n.Peers != nil {
			g := *n.Peers
			g.Position = rules.Position{}
			n.Peers = &g
		}
		return n
	}
	return reflect.DeepEqual(meaning(a.Negotiation), meaning(b.Negotiation)) && ike.SameMethods(a.auth, b.auth) &&
		slices.EqualFunc(a.ppks, b.ppks, func(x, y ike.PPK) bool { return x.ID == y.ID && hmac.Equal(x.Secret, y.Secret) })
}

// softens reports whether any rule allows clear packets to peers without IKE.
func (p *policy) softens() bool {
	for _, n := range p.rules {
		if n.AllowUnsecured {
			return true
		}
	}
	return false
}

// warnings returns what is hardly meant in a part, and what works and should
// not stay so.
func (p *policy) warnings(x *part) []string {
	out := append([]string{}, verify.OfFile(x.file)...)
	for _, name := range slices.Sorted(maps.Keys(x.rules)) {
		n := p.rules[name]
		if n == nil { // the default response of another file is in force
			continue
		}
		out = append(out, verify.Risks(n.Negotiation)...)
		out = append(out, credentials.Credentials{Auth: n.auth, PPKs: n.ppks}.Warnings(n.Negotiation, time.Now())...)
	}
	return out
}
