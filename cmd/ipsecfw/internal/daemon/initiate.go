package daemon

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"strings"

	"github.com/ipsecfw/ipsecfw/cmd/ipsecfw/internal/api"
	"github.com/ipsecfw/ipsecfw/ipsec"
	"github.com/ipsecfw/ipsecfw/ipsec/ike"
	"github.com/ipsecfw/ipsecfw/ipsec/ike/udp"
)

// PostMortems implements api.Engine.
func (c *control) PostMortems(peer string) []ike.PostMortem {
	pl := c.current()
	if pl == nil {
		return nil
	}
	if a, err := netip.ParseAddr(peer); err == nil {
		return pl.manager.PostMortems(a)
	}
	var out []ike.PostMortem
	for _, p := range pl.manager.PostMortems(netip.Addr{}) {
		if peer == "" || names(p.Identity, peer) {
			out = append(out, p)
		}
	}
	return out
}

// names reports whether an identity is the one that a person means.
func names(identity, peer string) bool {
	return strings.EqualFold(strings.TrimSuffix(identity, "."), strings.TrimSuffix(peer, "."))
}

// Initiate implements api.Engine.
func (c *control) Initiate(ctx context.Context, i api.Initiation, tell func(api.Progress)) error {
	pl := c.current()
	if pl == nil {
		return &api.Error{Code: api.CodeNotFound, Message: "no policy is in force", Hint: `put one in force with "ipsecfw apply"`}
	}
	remote, err := pl.peerAddress(i.Peer)
	if err != nil {
		return err
	}
	child, local, err := pl.policy.Load().initiation(i.Rule, remote)
	if err != nil {
		return err
	}
	if sa := pl.standing(child.Name, remote); sa != nil {
		tell(api.Progress{SA: sa})
		return nil
	}
	// What happens is told by another goroutine, which must not wait for the
	// one that writes.
	news := make(chan api.Progress, 256)
	report := func(p api.Progress) {
		select {
		case news <- p:
		default: // who reads so slowly misses a message
		}
	}
	end := make(chan api.Progress, 1)
	finish := func(p api.Progress) {
		select {
		case end <- p:
		default:
		}
	}
	w := ike.Watcher{
		Established: func(p ike.PeerInfo) {
			peer := describePeer(ike.PeerStatus{PeerInfo: p})
			report(api.Progress{Peer: &peer})
		},
		Installed: func(_ ike.PeerInfo, x ike.ChildInfo) {
			if x.Policy == child.Name {
				finish(api.Progress{SA: &api.SA{Rule: x.Policy, InSPI: x.In.String(), OutSPI: x.Out.String()}})
			}
		},
		Failed: func(p ike.PostMortem) {
			if p.Rule == child.Name || p.Rule == "" && p.Initiator {
				finish(api.Progress{PostMortem: &p})
			}
		},
	}
	if i.Trace {
		w.Message = func(x ike.Message) { report(api.Progress{Message: x.String()}) }
	}
	stop := pl.manager.Watch(local, remote, w)
	defer stop()
	packetLocal, packetRemote := child.Local[0], child.Remote[0]
	pl.manager.Initiate(local, remote, child, packetLocal, packetRemote)
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-pl.stopped:
			return &api.Error{Code: api.CodeNotFound, Message: "the policy went out of force meanwhile"}
		case p := <-news:
			tell(p)
		case p := <-end:
			stop()
			for len(news) > 0 {
				tell(<-news)
			}
			if p.SA != nil {
				if sa := pl.standing(child.Name, remote); sa != nil {
					p.SA = sa
				}
			}
			tell(p)
			return nil
		}
	}
}

// peerAddress finds the peer that a person means: by its address, or by the
// identity of one that has an IKE SA, or had a negotiation that failed.
func (pl *plant) peerAddress(peer string) (netip.Addr, error) {
	if a, err := netip.ParseAddr(peer); err == nil && a.Zone() == "" {
		return a.Unmap(), nil
	}
	for _, p := range pl.manager.Peers() {
		if names(p.RemoteID, peer) {
			return p.Remote.Addr(), nil
		}
	}
	for _, p := range pl.manager.PostMortems(netip.Addr{}) {
		if names(p.Identity, peer) {
			return p.Remote.Addr(), nil
		}
	}
	return netip.Addr{}, &api.Error{Code: api.CodeNotFound, Message: fmt.Sprintf("no peer is known as %q", peer), Hint: "name its address"}
}

// standing returns the SAs that stand under a rule with a peer; nil for none.
func (pl *plant) standing(rule string, remote netip.Addr) *api.SA {
	for _, sa := range pl.engine.SAD().All() {
		if sa.Policy == rule && sa.RemoteAddr.Addr() == remote {
			out := describe(sa)
			return &out
		}
	}
	return nil
}

// initiation returns the SAs to ask a peer for: those of the most specific
// filter of a rule that concerns it, or of any rule for an empty name.
func (p *policy) initiation(rule string, remote netip.Addr) (c ike.ChildPolicy, local netip.Addr, err error) {
	if n := p.rules[rule]; rule != "" && n == nil {
		return c, local, &api.Error{Code: api.CodeNotFound, Message: fmt.Sprintf("there is no rule %q that negotiates", rule)}
	}
	toward, err := localToward(remote)
	if err != nil {
		return c, local, err
	}
	for i := range p.secured {
		s := &p.secured[i]
		if rule != "" && s.rule.Rule != rule {
			continue
		}
		local = toward
		if s.rule.Mode == ipsec.Tunnel {
			local = s.rule.TunnelLocal
		}
		if !s.concerns(local, remote) {
			continue
		}
		for _, w := range s.ways {
			if c, ok := s.rule.child(s.entry, w, local, remote); ok {
				return c, local, nil
			}
		}
	}
	if rule != "" {
		return c, local, &api.Error{Code: api.CodeNotFound, Message: fmt.Sprintf("the rule %q does not concern %s", rule, remote)}
	}
	return c, local, &api.Error{Code: api.CodeNotFound, Message: fmt.Sprintf("no rule negotiates with %s", remote), Hint: "write one whose filters have that address at the far side"}
}

// localToward returns the address from which this host sends to another.
func localToward(remote netip.Addr) (netip.Addr, error) {
	c, err := net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(netip.AddrPortFrom(remote, udp.Port)))
	if err != nil {
		return netip.Addr{}, &api.Error{Code: api.CodeNotFound, Message: fmt.Sprintf("this host has no way to %s: %v", remote, err)}
	}
	defer c.Close()
	return c.LocalAddr().(*net.UDPAddr).AddrPort().Addr().Unmap(), nil
}
