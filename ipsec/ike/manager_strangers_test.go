package ike

import (
	"net/netip"
	"testing"
	"time"

	"github.com/ipsecfw/ipsecfw/ipsec"
	"github.com/ipsecfw/ipsecfw/ipsec/ike/wire"
)

// stranger has a peer begin an IKE SA with a group, and return the cookie if it
// is asked for one. It reports whether it was.
func (f *flooded) stranger(t *testing.T, spi uint64, a netip.Addr, group uint16) (asked bool) {
	t.Helper()
	local, remote := netip.AddrPortFrom(here, 500), netip.AddrPortFrom(a, 500)
	say := func(ps ...wire.Payload) []byte {
		ps = append(ps, &wire.KE{Group: group, Data: make([]byte, 32)}, &wire.Nonce{Data: make([]byte, 32)})
		data, err := wire.Encode(wire.Header{SPIi: spi, Version: wire.Version2, Exchange: wire.IKESAInit, Initiator: true}, ps)
		if err != nil {
			t.Fatal(err)
		}
		f.HandleDatagram(local, remote, data)
		f.empty()
		return data
	}
	first := say()
	if f.byInit[initKey{remote, spi}] != nil {
		return false
	}
	_, answer, err := f.cookies.Check(f.now, remote, first)
	if err != nil {
		t.Fatal(err)
	}
	_, ps, err := wire.Decode(answer)
	if err != nil {
		t.Fatal(err)
	}
	n, _ := wire.FindNotify(ps, wire.Cookie)
	say(n)
	return true
}

// A few hosts that begin and never end cannot keep all others out: the oldest
// of where most come from make room.
func TestManagerMakesRoom(t *testing.T) {
	f := newFlooded()
	f.cfg.HalfOpen = 64 // 16 of each block
	f.cfg.Responder = func(MachineConfig) Machine { return closer{} }
	spi := uint64(0)
	begin := func(a netip.Addr) *entry {
		spi++
		f.stranger(t, spi, a, ipsec.GroupX25519)
		return f.byInit[initKey{netip.AddrPortFrom(a, 500), spi}]
	}
	honest := begin(peer(0x500))
	var first *entry
	for round := range 3 {
		for host := range 4 { // each of a block of its own
			for range 16 {
				if e := begin(peer(host << 8)); e != nil && first == nil {
					first = e
				}
			}
		}
		if f.halfOpen != f.cfg.HalfOpen || len(f.entries) != f.halfOpen {
			t.Fatalf("round %d: %d half-open, %d in all, want %d", round, f.halfOpen, len(f.entries), f.cfg.HalfOpen)
		}
	}
	if _, alive := f.entries[first]; alive {
		t.Error("it is not the oldest that went")
	}
	other := begin(peer(0x600))
	if other == nil {
		t.Error("another host is kept out")
	}
	if _, alive := f.entries[honest]; !alive {
		t.Error("it is not one of the blocks with most that went")
	}
	if f.halfOpen != f.cfg.HalfOpen {
		t.Errorf("%d half-open, want %d", f.halfOpen, f.cfg.HalfOpen)
	}
}

// A key exchange that takes long is for nobody who may have made up an address.
func TestManagerCostlyNeedsCookie(t *testing.T) {
	for _, x := range ipsec.Transforms(ipsec.ProtoIKE, ipsec.TypeGroup) {
		f := newFlooded()
		f.cfg.Responder = func(MachineConfig) Machine { return closer{} }
		if asked := f.stranger(t, 1, peer(1), x.ID); asked != Costly(x.ID) || len(f.entries) != 1 {
			t.Errorf("%s: asked for a cookie: %v, %d IKE SAs", x, asked, len(f.entries))
		}
	}
}

// Peers that have proved nothing have few IKE SAs, each and all together, and
// take none from those that have.
func TestManagerAnonymousBound(t *testing.T) {
	f := newFlooded()
	stand := func(a netip.Addr, p PeerInfo) *entry {
		e := f.newEntry(here, a, Policy{})
		e.machine = closer{}
		f.Manager.count(e, 1)
		f.establish(e, Established{Peer: p})
		return e
	}
	alive := func(e *entry) bool { _, ok := f.entries[e]; return ok }
	known := stand(peer(0), PeerInfo{})
	var first []*entry
	for range maxPerNobody + 1 {
		first = append(first, stand(peer(0), PeerInfo{Anonymous: true}))
	}
	if alive(first[0]) || !alive(first[1]) || !alive(known) || len(f.nobodies) != maxPerNobody {
		t.Errorf("%d of one peer", len(f.nobodies))
	}
	for i := range maxNobodies - maxPerNobody {
		stand(peer(i+1), PeerInfo{Anonymous: true})
	}
	if !alive(first[1]) || len(f.nobodies) != maxNobodies {
		t.Fatalf("%d in all", len(f.nobodies))
	}
	stand(peer(maxNobodies), PeerInfo{Anonymous: true})
	if alive(first[1]) || !alive(first[2]) || !alive(known) || len(f.nobodies) != maxNobodies || len(f.entries) != maxNobodies+1 {
		t.Errorf("%d in all, %d IKE SAs", len(f.nobodies), len(f.entries))
	}
}

// An SPI that a machine gives back leads nowhere, and no other's does.
func TestManagerFreesSPIs(t *testing.T) {
	f := newFlooded()
	one, two := f.newEntry(here, peer(1), Policy{}), f.newEntry(here, peer(2), Policy{})
	a, b, c := f.newIKESPI(one), f.newIKESPI(one), f.newIKESPI(two)
	free := f.machineConfig(one, netip.AddrPort{}, netip.AddrPort{}, Policy{}).FreeIKESPI
	free(a)
	free(c)
	free(a)
	if f.bySPI[a] != nil || f.bySPI[b] != one || f.bySPI[c] != two || len(one.spis) != 1 || len(two.spis) != 1 {
		t.Errorf("SPIs %v, %v and %v", one.spis, two.spis, f.bySPI)
	}
}

// sayable is policies with these algorithms.
type sayable struct {
	*flooded
	proposals []ipsec.Proposal
}

func (s sayable) Peer(_, _ netip.Addr) (Policy, bool) { return Policy{Proposals: s.proposals}, true }

// An IKE SA that was rekeyed to what the policy has ceased to allow ends.
func TestManagerRekeyedToOtherAlgorithms(t *testing.T) {
	for _, tt := range []struct {
		name  string
		fresh ipsec.Proposal
		lives bool
	}{
		{"allowed", ikeP(gcm, prf, x25519), true},
		{"not allowed", ikeP(tripleDES, hmacSHA1, prfSHA1, modp1024), false},
	} {
		f := newFlooded()
		f.cfg.Policies = sayable{f, []ipsec.Proposal{ikeP(gcm, prf, x25519)}}
		e := f.newEntry(here, peer(1), Policy{})
		e.machine = closer{}
		f.Manager.count(e, 1)
		f.establish(e, Established{Peer: PeerInfo{Proposal: ikeP(gcm, prf, x25519), Since: time.Unix(1e9, 0)}})
		f.carryOut(e, Changed{Peer: PeerInfo{Proposal: tt.fresh}})
		f.empty()
		if _, alive := f.entries[e]; alive != tt.lives {
			t.Errorf("%s: alive %v", tt.name, alive)
		}
	}
}
