package main

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/ipsecfw/ipsecfw/filter"
	"github.com/ipsecfw/ipsecfw/filter/packet"
	"github.com/ipsecfw/ipsecfw/rules"
)

// lookups measures the engine's own lookup: in one filter, whose packets come
// again and again, and in all by turns, which no cache holds.
func lookups(_ context.Context, c config, _ *site, t *targets, r *report) error {
	type measured struct {
		spd       *filter.SPD
		one, all  []packet.Packet
		hot, cold []float64
	}
	var ms []*measured
	for _, p := range []*policy{&t.few.policy, &t.many.policy} {
		spd, err := compile(p)
		if err != nil {
			return err
		}
		m := &measured{spd: spd, one: []packet.Packet{p.packet(p.filters / 2)}}
		const stride = 7919 // a prime, so that successive packets are far from each other
		for i := range p.filters {
			m.all = append(m.all, p.packet(i*stride%p.filters))
		}
		ms = append(ms, m)
	}
	for range c.repetitions {
		for _, m := range ms {
			for _, x := range []struct {
				packets []packet.Packet
				into    *[]float64
			}{{m.one, &m.hot}, {m.all, &m.cold}} {
				ns, err := nanoseconds(m.spd, x.packets, c.lookups)
				if err != nil {
					return err
				}
				*x.into = append(*x.into, ns)
			}
		}
	}
	inbound := filter.Context{Direction: filter.Inbound}
	for i, m := range ms {
		n := []int{c.few, c.many}[i]
		r.add(fmt.Sprintf("SPD.Lookup of one flow, %d filters", n), "ns", nil, m.hot...)
		r.add(fmt.Sprintf("SPD.Lookup of all flows by turns, %d filters", n), "ns", nil, m.cold...)
		next := 0
		allocs := testing.AllocsPerRun(1000, func() {
			m.spd.Lookup(inbound, &m.all[next%len(m.all)])
			next++
		})
		r.add(fmt.Sprintf("SPD.Lookup, %d filters", n), "allocations", atMost(wantedAllocs), allocs)
	}
	return nil
}

// nanoseconds returns how long a lookup of packets that are permitted takes.
func nanoseconds(spd *filter.SPD, packets []packet.Packet, n int) (float64, error) {
	inbound := filter.Context{Direction: filter.Inbound}
	start := time.Now()
	for i, next := 0, 0; i < n; i++ {
		if d := spd.Lookup(inbound, &packets[next]); d.Action != filter.Permit || d.Entry == nil {
			return 0, fmt.Errorf("a packet from %s: %s", packets[next].Src, d.Why())
		}
		if next++; next == len(packets) {
			next = 0
		}
	}
	return float64(time.Since(start).Nanoseconds()) / float64(n), nil
}

// compile makes the SPD of a policy.
func compile(p *policy) (*filter.SPD, error) {
	file, err := rules.Parse("bench.yaml", p.ruleFile())
	if err != nil {
		return nil, err
	}
	return filter.New(file.Entries(rules.Addresses{}), filter.Settings{Exemptions: file.Exemptions})
}
