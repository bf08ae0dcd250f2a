package ikev2_test

import (
	"bytes"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/ipsecfw/ipsecfw/ipsec"
	"github.com/ipsecfw/ipsecfw/ipsec/ike"
	"github.com/ipsecfw/ipsecfw/ipsec/ike/iketest"
	"github.com/ipsecfw/ipsecfw/ipsec/ike/ikev2"
)

var (
	addrA = netip.MustParseAddr("10.0.0.1")
	addrB = netip.MustParseAddr("10.0.0.2")
	epoch = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
)

// anyPort returns the selector of all of a prefix's packets of a protocol.
func anyPort(prefix string, protocol uint8) ipsec.TrafficSelector {
	return ipsec.SelectPrefix(netip.MustParsePrefix(prefix), protocol, 0, 0xffff)
}

func espProposals() []ipsec.Proposal {
	return []ipsec.Proposal{
		{Protocol: ipsec.ProtoESP, Transforms: []ipsec.Transform{{Type: ipsec.TypeEncr, ID: ipsec.EncrAESGCM16, KeyBits: 256}}},
		{Protocol: ipsec.ProtoESP, Transforms: []ipsec.Transform{{Type: ipsec.TypeEncr, ID: ipsec.EncrChaCha20Poly1305}}},
	}
}

// web is the server's port 8443 from the workstation's point of view.
func web() ike.ChildPolicy {
	return ike.ChildPolicy{
		Name: "web", Mode: ipsec.Transport, Proposals: espProposals(),
		Local:  []ipsec.TrafficSelector{anyPort("10.0.0.0/24", 6)},
		Remote: []ipsec.TrafficSelector{ipsec.SelectPrefix(netip.MustParsePrefix("10.0.0.2/32"), 6, 8443, 8443)},
	}
}

// mirror returns a policy as the other end has it.
func mirror(p ike.ChildPolicy) ike.ChildPolicy {
	p.Local, p.Remote = p.Remote, p.Local
	return p
}

// packet is what begins a connection to web.
func packet(child ike.ChildPolicy) ike.Acquire {
	return ike.Acquire{
		Child:  child,
		Local:  ipsec.SelectPrefix(netip.MustParsePrefix("10.0.0.1/32"), 6, 40000, 40000),
		Remote: ipsec.SelectPrefix(netip.MustParsePrefix("10.0.0.2/32"), 6, 8443, 8443),
	}
}

func initiator(c ike.MachineConfig) ike.Machine { return ikev2.NewInitiator(c) }
func responder(c ike.MachineConfig) ike.Machine { return ikev2.NewResponder(c) }

// world is two hosts that share a preshared key and the policy web, unless a
// test changes that before it begins.
type world struct {
	*iketest.Sim
	a, b *iketest.Host
}

func newWorld(seed uint64) *world {
	sim := iketest.NewSim(seed, epoch)
	psk := ike.Policy{Auth: []ike.AuthMethod{ike.PresharedKey{Secret: []byte("correct horse")}}}
	return &world{
		Sim: sim,
		a:   sim.Add(&iketest.Host{Addr: addrA, Policy: psk, Children: []ike.ChildPolicy{web()}, Responder: responder}),
		b:   sim.Add(&iketest.Host{Addr: addrB, Policy: psk, Children: []ike.ChildPolicy{mirror(web())}, Responder: responder}),
	}
}

// classic lets both ends do without IKE_INTERMEDIATE, for tests that count
// messages.
func (w *world) classic() {
	w.a.Policy.Proposals = suite(ipsec.GroupX25519, gcm256)
	w.b.Policy.Proposals = w.a.Policy.Proposals
}

// connect begins an IKE SA from a to b.
func (w *world) connect(t *testing.T) ike.Machine {
	t.Helper()
	m := initiator(w.a.Config(addrB))
	if err := w.a.Do(m, packet(web())); err != nil {
		t.Fatalf("acquire: %v", err)
	}
	return m
}

