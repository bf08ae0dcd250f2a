package ike

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"time"

	"github.com/ipsecfw/ipsecfw/ipsec"
	"github.com/ipsecfw/ipsecfw/ipsec/pki"
)

// PostMortems returns what is known of the last negotiations that did not
// succeed, the latest first: those with one peer, or with all for the zero
// address. A peer has four of them at most.
func (m *Manager) PostMortems(remote netip.Addr) []PostMortem {
	var out []PostMortem
	m.call(context.Background(), func() {
		out = m.buried.of(func(p *PostMortem) bool { return !remote.IsValid() || p.Remote.Addr() == remote.Unmap() })
		for i := range out {
			out[i].Standing = m.standing(&out[i])
		}
	})
	return out
}

// standing returns since when there is an SA of the kind that a failure was
// about: of the rule, if it was about a Child SA alone, and else the IKE SA.
func (m *Manager) standing(p *PostMortem) *time.Time {
	var since time.Time
	for _, e := range m.byPeer[pair{p.Local.Addr(), p.Remote.Addr()}] {
		switch {
		case !e.established || e.closing:
		case !p.forChild():
			since = later(since, e.info.Since)
		default:
			for _, c := range e.children {
				if p.Rule == "" || c.Policy == p.Rule {
					since = later(since, c.Since)
				}
			}
		}
	}
	if since.IsZero() {
		return nil
	}
	return &since
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
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
		Identity: e.info.RemoteID, Error: clip(brief(why)), Evidence: v.public(errors.Is(why, ErrNoAnswer)), Messages: v.transcript(),
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
	switch {
	case p.Step != "":
	case !p.Initiator && !e.established:
		p.Step = authStep // for which this host waited
	default:
		p.Step = "none"
		if v.request.sendings > 0 {
			p.Step = v.request.exchange.String()
		}
	}
	p.Cause, p.setting, p.whole = v.cause(CauseOf(why)), settingOf(why), e.policy.FragmentSize < 0
	if !p.Initiator && p.Cause == CauseSelectors {
		if m.consider(e, &ours, theirs); ours.Mode != 0 && theirs.Mode != 0 && ours.Mode != theirs.Mode {
			p.Cause, n = CauseMode, nil
			p.Error = fmt.Sprintf("%v: the peer asks for %s mode, and this host has %s mode for that", ErrMode, theirs.Mode, ours.Mode)
		}
	}
	p.Ours, p.Theirs = stance(ours), stance(theirs)
	if n != nil && p.Ours == nil && p.Theirs == nil {
		asked, answered := &Stance{Text: clip(n.Offered)}, &Stance{Text: clip(n.Wanted)}
		if !p.Initiator {
			asked, answered = answered, asked
		}
		p.Ours, p.Theirs = asked.orNil(), answered.orNil()
	}
	if p.Cause == CauseNoProposal && p.Initiator && len(theirs.Proposals) == 0 {
		p.suites[0] = suiteOf(ours.Proposals)
	}
	if p.Cause == CauseNoProposal && len(ours.Proposals) > 0 && len(theirs.Proposals) > 0 {
		p.suites = suitesOf(ours.Proposals, theirs.Proposals)
		p.Differences = boundDifferences(Differences(ours.Proposals, theirs.Proposals))
	}
	var c *pki.CertificateError
	if errors.As(why, &c) {
		p.Certificate = &Validity{Subject: clip(c.Subject), Issuer: clip(c.Issuer), NotBefore: c.NotBefore, NotAfter: c.NotAfter, Now: c.Now}
	}
	p.Change = change(p, n)
	return p
}

// consider fills in what this host would have taken where no rule covers what
// a peer asked for: what its rules for the peer are, in the mode that was asked
// for, or else in the other, if that would have covered it.
func (m *Manager) consider(e *entry, ours *Terms, theirs Terms) {
	if ours.Mode != 0 || len(ours.Local)+len(ours.Remote) > 0 || theirs.Mode == 0 {
		return
	}
	rules := func(transport bool) []ChildPolicy {
		return m.cfg.Policies.Child(e.local, e.remote, theirs.Local, theirs.Remote, transport)
	}
	asked := theirs.Mode == ipsec.Transport
	for _, c := range rules(!asked) {
		if c.Mode != theirs.Mode && meet(c.Local, theirs.Local) && meet(c.Remote, theirs.Remote) {
			*ours = Terms{Local: c.Local, Remote: c.Remote, Mode: c.Mode}
			return
		}
	}
	for _, c := range rules(asked) {
		if c.Mode == theirs.Mode && len(ours.Local) < maxTS {
			ours.Local, ours.Remote, ours.Mode = append(ours.Local, c.Local...), append(ours.Remote, c.Remote...), c.Mode
		}
	}
}

