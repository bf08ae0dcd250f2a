package ikev2

import (
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/ipsecfw/ipsecfw/ipsec"
	"github.com/ipsecfw/ipsecfw/ipsec/ike"
	"github.com/ipsecfw/ipsecfw/ipsec/ike/iketest"
	"github.com/ipsecfw/ipsecfw/ipsec/xform"
)

// rogue changes one of the messages that it seals, from inside.
type rogue struct {
	xform.IKECipher
	nth    *int
	change []byte
}

func (r rogue) Seal(dst, aad, plaintext []byte) ([]byte, error) {
	if *r.nth--; *r.nth == 0 && len(plaintext) > 0 {
		plaintext = slices.Clone(plaintext)
		for c := r.change; len(c) >= 2; c = c[2:] {
			plaintext[int(c[0])%len(plaintext)] = c[1]
		}
	}
	return r.IKECipher.Seal(dst, aad, plaintext)
}

// FuzzPeer has a peer that holds the keys and does not keep to the rules: one
// of its protected messages has some bytes changed before it is sealed. The
// other end must not panic, and must not hold an SA outside of its policy.
func FuzzPeer(f *testing.F) {
	f.Add(uint8(1), false, []byte{4, 0xff})
	f.Add(uint8(1), true, []byte{0, 41, 30, 0})
	f.Add(uint8(2), false, []byte{7, 4, 8, 1, 9, 3})
	f.Add(uint8(2), true, []byte{2, 0xff, 3, 0xff})
	f.Add(uint8(3), false, []byte{0, 0})
	f.Add(uint8(4), true, []byte{16, 9})
	f.Fuzz(func(t *testing.T, nth uint8, responds bool, change []byte) {
		var (
			a, b  = netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("10.0.0.2")
			hosts = ipsec.SelectPrefix(netip.MustParsePrefix("10.0.0.0/24"), 6, 0, 0xffff)
			child = ike.ChildPolicy{
				Name: "all", Mode: ipsec.Tunnel, Lifetime: 100 * time.Second,
				Proposals: []ipsec.Proposal{{Protocol: ipsec.ProtoESP, Transforms: []ipsec.Transform{
					{Type: ipsec.TypeEncr, ID: ipsec.EncrAESGCM16, KeyBits: 256}, {Type: ipsec.TypeGroup, ID: ipsec.GroupX25519},
				}}},
				Local: []ipsec.TrafficSelector{hosts}, Remote: []ipsec.TrafficSelector{hosts},
			}
			policy = ike.Policy{Auth: []ike.AuthMethod{ike.PresharedKey{Secret: []byte("key")}}, Lifetime: 150 * time.Second}
			left   = int(nth%16) + 1
			evil   = a
		)
		if responds {
			evil = b
		}
		sim := iketest.NewSim(1, time.Unix(1e9, 0))
		sim.Faults.Delay = time.Millisecond
		corrupt := func(h *iketest.Host) {
			for _, m := range h.Machines {
				s := m.(*SA)
				if s.cur == nil || s.cur.out == nil {
					continue
				}
				if _, done := s.cur.out.(rogue); !done {
					s.cur.out = rogue{s.cur.out, &left, change}
				}
			}
		}
		var ends []*iketest.Host
		for _, addr := range []netip.Addr{a, b} {
			ends = append(ends, sim.Add(&iketest.Host{
				Addr: addr, Policy: policy, Children: []ike.ChildPolicy{child},
				Responder: func(c ike.MachineConfig) ike.Machine { return NewResponder(c) },
			}))
		}
		one := func(x netip.Addr) ipsec.TrafficSelector {
			return ipsec.SelectPrefix(netip.PrefixFrom(x, 32), 6, 0, 0xffff)
		}
		m := NewInitiator(ends[0].Config(b))
		for range 2 {
			// A machine that has closed refuses, which is well.
			_ = ends[0].Do(m, ike.Acquire{Child: child, Local: one(a), Remote: one(b)})
		}
		for range 400 {
			for _, h := range ends {
				if h.Addr == evil {
					corrupt(h)
				}
			}
			sim.Run(500 * time.Microsecond)
		}
		for range 40 {
			for _, h := range ends {
				if h.Addr == evil {
					corrupt(h)
				}
			}
			sim.Run(5 * time.Second)
		}
		for _, h := range ends {
			if h.Addr == evil {
				continue
			}
			for _, i := range h.Installed {
				for _, s := range slices.Concat(i.SA.Local, i.SA.Remote) {
					if !hosts.Contains(s) {
						t.Errorf("%s installed the selector %s", h.Addr, s)
					}
				}
				if i.SA.OutSPI < 256 || i.SA.Mode != ipsec.Tunnel || !i.SA.Encr.AEAD() {
					t.Errorf("%s installed %+v", h.Addr, i.SA)
				}
			}
		}
	})
}
