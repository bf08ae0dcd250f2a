package ike

import (
	"context"
	"errors"
	"log/slog"
	"net/netip"

	"github.com/ipsecfw/ipsecfw/ipsec/pki"
)

// PostMortems returns what is known of the last negotiations that did not
// succeed, the latest first: those with one peer, or with all for the zero
// address. A peer has four of them at most.
func (m *Manager) PostMortems(remote netip.Addr) []PostMortem {
	var out []PostMortem
	m.call(context.Background(), func() {
		out = m.buried.of(func(p *PostMortem) bool { return !remote.IsValid() || p.Remote.Addr() == remote.Unmap() })
	})
	return out
}

// bury makes the post-mortem of a negotiation on an IKE SA, keeps it, and
// writes it into the log. With whole set all that waits for the IKE SA waits in
// vain.
func (m *Manager) bury(e *entry, rule string, whole bool, why error) {
	stranger := e.init != (initKey{}) && !e.established && !m.acquainted(e)
	if stranger && !m.limits.graves.take(m.cfg.Now()) {
		return
	}
	p := m.examine(e, rule, why)
	p.refused = refusedHere(p, why)
	m.buried.add(p, stranger)
	if m.tells(e) {
		m.logFailure(p)
	}
	ends := pair{e.local, e.remote}
	m.tellWatchers(ends, func(w Watcher) { w.failed(*p) })
	for a := range e.flows {
		if other := *p; whole && a.flow.policy != rule {
			other.Rule = a.flow.policy
			m.tellWatchers(ends, func(w Watcher) { w.failed(other) })
		}
	}
}

// buryFlow does so for one that did not even begin, of which packets may ask
// for many.
func (m *Manager) buryFlow(f flow, why error) {
	now := m.cfg.Now()
	ends := pair{f.local, f.remote}
	keep := m.limits.warnings.allow(f.remote.WithZone(""), now)
	if !keep && len(m.watchers[ends]) == 0 {
		return
	}
	p := &PostMortem{
		At: now, Local: netip.AddrPortFrom(f.local, PortIKE), Remote: netip.AddrPortFrom(f.remote, PortIKE), Initiator: true,
		Rule: f.policy, Step: "none", Cause: CauseOf(why), Error: clip(why.Error()),
	}
	p.Change = change(p, nil)
	if keep {
		m.buried.add(p, false)
		m.logFailure(p)
	}
	m.tellWatchers(ends, func(w Watcher) { w.failed(*p) })
}

// acquainted reports whether a peer that has begun is one of whom this host
// knows else: it has an IKE SA, or was written to by this host.
func (m *Manager) acquainted(e *entry) bool {
	for _, o := range m.byPeer[pair{e.local, e.remote}] {
		if o.established || o.init == (initKey{}) {
			return true
		}
	}
	return m.buried.has(e.remote)
}

// examine makes a post-mortem.
func (m *Manager) examine(e *entry, rule string, why error) *PostMortem {
	v := &e.seen
	p := &PostMortem{
		At: m.cfg.Now(), Local: v.local, Remote: v.remote, Initiator: e.init == (initKey{}), Rule: rule,
		Identity: e.info.RemoteID, Error: clip(why.Error()), Evidence: v.public(), Messages: v.transcript(),
	}
	if !p.Remote.IsValid() {
		p.Local, p.Remote = netip.AddrPortFrom(e.local, PortIKE), netip.AddrPortFrom(e.remote, PortIKE)
	}
	ours, theirs := v.ours, v.theirs
	var n *NegotiationError
	if errors.As(why, &n) {
		p.Step = n.Step
		ours, theirs = n.Ours.over(ours), n.Theirs.over(theirs)
		if n.Identity != "" {
			p.Identity = clip(n.Identity)
		}
	}
	if p.Identity == "" {
		p.Identity = v.identity
	}
	if p.Step == "" {
		p.Step = "none"
		if v.request.sendings > 0 {
			p.Step = v.request.exchange.String()
		}
	}
	p.Cause = v.cause(CauseOf(why))
	p.Ours, p.Theirs = stance(ours), stance(theirs)
	if n != nil && p.Ours == nil && p.Theirs == nil {
		asked, answered := &Stance{Text: clip(n.Offered)}, &Stance{Text: clip(n.Wanted)}
		if !p.Initiator {
			asked, answered = answered, asked
		}
		p.Ours, p.Theirs = asked.orNil(), answered.orNil()
	}
	if p.Cause == CauseNoProposal && len(ours.Proposals) > 0 && len(theirs.Proposals) > 0 {
		p.Differences = boundDifferences(Differences(ours.Proposals, theirs.Proposals))
	}
	var c *pki.CertificateError
	if errors.As(why, &c) {
		p.Certificate = &Validity{Subject: clip(c.Subject), Issuer: clip(c.Issuer), NotBefore: c.NotBefore, NotAfter: c.NotAfter, Now: c.Now}
	}
	p.Change = change(p, n)
	return p
}

