package daemon

import (
	"errors"
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

// part is a rule file that can be put in force: parsed, its credentials
// loaded. It is immutable.
type part struct {
	upload *api.Policy
	file   *rules.File
	rules  map[string]*negotiation
}

// negotiation is a rule with the action negotiate, or the default response.
type negotiation struct {
	rules.Negotiation
	auth []ike.AuthMethod
}

// Verify reads an upload and everything in it, as Apply does before anything
// else. The error is an *api.Error.
func Verify(up api.Policy) error {
	_, err := load(&up)
	return err
}

// load checks an upload and everything in it. The error is an *api.Error.
func load(up *api.Policy) (*part, error) {
	file, err := rules.Parse(up.Name, []byte(up.Source))
	if err != nil {
		return nil, invalid(err)
	}
	read := func(path string) ([]byte, error) {
		if b, ok := up.Files[path]; ok {
			return b, nil
		}
		return nil, fmt.Errorf("the file %q did not come with the policy", path)
	}
	p := &part{upload: up, file: file, rules: map[string]*negotiation{}}
	negotiations := file.Negotiations()
	if d, ok := file.DefaultResponse(); ok {
		negotiations[d.Rule] = d
	}
	if files := missing(negotiations, up.Files); len(files) > 0 {
		return nil, &api.Error{
			Code: api.CodeMissingFiles, Message: fmt.Sprintf("%d files that the rule file names did not come with it", len(files)),
			Files: files,
		}
	}
	var errs []error
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
	return p, nil
}

// missing returns the files that rules name and that are not there, in order.
func missing(negotiations map[string]rules.Negotiation, files map[string][]byte) []api.NamedFile {
	found := map[string]api.NamedFile{}
	for _, name := range slices.Sorted(maps.Keys(negotiations)) {
		n := negotiations[name]
		want := func(path string, secret bool) {
			if _, ok := files[path]; ok {
				return
			}
			f, known := found[path]
			if !known {
				f = api.NamedFile{Path: path, Need: fmt.Sprintf("%s: rule %q", n.Position, n.Rule)}
			}
			f.Secret = f.Secret || secret
			found[path] = f
		}
		for _, a := range n.Auth {
			if c := a.Certificate; c != nil {
				want(c.Authority, false)
				want(c.Own, false)
				want(c.Key, true)
			} else {
				want(a.PresharedKey.File, true)
			}
		}
	}
	var out []api.NamedFile
	for _, path := range slices.Sorted(maps.Keys(found)) {
		out = append(out, found[path])
	}
	return out
}

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
		maps.Copy(p.rules, x.rules)
		if i < len(parts)-1 { // which is a setting, and there can be one only
			delete(p.rules, rules.DefaultResponseRule)
		}
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
			return p.peer(s.rule), true
		}
	}
	if n := p.rules[rules.DefaultResponseRule]; n != nil {
		return p.peer(n), true
	}
	return ike.Policy{}, false
}

func (p *policy) peer(n *negotiation) ike.Policy {
	k := p.settings().KeyExchange
	out := ike.Policy{
		Proposals: p.settings().IKE(), Auth: n.auth, LocalID: n.OwnID, PeerID: n.PeerID, Peers: group(n.Peers),
		Liveness: k.Liveness, Lifetime: k.Lifetime, MaxChildren: children(k), ForceUDP: n.ForceUDP,
	}
	if n.AllowUnsecured {
		out.Patience = n.FallbackAfter
	}
	return out
}

// children is how many Child SAs an IKE SA may have; 0 for any number.
func children(k rules.KeyExchange) int {
	if k.MasterKeyPFS {
		return 1
	}
	return k.Children
}

func group(g *rules.PeerGroup) *ike.PeerGroup {
	if g == nil {
		return nil
	}
	return &ike.PeerGroup{Name: g.Name, Names: g.Names, Units: g.Units}
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
	if n := p.rules[rules.DefaultResponseRule]; n != nil && transport {
		out = append(out, n.response(local, remote))
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

// softens reports whether any rule allows clear packets to peers without IKE.
func (p *policy) softens() bool {
	for _, n := range p.rules {
		if n.AllowUnsecured {
			return true
		}
	}
	return false
}

// warnings returns what is hardly meant in a part: what nothing uses, and
// certificates of our own that peers will refuse today.
func (p *policy) warnings(x *part) []string {
	out := []string{}
	for _, w := range x.file.Unused() {
		out = append(out, fmt.Sprintf("%s: warning: %s; %s", w.Position, w.Text, w.Hint))
	}
	for _, name := range slices.Sorted(maps.Keys(x.rules)) {
		n := x.rules[name]
		for _, w := range credentials.Expiry(n.auth, time.Now()) {
			out = append(out, fmt.Sprintf("%s: warning: rule %q: %s", n.Position, name, w))
		}
	}
	return out
}
