package daemon

import (
	"context"
	"slices"
	"time"

	"github.com/ipsecfw/ipsecfw/ipsec"
	"github.com/ipsecfw/ipsecfw/ipsec/esp"
	"github.com/ipsecfw/ipsecfw/nfq"
	"github.com/ipsecfw/ipsecfw/rules"
)

// lifetimesEvery is how often SAs are compared with their lifetimes in bytes.
const lifetimesEvery = time.Second

// lifetimes replaces SAs that have carried, or lived, nearly as much as their
// method allows, and removes those that have done all of it.
func (pl *plant) lifetimes(ctx context.Context) error {
	t := time.NewTicker(lifetimesEvery)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case now := <-t.C:
			for _, sa := range pl.engine.SAD().All() {
				pl.age(sa, now)
			}
		}
	}
}

func (pl *plant) age(sa *nfq.SA, now time.Time) {
	n := pl.policy.Load().rules[sa.Policy]
	if n == nil {
		return
	}
	switch used(n.lifetimeOf(sa.ChildSA), carried(sa), now.Sub(sa.Since)) {
	case usedUp:
		pl.manager.DeleteChild(sa.InSPI)
		pl.Remove(sa.InSPI, "its lifetime is over", false)
	case nearlyUsed:
		pl.manager.RekeyChild(sa.InSPI)
	}
}

// lifetimeOf returns the lifetime of the method that an SA was made by.
func (n *negotiation) lifetimeOf(sa *ipsec.ChildSA) rules.Lifetime {
	for i, p := range n.Proposals {
		has := func(t ipsec.Transform) bool { return t == ipsec.Transform{} || slices.Contains(p.Transforms, t) }
		if has(sa.Encr) && has(sa.Integ) {
			return n.Lifetimes[i]
		}
	}
	return rules.Lifetime{Time: n.Lifetime, Bytes: n.LifetimeBytes}
}

// carried is how many bytes an SA has carried in the direction that carried
// more.
func carried(sa *nfq.SA) uint64 {
	var in, out uint64
	if x, ok := sa.In.(*esp.Inbound); ok {
		in = x.Counters().Bytes
	}
	if x, ok := sa.Out.(*esp.Outbound); ok {
		out = x.Counters().Bytes
	}
	return max(in, out)
}

// use is how much of a lifetime is over.
type use uint8

const (
	fresh use = iota
	nearlyUsed
	usedUp
)

// used compares an SA with its lifetime. The last fifth is for the rekeying.
func used(life rules.Lifetime, bytes uint64, age time.Duration) use {
	switch {
	case life.Bytes > 0 && bytes >= life.Bytes, life.Time > 0 && age >= life.Time:
		return usedUp
	case life.Bytes > 0 && bytes >= life.Bytes-life.Bytes/5, life.Time > 0 && age >= life.Time-life.Time/5:
		return nearlyUsed
	}
	return fresh
}