// meet reports whether some packets are of both selectors.
func meet(a, b []ipsec.TrafficSelector) bool {
	return slices.ContainsFunc(a, func(t ipsec.TrafficSelector) bool {
		return slices.ContainsFunc(b, func(u ipsec.TrafficSelector) bool {
			_, ok := t.Intersect(u)
			return ok
		})
	})
}

// suitesOf returns the suites that proposals of both ends are, if that is what
// differs.
func suitesOf(ours, theirs []ipsec.Proposal) [2]string {
	s := [2]string{suiteOf(ours), suiteOf(theirs)}
	if s[0] == "" || s[1] == "" || s[0] == s[1] {
		return [2]string{}
	}
	return s
}

// settingOf returns the setting that an error names; or an empty one.
func settingOf(why error) string {
	var a *AuthorizationError
	switch {
	case errors.As(why, &a):
		return a.Setting
	case errors.Is(why, errUnknownKey):
		return settingRawKeys
	case errors.Is(why, pki.ErrNoStatus):
		return settingCRL
	}
	return ""
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

// logFailure writes the gist of a post-mortem into the log. PostMortems has the
// whole.
func (m *Manager) logFailure(p *PostMortem) {
	level, what := slog.LevelWarn, "IKE negotiation failed"
	switch {
	case p.refused:
		what = "audit: a peer was refused"
	case p.Cause == CauseFault:
		level = slog.LevelError
	}
	m.cfg.Log.Log(context.Background(), level, what, "cause", p.Cause, "error", cut(p.Error, maxLogged),
		"step", p.Step, "peer", p.Remote.Addr(), "identity", p.Identity, "rule", p.Rule, "side", p.Change.Side, "setting", p.Change.Setting, "advice", p.Change.Text)
}

// refusedHere reports whether it was this host that did not believe the peer.
func refusedHere(p *PostMortem, why error) bool {
	var c *pki.CertificateError
	var a *AuthorizationError
	return errors.As(why, &c) || errors.As(why, &a) || errors.Is(why, ErrWrongKey) || errors.Is(why, ErrNoMethod) ||
		!p.Initiator && errors.Is(why, ErrAuthentication)
}

// maxLogged bounds the error in a line of the log, in bytes.
const maxLogged = 400

// brief is an error without the terms of both ends, which a post-mortem has
// beside it.
func brief(why error) string {
	if n, ok := why.(*NegotiationError); ok && n.Err != nil {
		return n.Step + " with " + n.Peer + ": " + n.Err.Error()
	}
	return why.Error()
}

// warnPPK tells of an IKE SA without a post-quantum preshared key where this
// host has some for the peer.
func (m *Manager) warnPPK(e *entry) {
	if len(e.policy.PPKs) == 0 || e.info.PPK != "" {
		return
	}
	var ids []string
	for _, k := range e.policy.PPKs {
		ids = append(ids, k.ID)
	}
	m.cfg.Log.Warn("no ppk in common with the peer: the IKE SA is without one", "peer", e.info.Remote, "identity", e.info.RemoteID, "ours", ids)
}

// warnRevocation tells of a peer that is believed though nobody could say
// whether its certificates were revoked, each time that it has authenticated.
func (m *Manager) warnRevocation(e *entry) {
	if why := e.info.Unchecked; why != "" {
		m.cfg.Log.Warn("audit: a peer is believed whose certificates may have been revoked", "peer", e.info.Remote, "identity", e.info.RemoteID, "error", cut(why, maxLogged),
			"setting", settings[CauseRevocationUnknown], "advice", "let this host reach the authority's CRL or OCSP responder, or name a crl; strict refuses such peers, off asks nobody")
	}
}