// checkPair fails unless the two ends hold one pair of SAs with the same keys,
// crossed.
func checkPair(t *testing.T, a, b ike.InstallChild) {
	t.Helper()
	x, y := a.SA, b.SA
	if x.InSPI != y.OutSPI || x.OutSPI != y.InSPI {
		t.Errorf("SPIs: a %s/%s, b %s/%s", x.InSPI, x.OutSPI, y.InSPI, y.OutSPI)
	}
	for _, k := range []struct {
		name string
		x, y []byte
	}{
		{"encryption a to b", x.OutKeys.Encr, y.InKeys.Encr}, {"encryption b to a", x.InKeys.Encr, y.OutKeys.Encr},
		{"integrity a to b", x.OutKeys.Integ, y.InKeys.Integ}, {"integrity b to a", x.InKeys.Integ, y.OutKeys.Integ},
	} {
		if !bytes.Equal(k.x, k.y) {
			t.Errorf("keys for %s differ", k.name)
		}
	}
	out, in := slices.Concat(x.OutKeys.Encr, x.OutKeys.Integ), slices.Concat(x.InKeys.Encr, x.InKeys.Integ)
	if len(out) == 0 || bytes.Equal(out, in) {
		t.Errorf("keys of both directions: %d bytes, equal %v", len(out), bytes.Equal(out, in))
	}
	if x.Protocol != y.Protocol || x.Encr != y.Encr || x.Integ != y.Integ || x.ESN != y.ESN || x.Mode != y.Mode || x.UDPEncap != y.UDPEncap {
		t.Errorf("a has %+v, b %+v", x, y)
	}
}

// mustConnect fails unless both ends have one IKE SA and one Child SA.
func (w *world) mustConnect(t *testing.T) ike.Machine {
	t.Helper()
	m := w.connect(t)
	w.Run(2 * time.Second)
	w.check(t, 1)
	return m
}

// check fails unless both hosts have n Child SAs, the same ones.
func (w *world) check(t *testing.T, n int) {
	t.Helper()
	for _, h := range []*iketest.Host{w.a, w.b} {
		for _, f := range h.Failed {
			t.Errorf("%s: failed: %v", h.Addr, f.Why)
		}
		if len(h.Alive()) != n {
			t.Fatalf("%s: %d Child SAs alive, want %d; errors %v", h.Addr, len(h.Alive()), n, h.Errors)
		}
	}
	for _, i := range w.a.Installed {
		for _, j := range w.b.Installed {
			if i.SA.InSPI == j.SA.OutSPI {
				checkPair(t, i, j)
			}
		}
	}
}

func TestPresharedKey(t *testing.T) {
	w := newWorld(1)
	w.classic()
	w.mustConnect(t)
	if len(w.a.Sent) != 2 || len(w.b.Sent) != 2 {
		t.Errorf("sent %d and %d messages, want 2 each", len(w.a.Sent), len(w.b.Sent))
	}
	p := w.a.Established[0].Peer
	if p.RemoteID != "10.0.0.2" || p.LocalID != "10.0.0.1" || p.Auth != "preshared-key" || !p.Initiator {
		t.Errorf("peer of a: %+v", p)
	}
	if !w.b.Established[0].InitialContact {
		t.Error("no INITIAL_CONTACT on the first IKE SA")
	}
	sa := w.a.Installed[0].SA
	if sa.Policy != "web" || sa.Mode != ipsec.Transport || sa.UDPEncap || sa.LocalAddr.Port() != 0 {
		t.Errorf("child of a: %+v", sa)
	}
	if got, want := sa.Local, []ipsec.TrafficSelector{anyPort("10.0.0.1/32", 6)}; len(got) != 1 || got[0] != want[0] {
		t.Errorf("selectors %v, want %v: the two hosts, not only the packet", got, want)
	}
}