// over returns the terms that t says, and u where it says nothing.
func (t Terms) over(u Terms) Terms {
	if len(t.Proposals) == 0 {
		t.Proposals = u.Proposals
	}
	if len(t.Local)+len(t.Remote) == 0 {
		t.Local, t.Remote = u.Local, u.Remote
	}
	if t.Mode == 0 {
		t.Mode = u.Mode
	}
	return t
}

// Bounds of a post-mortem.
const (
	maxProposals   = 16
	maxDifferences = 4
)

func stance(t Terms) *Stance {
	o := &Stance{
		Local:  texts(t.Local[:min(len(t.Local), maxTS)]),
		Remote: texts(t.Remote[:min(len(t.Remote), maxTS)]),
	}
	for _, p := range t.Proposals[:min(len(t.Proposals), maxProposals)] {
		o.Proposals = append(o.Proposals, clip(p.String()))
	}
	if t.Mode != 0 {
		o.Mode = t.Mode.String()
	}
	return o.orNil()
}

func (o *Stance) orNil() *Stance {
	if o.String() == "" {
		return nil
	}
	return o
}

// boundDifferences keeps the smallest differences, at a length that the peer
// does not choose.
func boundDifferences(ds []Difference) []Difference {
	ds = ds[:min(len(ds), maxDifferences)]
	for i := range ds {
		ds[i].Ours, ds[i].Theirs = clip(ds[i].Ours), clip(ds[i].Theirs)
		for j := range ds[i].Types {
			t := &ds[i].Types[j]
			t.Ours, t.Theirs = t.Ours[:min(len(t.Ours), maxProposals)], t.Theirs[:min(len(t.Theirs), maxProposals)]
		}
	}
	return ds
}

// logFailure writes a post-mortem into the log, in a few words and as a group
// with all of it.
func (m *Manager) logFailure(p *PostMortem) {
	level, what := slog.LevelWarn, "IKE negotiation failed"
	switch {
	case p.refused:
		what = "audit: a peer was refused"
	case p.Cause == CauseFault:
		level = slog.LevelError
	}
	m.cfg.Log.Log(context.Background(), level, what, "peer", p.Remote.Addr(), "rule", p.Rule, "cause", p.Cause, "error", p.Error, "post-mortem", p)
}

// refusedHere reports whether it was this host that did not believe the peer.
func refusedHere(p *PostMortem, why error) bool {
	var c *pki.CertificateError
	var a *AuthorizationError
	return errors.As(why, &c) || errors.As(why, &a) || errors.Is(why, ErrWrongKey) || errors.Is(why, ErrNoMethod) ||
		!p.Initiator && errors.Is(why, ErrAuthentication)
}

// LogValue writes the post-mortem as a group, with the keys of its JSON.
func (p *PostMortem) LogValue() slog.Value {
	attrs := []slog.Attr{
		slog.Time("at", p.At), slog.Any("local", p.Local), slog.Any("remote", p.Remote), slog.Bool("initiator", p.Initiator),
		slog.String("step", p.Step), slog.String("identity", p.Identity),
		slog.Group("change", "side", p.Change.Side, "setting", p.Change.Setting, "text", p.Change.Text),
		slog.String("evidence", p.Evidence.String()),
	}
	for _, x := range []struct{ name, text string }{{"ours", p.Ours.String()}, {"theirs", p.Theirs.String()}, {"certificate", p.Certificate.String()}} {
		if x.text != "" {
			attrs = append(attrs, slog.String(x.name, x.text))
		}
	}
	if len(p.Differences) > 0 {
		attrs = append(attrs, slog.Any("differences", p.Differences))
	}
	if len(p.Messages) > 0 {
		attrs = append(attrs, slog.Any("messages", p.Messages))
	}
	return slog.GroupValue(attrs...)
}
