package ike_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ipsecfw/ipsecfw/ipsec/ike/iketest"
)

// TestManagerSeeds runs whole Managers through what seeds make of the network
// and of them, as iketest.Run does with their machines. Their goroutines take
// turns as they like, so that a seed does not always do quite the same thing.
func TestManagerSeeds(t *testing.T) {
	for seed := range uint64(60) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { live(t, seed) })
		})
	}
}

// live is what happens to two hosts.
func live(t *testing.T, seed uint64) {
	r := rand.New(rand.NewPCG(seed, 7))
	net := iketest.NewNetwork(seed, iketest.Faults{})
	ends := [2]*node{start(t, net, addrA, psk(addrB)), start(t, net, addrB, psk(addrA))}
	addrs, names := [2]netip.Addr{addrA, addrB}, []string{"all", "other"}
	for range 10 + r.IntN(20) {
		n := r.IntN(2)
		x := ends[n]
		switch r.IntN(8) {
		case 0:
			net.SetFaults(iketest.Faults{
				Loss: r.Float64() / 2, Duplicate: r.Float64() / 2, Corrupt: r.Float64() / 10,
				Delay: 5 * time.Millisecond, Jitter: time.Duration(r.IntN(2000)+1) * time.Millisecond,
			})
		case 1:
			x.stop()
			synctest.Wait()
			ends[n] = start(t, net, addrs[n], psk(addrs[1-n]))
		case 2:
			for _, sa := range x.sad.Alive() {
				x.RekeyChild(sa.InSPI)
			}
		case 3:
			for _, sa := range x.sad.Alive() {
				x.DeleteChild(sa.InSPI)
			}
		case 4:
			for i, y := range ends { // at the same instant
				y.acquire(addrs[1-i], names[r.IntN(2)])
			}
		default:
			x.acquire(addrs[1-n], names[r.IntN(2)])
		}
		pass(time.Duration(r.IntN(5000)) * time.Millisecond)
	}
	a, b := ends[0], ends[1]
	net.SetFaults(iketest.Faults{Delay: 5 * time.Millisecond})
	for range iketest.Healing / time.Second {
		send(a, b)
		send(b, a)
		pass(time.Second)
	}
	for _, x := range ends {
		for _, name := range names {
			if sends(x, name) == 0 {
				t.Errorf("%s has no SA for %q %s after the network healed: %v", x.addr, name, iketest.Healing, x.sad.Failures())
			}
		}
	}
	pass(2 * time.Minute)
	if n := shared(a, b); n != len(a.sad.Alive()) || n != len(b.sad.Alive()) {
		t.Errorf("%d and %d Child SAs, %d of them shared", len(a.sad.Alive()), len(b.sad.Alive()), n)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if err := a.CloseAll(ctx); err != nil {
		t.Errorf("CloseAll: %v", err)
	}
	if err := b.CloseAll(ctx); err != nil {
		t.Errorf("CloseAll: %v", err)
	}
	if n := len(a.sad.Alive()) + len(b.sad.Alive()) + len(a.Peers()) + len(b.Peers()); n > 0 {
		t.Errorf("%d SAs are left at the end", n)
	}
	a.stop()
	b.stop()
}

// sends returns how many SAs a host has for a rule.
func sends(x *node, name string) (n int) {
	for _, sa := range x.sad.Alive() {
		if sa.Policy == name {
			n++
		}
	}
	return n
}

// send has a host send a packet by each of its SAs, which the other may not
// know, and ask for those that it does not have.
func send(from, to *node) {
	known := make(map[uint32]bool)
	for _, sa := range to.sad.Alive() {
		known[uint32(sa.InSPI)] = true
	}
	for _, sa := range from.sad.Alive() {
		if !known[uint32(sa.OutSPI)] {
			to.UnknownSPI(netip.AddrPortFrom(to.addr, 0), netip.AddrPortFrom(from.addr, 0), sa.OutSPI)
		}
	}
	for _, name := range []string{"all", "other"} {
		if sends(from, name) == 0 {
			from.acquire(to.addr, name)
		}
	}
}
