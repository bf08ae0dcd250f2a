package ike_test

import (
	"net/netip"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ipsecfw/ipsecfw/ipsec/ike"
	"github.com/ipsecfw/ipsecfw/ipsec/ike/iketest"
	"github.com/ipsecfw/ipsecfw/ipsec/ike/ikev2"
	"github.com/ipsecfw/ipsecfw/ipsec/ike/wire"
)

// hostile builds what an attacker sends: bytes of its own, or messages as
// peers send them with some bytes changed.
type hostile struct {
	data    []byte
	genuine [][]byte
}

func (h *hostile) take(n int) []byte {
	n = min(n, len(h.data))
	b := h.data[:n]
	h.data = h.data[n:]
	return b
}

func (h *hostile) next() int {
	if b := h.take(1); len(b) == 1 {
		return int(b[0])
	}
	return 0
}

func (h *hostile) datagram() []byte {
	which := h.next()
	change := h.take(h.next() % 64)
	if which >= len(h.genuine) {
		return change
	}
	d := slices.Clone(h.genuine[which])
	for ; len(change) >= 2; change = change[2:] {
		d[int(change[0])*7%len(d)] = change[1]
	}
	return d
}

// FuzzManager sends a Manager datagrams from a peer, from strangers and from
// itself. It must not panic, must not send more datagrams than it gets, must
// have forgotten all after a while, and must still serve a peer that means it.
func FuzzManager(f *testing.F) {
	f.Add([]byte{0, 0, 0, 0, 0, 2, 5, 1})
	f.Add([]byte("\xff\x3fno message at all, but what begins like one may well be longer"))
	f.Add([]byte{1, 4, 3, 0x29, 2, 0xff, 0, 2, 0, 1, 0, 3, 2, 0, 1})
	f.Add([]byte{3, 6, 0, 1, 1, 1, 2, 2, 1, 3, 0, 0, 4, 0, 1, 0, 5, 0, 2, 1})
	f.Fuzz(func(t *testing.T, data []byte) {
		synctest.Test(t, func(t *testing.T) {
			net := iketest.NewNetwork(1, iketest.Faults{Delay: time.Millisecond})
			x := start(t, net, addrA, psk(addrB), func(c *ike.ManagerConfig) { c.CookiesFrom, c.HalfOpen = 2, 4 })
			h := &hostile{data: data[:min(len(data), 1024)], genuine: messages(t)}
			from := []netip.AddrPort{
				netip.AddrPortFrom(addrB, 500), netip.AddrPortFrom(addrB, 4500), netip.AddrPortFrom(addrC, 500),
				netip.AddrPortFrom(addrA, 500), netip.MustParseAddrPort("[fe80::1]:500"),
			}
			got := 0
			for len(h.data) > 0 {
				x.HandleDatagram(netip.AddrPortFrom(addrA, 500), from[h.next()%len(from)], h.datagram())
				got++
				pass(time.Duration(h.next()) * time.Millisecond)
			}
			if n := net.Sent(addrA); n > got {
				t.Errorf("%d datagrams in answer to %d", n, got)
			}
			pass(2 * time.Minute)
			if n := len(x.Peers()) + len(x.sad.Alive()); n > 0 {
				t.Errorf("%d IKE SAs and %d Child SAs with nobody", len(x.Peers()), len(x.sad.Alive()))
			}
			y := start(t, net, addrB, psk(addrA))
			y.acquire(addrA, "all")
			pass(5 * time.Second)
			if shared(x, y) != 1 {
				t.Errorf("no SA with a peer that means it: %v", y.sad.Failures())
			}
			x.stop()
			y.stop()
		})
	})
}

// messages returns those of the first exchanges between two machines, and what
// hosts send outside of any IKE SA.
func messages(t *testing.T) [][]byte {
	sim := iketest.NewSim(1, time.Now())
	var out [][]byte
	sim.Mangle = func(_, _ netip.AddrPort, data []byte) []byte {
		out = append(out, data)
		return data
	}
	policy := ike.Policy{Auth: key(secret)}
	children := []ike.ChildPolicy{all("all")}
	a := sim.Add(&iketest.Host{Addr: addrB, Policy: policy, Children: children})
	sim.Add(&iketest.Host{
		Addr: addrA, Policy: policy, Children: children,
		Responder: func(c ike.MachineConfig) ike.Machine { return ikev2.NewResponder(c) },
	})
	if err := a.Do(ikev2.NewInitiator(a.Config(addrA)), ike.Acquire{Child: all("all"), Local: host(addrB), Remote: host(addrA)}); err != nil {
		t.Fatal(err)
	}
	sim.Run(time.Second)
	for _, k := range []wire.NotifyType{wire.InvalidSPI, wire.InvalidIKESPI, wire.Cookie} {
		h := wire.Header{Version: wire.Version2, Exchange: wire.Informational, Initiator: true}
		data, err := wire.Encode(h, []wire.Payload{&wire.Notify{Kind: k, Data: []byte{0, 0, 0x10, 1}}})
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, data)
	}
	return out
}
