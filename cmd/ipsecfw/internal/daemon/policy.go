package daemon

import (
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"reflect"
	"slices"

	"github.com/ipsecfw/ipsecfw/cmd/ipsecfw/internal/api"
	"github.com/ipsecfw/ipsecfw/cmd/ipsecfw/internal/credentials"
	"github.com/ipsecfw/ipsecfw/filter"
	"github.com/ipsecfw/ipsecfw/ipsec"
	"github.com/ipsecfw/ipsecfw/ipsec/ike"
	"github.com/ipsecfw/ipsecfw/rules"
)

// policy is a rule file that can be put in force: parsed, its credentials
// loaded. It is immutable, and tells the key exchange about peers
// (ike.Policies).
type policy struct {
	upload api.Policy
	file   *rules.File
	spd    *filter.SPD
	rules  map[string]*negotiation
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

// negotiation is a rule with the action negotiate.
type negotiation struct {
	rules.Negotiation
	auth []ike.AuthMethod
}

var _ ike.Policies = (*policy)(nil)

// compile checks an upload and everything in it. The error is an *api.Error.
func compile(up api.Policy, generation uint64) (*policy, error) {
	file, err := rules.Parse(up.Name, []byte(up.Source))
	if err != nil {
		return nil, invalid(err)
	}
	p := &policy{upload: up, file: file, rules: map[string]*negotiation{}}
	if p.spd, err = filter.New(file.SPDEntries(), filter.Settings{Generation: generation}); err != nil {
		return nil, invalid(err)
	}
	read := func(path string) ([]byte, error) {
		if b, ok := up.Files[path]; ok {
			return b, nil
		}
		return nil, fmt.Errorf("the file %q did not come with the policy", path)
	}
	var errs []error
	negotiations := file.Negotiations()
	for _, name := range slices.Sorted(maps.Keys(negotiations)) {
		n := negotiations[name]
		auth, err := credentials.Load(n, read)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		p.rules[name] = &negotiation{n, auth}
	}
	if err := errors.Join(errs...); err != nil {
		return nil, invalid(err)
	}
	for i := range p.spd.Entries() {
		e := &p.spd.Entries()[i]
		if n := p.rules[e.Name]; n != nil && e.Action == filter.Negotiate {
			p.secured = append(p.secured, secured{e, n, waysOf(e)})
		}
	}
	return p, nil
}

func invalid(err error) error {
	return &api.Error{Code: api.CodeInvalidPolicy, Message: err.Error()}
}

// Peer implements ike.Policies: the rule of the most specific filter that
// concerns the peer says how to deal with it. What the peer proves then may
// not do for all rules that concern it, which their ike.ChildPolicy says.
func (p *policy) Peer(local, remote netip.Addr) (ike.Policy, bool) {
	for i := range p.secured {
		s := &p.secured[i]
		if !s.concerns(local, remote) {
			continue
		}
		n := s.rule
		return ike.Policy{
			Proposals: p.file.IKE(),
			Auth:      n.auth,
			LocalID:   n.OwnID,
			PeerID:    n.PeerID,
			Liveness:  p.file.KeyExchange.Liveness,
			Lifetime:  p.file.KeyExchange.Lifetime,
			ForceUDP:  n.ForceUDP,
		}, true
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
		if s.rule.Mode != mode || !s.concerns(local, remote) {
			continue
		}
		for _, w := range s.ways {
			if c, ok := s.rule.child(s.entry, w, local, remote); ok {
				out = append(out, c)
			}
		}
	}
	return out
}

// same reports whether a rule means the same to SAs in both policies, so that
// they may live on.
func (p *policy) same(q *policy, rule string) bool {
	a, b := p.rules[rule], q.rules[rule]
	if a == nil || b == nil {
		return false
	}
	x, y := a.Negotiation, b.Negotiation
	x.Position, y.Position = "", "" // a comment may have been added above
	return reflect.DeepEqual(x, y) && ike.SameMethods(a.auth, b.auth)
}
