package ikev2_test

import (
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/ipsecfw/ipsecfw/ipsec"
	"github.com/ipsecfw/ipsecfw/ipsec/ike"
	"github.com/ipsecfw/ipsecfw/ipsec/ike/wire"
)

func TestRekeyChild(t *testing.T) {
	for _, tt := range []struct {
		name string
		pfs  bool
		a, b time.Duration
	}{
		{"by the initiator", false, 100 * time.Second, 0},
		{"by the responder", false, 0, 100 * time.Second},
		{"with a key exchange", true, 100 * time.Second, 0},
		{"by whichever comes first", false, 100 * time.Second, 100 * time.Second},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(1)
			w.Faults.Delay = 5 * time.Millisecond
			child := web()
			if tt.pfs {
				child.Proposals = []ipsec.Proposal{{Protocol: ipsec.ProtoESP, Transforms: []ipsec.Transform{gcm256, group(ipsec.GroupP256)}}}
			}
			back := mirror(child)
			child.Lifetime, back.Lifetime = tt.a, tt.b
			w.b.Children = []ike.ChildPolicy{back}
			m := initiator(w.a.Config(addrB))
			if err := w.a.Do(m, packet(child)); err != nil {
				t.Fatal(err)
			}
			w.Run(500 * time.Second)
			w.check(t, 1)
			if n := len(w.a.Installed); n < 5 || n > 7 {
				t.Fatalf("%d SAs in five lifetimes", n)
			}
			for i, x := range w.a.Installed[1:] {
				if x.Rekeyed != w.a.Installed[i].SA.InSPI {
					t.Errorf("SA %d replaces %s, want %s", i+1, x.Rekeyed, w.a.Installed[i].SA.InSPI)
				}
				y := w.b.Installed[i+1]
				if x.Standby == y.Standby {
					t.Errorf("standby at both ends: %v", x.Standby)
				}
				if !slices.Equal(x.SA.Local, w.a.Installed[0].SA.Local) || !slices.Equal(x.SA.Remote, w.a.Installed[0].SA.Remote) {
					t.Errorf("selectors changed to %v, %v", x.SA.Local, x.SA.Remote)
				}
			}
		})
	}
}

// TestRekeyCollision rekeys at both ends at the same instant, many times: in
// the end there is one pair, the same at both ends.
func TestRekeyCollision(t *testing.T) {
	met := 0
	for seed := range uint64(20) {
		w := newWorld(seed)
		child := web()
		back := mirror(child)
		child.Lifetime, back.Lifetime = 100*time.Second, 100*time.Second
		w.a.Policy.Liveness, w.b.Policy.Liveness = time.Hour, time.Hour
		w.b.Children = []ike.ChildPolicy{back}
		m := initiator(w.a.Config(addrB))
		if err := w.a.Do(m, packet(child)); err != nil {
			t.Fatal(err)
		}
		w.Run(80 * time.Second)
		w.check(t, 1)
		w.Faults.Delay = 4 * time.Second // so long that both may begin before they hear of each other
		w.Run(30 * time.Second)
		if len(w.a.Installed) > 2 && len(w.b.Installed) > 2 {
			met++
		}
		w.Faults.Delay = 0
		w.Run(40 * time.Second)
		if len(w.a.Alive()) != 1 || len(w.b.Alive()) != 1 {
			t.Fatalf("seed %d: %d and %d Child SAs are left: %v %v", seed, len(w.a.Alive()), len(w.b.Alive()), w.a.Failed, w.b.Failed)
		}
		x := w.a.Installed[slices.IndexFunc(w.a.Installed, func(i ike.InstallChild) bool { return i.SA.InSPI == w.a.Alive()[0] })]
		y := w.b.Installed[slices.IndexFunc(w.b.Installed, func(i ike.InstallChild) bool { return i.SA.InSPI == w.b.Alive()[0] })]
		checkPair(t, x, y)
	}
	if met < 5 {
		t.Errorf("only %d of 20 met", met)
	}
}

// TestLifetimeEnds has a peer that refuses to rekey.
func TestLifetimeEnds(t *testing.T) {
	w := newWorld(1)
	child := web()
	child.Lifetime = 100 * time.Second
	m := initiator(w.a.Config(addrB))
	if err := w.a.Do(m, packet(child)); err != nil {
		t.Fatal(err)
	}
	w.Run(time.Second)
	w.Mangle = func(from, _ netip.AddrPort, data []byte) []byte {
		if h, err := wire.ParseHeader(data); err == nil && h.Exchange == wire.CreateChildSA {
			return nil
		}
		return data
	}
	w.Run(110 * time.Second)
	if n := len(w.a.Alive()); n != 0 {
		t.Errorf("%d Child SAs after the end of their life", n)
	}
}

func TestRekeyIKE(t *testing.T) {
	for _, tt := range []struct {
		name string
		a, b time.Duration
		loss float64
	}{
		{"by the initiator", 100 * time.Second, 0, 0},
		{"by the responder", 0, 100 * time.Second, 0},
		{"by both", 100 * time.Second, 100 * time.Second, 0},
		{"under loss", 100 * time.Second, 100 * time.Second, 0.1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(1)
			w.Faults.Delay = 100 * time.Millisecond
			w.a.Policy.Lifetime, w.b.Policy.Lifetime = tt.a, tt.b
			m := w.mustConnect(t)
			w.Faults.Loss = tt.loss
			w.Run(350 * time.Second)
			w.Faults.Loss = 0
			w.Run(30 * time.Second)
			w.check(t, 1)
			if n := len(w.a.Changed); n < 3 || len(w.b.Changed) != n {
				t.Errorf("rekeyed %d times at a and %d at b, want 3 or more", n, len(w.b.Changed))
			}
			p, q := w.a.Changed[len(w.a.Changed)-1].Peer, w.b.Changed[len(w.b.Changed)-1].Peer
			if p.SPIi != q.SPIi || p.SPIr != q.SPIr || p.SPIi == w.a.Established[0].Peer.SPIi {
				t.Errorf("SPIs %x/%x and %x/%x", p.SPIi, p.SPIr, q.SPIi, q.SPIr)
			}
			// The new IKE SA works, in both directions.
			if err := w.a.Do(m, packet(web())); err != nil {
				t.Fatal(err)
			}
			if err := w.b.Do(w.b.Machines[0], ike.DeleteChild{InSPI: w.b.Alive()[0]}); err != nil {
				t.Fatal(err)
			}
			w.Run(time.Second)
			w.check(t, 1)
		})
	}
}

// TestRekeyIKECollision rekeys the IKE SA at both ends at the same instant.
func TestRekeyIKECollision(t *testing.T) {
	for seed := range uint64(10) {
		w := newWorld(seed)
		w.a.Policy.Lifetime, w.b.Policy.Lifetime = 100*time.Second, 100*time.Second
		w.a.Policy.Liveness, w.b.Policy.Liveness = time.Hour, time.Hour
		m := w.mustConnect(t)
		w.Run(75 * time.Second)
		w.Faults.Delay = 12 * time.Second
		w.Run(28 * time.Second)
		w.Faults.Delay = 10 * time.Millisecond
		w.Run(40 * time.Second)
		w.check(t, 1)
		if len(w.a.Changed) != 1 || len(w.b.Changed) != 1 {
			t.Errorf("seed %d: rekeyed %d times at a and %d at b, want once", seed, len(w.a.Changed), len(w.b.Changed))
		}
		if err := w.a.Do(m, packet(web())); err != nil {
			t.Fatal(err)
		}
		w.Run(time.Second)
		w.check(t, 2)
	}
}
