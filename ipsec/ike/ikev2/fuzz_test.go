package ikev2_test

import (
	"net/netip"
	"testing"
	"time"

	"github.com/ipsecfw/ipsecfw/ipsec/ike"
	"github.com/ipsecfw/ipsecfw/ipsec/ike/iketest"
	"github.com/ipsecfw/ipsecfw/ipsec/ike/wire"
)

// FuzzMachine is an attacker who sees everything and can add to it, but not
// take anything away: at a moment of its choice it sends both ends bytes of
// its own, or one of their own messages with some bytes changed. Nothing of it
// may panic, install an SA, or keep the ends from what they were about to do.
//
// The one thing that it can do, and that no protection could prevent before
// there are keys, is to answer IKE_SA_INIT in the peer's place; messages that
// do so are left out.
func FuzzMachine(f *testing.F) {
	f.Add(uint8(0), uint8(0), []byte{})
	f.Add(uint8(1), uint8(1), []byte{18, 0xff, 19, 0x20})
	f.Add(uint8(2), uint8(2), []byte{40, 1, 41, 2, 60, 0xff})
	f.Add(uint8(3), uint8(3), []byte{19, 0x28, 23, 1})
	f.Add(uint8(4), uint8(9), []byte("not a message at all, but twenty-eight bytes and more"))
	f.Fuzz(func(t *testing.T, when, which uint8, change []byte) {
		w := newWorld(1)
		w.Faults.Delay = time.Millisecond
		m := initiator(w.a.Config(addrB))
		if err := w.a.Do(m, packet(web())); err != nil {
			t.Fatal(err)
		}
		w.Run(time.Duration(when%8) * 700 * time.Microsecond)
		attack(w, which, change)
		w.Run(40 * time.Second)
		if err := w.a.Do(m, packet(web())); err != nil {
			t.Fatal(err)
		}
		w.Run(time.Millisecond)
		attack(w, which, change)
		w.Run(40 * time.Second)
		if len(w.a.Alive()) != 2 || len(w.b.Alive()) != 2 {
			t.Fatalf("%d and %d Child SAs, want 2: %v %v", len(w.a.Alive()), len(w.b.Alive()), w.a.Failed, w.b.Failed)
		}
		w.a.Failed, w.b.Failed = nil, nil // of what the attacker began itself
		w.check(t, 2)
	})
}

// attack sends a forged message to both ends.
func attack(w *world, which uint8, change []byte) {
	var said []ike.Send
	for _, h := range []*iketest.Host{w.a, w.b} {
		said = append(said, h.Sent...)
	}
	data := append([]byte(nil), change...)
	if int(which) < len(said) {
		data = append([]byte(nil), said[which].Data...)
		for ; len(change) >= 2; change = change[2:] {
			data[int(change[0])%len(data)] = change[1]
		}
	}
	if h, err := wire.ParseHeader(data); err == nil && h.Exchange == wire.IKESAInit && (h.Response || h.SPIi == spiOf(w)) {
		return
	}
	a, b := netip.AddrPortFrom(addrA, 500), netip.AddrPortFrom(addrB, 500)
	w.Send(a, b, data)
	w.Send(b, a, data)
}

// spiOf returns the SPI of a's first message.
func spiOf(w *world) uint64 {
	h, err := wire.ParseHeader(w.a.Sent[0].Data)
	if err != nil {
		return 0
	}
	return h.SPIi
}
