package daemon

import (
	"errors"
	"net/netip"
	"sync"
	"time"

	"github.com/ipsecfw/ipsecfw/filter/nft"
	"github.com/ipsecfw/ipsecfw/ipsec/ike"
)

// softSA is a peer to whom packets of a rule go in clear for a while, because
// it does not speak IKE and the rule allows that (a soft SA).
type softSA struct {
	rule         string
	began, until time.Time
}

// maxSoft bounds the soft SAs: anybody can pretend to be a peer that does not
// answer.
const maxSoft = 4096

// softSAs are the soft SAs by peer.
type softSAs struct {
	mu    sync.Mutex
	peers map[netip.Addr]softSA
}

// all returns those that have not ended.
func (s *softSAs) all() map[netip.Addr]softSA {
	s.mu.Lock()
	defer s.mu.Unlock()
	out, now := map[netip.Addr]softSA{}, time.Now()
	for a, x := range s.peers {
		if now.Before(x.until) {
			out[a] = x
		} else {
			delete(s.peers, a)
		}
	}
	return out
}

// soften lets a rule's packets to a peer go in clear, if the rule allows it,
// the peer speaks no IKE, and it was never secured; ok is false otherwise.
func (j *joint) soften(rule string, remote netip.Addr, why error) (ok bool) {
	n := j.policy.Load().rules[rule]
	if n == nil || !n.AllowUnsecured || !errors.Is(why, ike.ErrNoIKE) {
		return false
	}
	if j.memory.wasSecured(remote) {
		j.log.Warn("audit: a peer that was secured once does not answer, and is not spoken to in clear", "rule", rule, "peer", remote)
		return false
	}
	if len(j.soft.all()) >= maxSoft {
		j.log.Warn("audit: too many peers do not speak IKE: another one is not spoken to in clear", "rule", rule, "peer", remote, "most", maxSoft)
		return false
	}
	j.sets.Lock()
	defer j.sets.Unlock()
	if err := nft.AddSoft(*j.ruleset.Load(), remote, n.SoftLifetime); err != nil {
		j.log.Error("packets to a peer without IKE cannot be let by", "rule", rule, "peer", remote, "error", err)
		return false
	}
	now := time.Now()
	x := softSA{rule, now, now.Add(n.SoftLifetime)}
	j.soft.mu.Lock()
	j.soft.peers[remote] = x
	j.soft.mu.Unlock()
	j.log.Warn("audit: a peer does not speak IKE: packets pass in clear", "rule", rule, "peer", remote, "for", n.SoftLifetime, "reason", why)
	j.engine.Soften(rule, remote, x.until)
	return true
}

// harden ends the soft SA of a peer.
func (j *joint) harden(remote netip.Addr, why string) {
	j.sets.Lock()
	defer j.sets.Unlock()
	j.hardenLocked(remote, why)
}

// hardenLocked is harden for a caller that holds j.sets.
func (j *joint) hardenLocked(remote netip.Addr, why string) {
	j.soft.mu.Lock()
	x, ok := j.soft.peers[remote]
	delete(j.soft.peers, remote)
	j.soft.mu.Unlock()
	if !ok {
		return
	}
	j.engine.Harden(remote)
	if err := nft.RemoveSoft(*j.ruleset.Load(), remote); err != nil {
		j.log.Error("packets to a peer still pass in clear", "rule", x.rule, "peer", remote, "until", x.until, "error", err)
	}
	j.log.Info("audit: soft SA ended", "rule", x.rule, "peer", remote, "reason", why)
}
