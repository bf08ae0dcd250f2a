package daemon

import (
	"context"
	"slices"
	"time"

	"github.com/ipsecfw/ipsecfw/ipsec"
	"github.com/ipsecfw/ipsecfw/nfq"
	"github.com/ipsecfw/ipsecfw/rules"
)

// lifetimesEvery is how often SAs are compared with their lifetimes. Those in
// bytes and packets the SAs keep themselves, to the byte: they tell of what is
// near its end, which at a gigabit per second is over in a moment.
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
		case spi := <-pl.aged:
			if sa := pl.engine.SAD().Inbound(spi); sa != nil {
				pl.age(sa, time.Now())
			}
		}
	}
}

func (pl *plant) age(sa *nfq.SA, now time.Time) {
	n := pl.policy.Load().rules[sa.Policy]
	if n == nil {
		return
	}
	life := n.lifetimeOf(sa.ChildSA)
	switch used(life, softOf(life, sa.ChildSA), carried(sa), now.Sub(sa.Since)) {
	case usedUp:
		pl.manager.DeleteChild(sa.InSPI)
		pl.Remove(sa.InSPI, "its lifetime is over", false)
	case nearlyUsed:
		pl.manager.RekeyChild(sa.InSPI)
	}
}

// lifetimeOf returns the lifetime of the method that an SA was made by.
func (n *negotiation) lifetimeOf(sa *ipsec.ChildSA) rules.Lifetime {
	proposals, lifetimes := n.Proposals, n.Lifetimes
	if sa.Protocol == ipsec.ProtoAH && n.Around != nil {
		proposals = n.Around
	}
	for i, p := range proposals {
		has := func(t ipsec.Transform) bool { return t == ipsec.Transform{} || slices.Contains(p.Transforms, t) }
		if p.Protocol == sa.Protocol && has(sa.Encr) && has(sa.Integ) {
			return lifetimes[i]
		}
	}
	return rules.Lifetime{Time: n.Lifetime, Bytes: n.LifetimeBytes, Packets: n.LifetimePackets}
}

// carried is how much an SA has carried in the direction that carried more.
func carried(sa *nfq.SA) ipsec.Counters {
	in, out := sa.In.Counters(), sa.Out.Counters()
	return ipsec.Counters{
		Bytes: max(in.Bytes, out.Bytes), Packets: max(in.Packets, out.Packets), Over: in.Over || out.Over,
	}
}

// use is how much of a lifetime is over.
type use uint8

const (
	fresh use = iota
	nearlyUsed
	usedUp
)

// used compares an SA with its lifetime, and with the part of it after which it
// is replaced: the rest is for that. It is used up too when one packet more would
// be more than its lifetime.
func used(life, soft rules.Lifetime, n ipsec.Counters, age time.Duration) use {
	reached := func(l rules.Lifetime) bool {
		return l.Bytes > 0 && n.Bytes >= l.Bytes || l.Packets > 0 && n.Packets >= l.Packets || l.Time > 0 && age >= l.Time
	}
	switch {
	case reached(life), n.Over:
		return usedUp
	case reached(soft):
		return nearlyUsed
	}
	return fresh
}
