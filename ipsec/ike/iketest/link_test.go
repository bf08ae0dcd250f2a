package iketest

import (
	"bytes"
	"math/rand/v2"
	"net/netip"
	"testing"
	"time"
)

func TestFate(t *testing.T) {
	for _, tt := range []struct {
		name     string
		f        Faults
		min, max int // copies of a thousand datagrams
	}{
		{"none", Faults{}, 1000, 1000},
		{"all lost", Faults{Loss: 1}, 0, 0},
		{"all twice", Faults{Duplicate: 1}, 2000, 2000},
		{"some lost", Faults{Loss: 0.3}, 600, 800},
		{"delayed", Faults{Delay: time.Second, Jitter: time.Second}, 1000, 1000},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := rand.New(rand.NewPCG(1, 2))
			n := 0
			for range 1000 {
				for _, d := range tt.f.fate(r) {
					n++
					if d < tt.f.Delay || d > tt.f.Delay+tt.f.Jitter {
						t.Fatalf("a delay of %s", d)
					}
				}
			}
			if n < tt.min || n > tt.max {
				t.Errorf("%d copies, want %d to %d", n, tt.min, tt.max)
			}
		})
	}
}

func TestNAT(t *testing.T) {
	inside, outside := netip.MustParseAddrPort("10.0.0.1:500"), netip.MustParseAddr("192.0.2.1")
	n := &NAT{Inside: inside.Addr(), Outside: outside}
	if _, ok := n.in(netip.AddrPortFrom(outside, 20000)); ok {
		t.Error("lets in what nobody asked for")
	}
	seen := n.out(inside)
	if seen.Addr() != outside || n.out(inside) != seen {
		t.Errorf("seen as %s, then as %s", seen, n.out(inside))
	}
	if back, ok := n.in(seen); !ok || back != inside {
		t.Errorf("back to %s, %v", back, ok)
	}
	other := netip.MustParseAddrPort("10.0.0.2:500")
	if n.out(other) != other {
		t.Error("translates another host")
	}
}

func TestSpoil(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	sent := []byte("what was sent")
	flipped, cut := 0, 0
	for range 1000 {
		switch got := (Faults{Corrupt: 0.5}).spoil(r, bytes.Clone(sent)); {
		case len(got) < len(sent):
			cut++
		case !bytes.Equal(got, sent):
			flipped++
		}
	}
	if flipped < 300 || cut < 50 || flipped+cut > 600 {
		t.Errorf("%d with flipped bits and %d cut of 1000, want about half", flipped, cut)
	}
	if got := (Faults{}).spoil(r, sent); !bytes.Equal(got, sent) {
		t.Errorf("without faults %q arrives", got)
	}
}

func TestRebind(t *testing.T) {
	inside := netip.MustParseAddrPort("10.0.0.1:500")
	n := &NAT{Inside: inside.Addr(), Outside: netip.MustParseAddr("192.0.2.1")}
	before := n.out(inside)
	n.Rebind()
	if _, ok := n.in(before); ok {
		t.Error("the port before still leads inside")
	}
	if after := n.out(inside); after == before {
		t.Errorf("the new port is the old one, %s", after)
	}
}
