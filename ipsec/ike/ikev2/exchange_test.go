package ikev2_test

import (
	"errors"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ipsecfw/ipsecfw/ipsec"
	"github.com/ipsecfw/ipsecfw/ipsec/ike"
	"github.com/ipsecfw/ipsecfw/ipsec/ike/iketest"
	"github.com/ipsecfw/ipsecfw/ipsec/ike/ikev2"
	"github.com/ipsecfw/ipsecfw/ipsec/ike/wire"
)

// suite returns a proposal for IKE.
func suite(group uint16, encr ipsec.Transform, integ ...uint16) []ipsec.Proposal {
	p := ipsec.Proposal{Protocol: ipsec.ProtoIKE, Transforms: []ipsec.Transform{
		encr, {Type: ipsec.TypePRF, ID: ipsec.PRFHMACSHA256}, {Type: ipsec.TypeGroup, ID: group},
	}}
	for _, i := range integ {
		p.Transforms = append(p.Transforms, ipsec.Transform{Type: ipsec.TypeInteg, ID: i})
	}
	return []ipsec.Proposal{p}
}

var (
	gcm256 = ipsec.Transform{Type: ipsec.TypeEncr, ID: ipsec.EncrAESGCM16, KeyBits: 256}
	cbc128 = ipsec.Transform{Type: ipsec.TypeEncr, ID: ipsec.EncrAESCBC, KeyBits: 128}
	chacha = ipsec.Transform{Type: ipsec.TypeEncr, ID: ipsec.EncrChaCha20Poly1305}
)

func group(id uint16) ipsec.Transform { return ipsec.Transform{Type: ipsec.TypeGroup, ID: id} }

func TestSuites(t *testing.T) {
	for _, tt := range []struct {
		name string
		ike  []ipsec.Proposal
		esp  []ipsec.Transform
	}{
		{"X25519, GCM", suite(ipsec.GroupX25519, gcm256), []ipsec.Transform{gcm256}},
		{"P-256, CBC", suite(ipsec.GroupP256, cbc128, ipsec.IntegHMACSHA256), []ipsec.Transform{chacha}},
		{"P-384, ChaCha20", suite(ipsec.GroupP384, chacha), []ipsec.Transform{gcm256, {Type: ipsec.TypeESN, ID: ipsec.ESNYes}}},
		{"MODP-2048, CBC", suite(ipsec.GroupMODP2048, cbc128, ipsec.IntegHMACSHA512), []ipsec.Transform{cbc128, {Type: ipsec.TypeInteg, ID: ipsec.IntegHMACSHA256}}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(1)
			w.a.Policy.Proposals, w.b.Policy.Proposals = tt.ike, tt.ike
			child := web()
			child.Proposals = []ipsec.Proposal{{Protocol: ipsec.ProtoESP, Transforms: tt.esp}}
			w.b.Children = []ike.ChildPolicy{mirror(child)}
			m := initiator(w.a.Config(addrB))
			if err := w.a.Do(m, packet(child)); err != nil {
				t.Fatal(err)
			}
			w.Run(time.Second)
			w.check(t, 1)
			sa := w.a.Installed[0].SA
			if sa.Encr != tt.esp[0] || sa.ESN != slices.Contains(tt.esp, ipsec.Transform{Type: ipsec.TypeESN, ID: ipsec.ESNYes}) {
				t.Errorf("SA has %s, ESN %v", sa.Encr, sa.ESN)
			}
		})
	}
}

func TestNoProposal(t *testing.T) {
	w := newWorld(1)
	w.a.Policy.Proposals = suite(ipsec.GroupX25519, gcm256)
	w.b.Policy.Proposals = suite(ipsec.GroupX25519, cbc128, ipsec.IntegHMACSHA256)
	w.connect(t)
	w.Run(time.Second)
	for _, h := range []*iketest.Host{w.a, w.b} {
		if len(h.Failed) != 1 || !errors.Is(h.Failed[0].Why, ike.ErrNoProposal) || len(h.Machines) != 0 {
			t.Fatalf("%s: failures %v, %d machines", h.Addr, h.Failed, len(h.Machines))
		}
	}
	why := w.b.Failed[0].Why.Error()
	if !strings.Contains(why, "aes256gcm16") || !strings.Contains(why, "aes128-") {
		t.Errorf("b does not say what was offered and wanted: %s", why)
	}
}

// TestInvalidKE has an initiator whose first group the responder does not
// take.
func TestInvalidKE(t *testing.T) {
	w := newWorld(1)
	both := suite(ipsec.GroupX25519, gcm256)
	both[0].Transforms = append(both[0].Transforms, group(ipsec.GroupP256))
	w.a.Policy.Proposals, w.b.Policy.Proposals = both, suite(ipsec.GroupP256, gcm256)
	w.mustConnect(t)
	if len(w.a.Sent) != 3 {
		t.Errorf("%d messages of a, want 3", len(w.a.Sent))
	}
	if g, _ := w.a.Established[0].Peer.Proposal.First(ipsec.TypeGroup); g.ID != ipsec.GroupP256 {
		t.Errorf("group %s, want ecp256", g)
	}
}

// TestPeersGroup has preferences that differ: what the KE payload brings is
// taken, without another round.
func TestPeersGroup(t *testing.T) {
	w := newWorld(1)
	a, b := suite(ipsec.GroupP256, gcm256), suite(ipsec.GroupX25519, gcm256)
	a[0].Transforms = append(a[0].Transforms, group(ipsec.GroupX25519))
	b[0].Transforms = append(b[0].Transforms, group(ipsec.GroupP256))
	w.a.Policy.Proposals, w.b.Policy.Proposals = a, b
	w.mustConnect(t)
	if len(w.a.Sent) != 2 {
		t.Errorf("%d messages of a, want 2", len(w.a.Sent))
	}
}

func TestNarrowing(t *testing.T) {
	port := func(p uint16) ipsec.TrafficSelector {
		return ipsec.SelectPrefix(netip.MustParsePrefix("10.0.0.2/32"), 6, p, p)
	}
	for _, tt := range []struct {
		name           string
		mode, mode2    ipsec.Mode
		local, remote  []ipsec.TrafficSelector // a's rule
		local2, remot2 []ipsec.TrafficSelector // b's rule
		wantL, wantR   []ipsec.TrafficSelector // of a's SA
	}{
		{
			name: "responder narrower", mode: ipsec.Tunnel, mode2: ipsec.Tunnel,
			local: []ipsec.TrafficSelector{anyPort("10.0.0.0/16", 0)}, remote: []ipsec.TrafficSelector{anyPort("10.0.0.0/8", 0)},
			local2: []ipsec.TrafficSelector{anyPort("10.0.0.0/24", 6)}, remot2: []ipsec.TrafficSelector{anyPort("10.0.0.0/25", 0)},
			wantL: []ipsec.TrafficSelector{anyPort("10.0.0.0/25", 0)}, wantR: []ipsec.TrafficSelector{anyPort("10.0.0.0/24", 6)},
		},
		{
			name: "initiator narrower", mode: ipsec.Tunnel, mode2: ipsec.Tunnel,
			local: []ipsec.TrafficSelector{anyPort("10.0.0.1/32", 6)}, remote: []ipsec.TrafficSelector{port(8443)},
			local2: []ipsec.TrafficSelector{anyPort("0.0.0.0/0", 0)}, remot2: []ipsec.TrafficSelector{anyPort("0.0.0.0/0", 0)},
			wantL: []ipsec.TrafficSelector{anyPort("10.0.0.1/32", 6)}, wantR: []ipsec.TrafficSelector{port(8443)},
		},
		{
			name: "two ports, one in common", mode: ipsec.Transport, mode2: ipsec.Transport,
			local: []ipsec.TrafficSelector{anyPort("10.0.0.1/32", 6)}, remote: []ipsec.TrafficSelector{port(80), port(8443)},
			local2: []ipsec.TrafficSelector{port(8443), port(22)}, remot2: []ipsec.TrafficSelector{anyPort("10.0.0.1/32", 6)},
			wantL: []ipsec.TrafficSelector{anyPort("10.0.0.1/32", 6)}, wantR: []ipsec.TrafficSelector{port(8443)},
		},
		{
			name: "transport mode covers the two hosts only", mode: ipsec.Transport, mode2: ipsec.Transport,
			local: []ipsec.TrafficSelector{anyPort("0.0.0.0/0", 0)}, remote: []ipsec.TrafficSelector{anyPort("0.0.0.0/0", 0)},
			local2: []ipsec.TrafficSelector{anyPort("0.0.0.0/0", 0)}, remot2: []ipsec.TrafficSelector{anyPort("0.0.0.0/0", 0)},
			wantL: []ipsec.TrafficSelector{anyPort("10.0.0.1/32", 0)}, wantR: []ipsec.TrafficSelector{anyPort("10.0.0.2/32", 0)},
		},
		{
			name: "nothing in common", mode: ipsec.Tunnel, mode2: ipsec.Tunnel,
			local: []ipsec.TrafficSelector{anyPort("10.0.0.1/32", 6)}, remote: []ipsec.TrafficSelector{port(8443)},
			local2: []ipsec.TrafficSelector{port(22)}, remot2: []ipsec.TrafficSelector{anyPort("10.0.0.1/32", 6)},
		},
		{
			name: "other mode", mode: ipsec.Transport, mode2: ipsec.Tunnel,
			local: []ipsec.TrafficSelector{anyPort("10.0.0.1/32", 6)}, remote: []ipsec.TrafficSelector{port(8443)},
			local2: []ipsec.TrafficSelector{port(8443)}, remot2: []ipsec.TrafficSelector{anyPort("10.0.0.1/32", 6)},
		},
		{
			name: "packet outside of its own rule", mode: ipsec.Tunnel, mode2: ipsec.Tunnel,
			local: []ipsec.TrafficSelector{anyPort("10.7.0.0/16", 6)}, remote: []ipsec.TrafficSelector{port(8443)},
			local2: []ipsec.TrafficSelector{port(8443)}, remot2: []ipsec.TrafficSelector{anyPort("10.0.0.1/32", 6)},
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(1)
			a, b := web(), web()
			a.Mode, a.Local, a.Remote = tt.mode, tt.local, tt.remote
			b.Mode, b.Local, b.Remote = tt.mode2, tt.local2, tt.remot2
			w.b.Children = []ike.ChildPolicy{b}
			m := initiator(w.a.Config(addrB))
			if err := w.a.Do(m, packet(a)); err != nil {
				t.Fatal(err)
			}
			w.Run(time.Second)
			if tt.wantL == nil {
				if len(w.a.Installed)+len(w.b.Installed) != 0 {
					t.Fatalf("installed %v", w.a.Installed)
				}
				if len(w.a.Failed) != 1 || !errors.Is(w.a.Failed[0].Why, ike.ErrSelectors) || w.a.Failed[0].Policy != "web" {
					t.Errorf("failures %v", w.a.Failed)
				}
				return
			}
			w.check(t, 1)
			x, y := w.a.Installed[0].SA, w.b.Installed[0].SA
			if !slices.Equal(x.Local, tt.wantL) || !slices.Equal(x.Remote, tt.wantR) {
				t.Errorf("selectors %v to %v, want %v to %v", x.Local, x.Remote, tt.wantL, tt.wantR)
			}
			if !slices.Equal(x.Local, y.Remote) || !slices.Equal(x.Remote, y.Local) {
				t.Errorf("the ends differ: %v to %v and %v to %v", x.Local, x.Remote, y.Local, y.Remote)
			}
		})
	}
}

// TestRuleOfThePacket has two rules that accept the offer; the one that covers
// the packet is to be used, whatever the order.
func TestRuleOfThePacket(t *testing.T) {
	w := newWorld(1)
	ssh, wide := mirror(web()), mirror(web())
	ssh.Name, ssh.Local = "ssh", []ipsec.TrafficSelector{ipsec.SelectPrefix(netip.MustParsePrefix("10.0.0.2/32"), 6, 22, 22)}
	wide.Name, wide.Local = "wide", []ipsec.TrafficSelector{anyPort("10.0.0.2/32", 6)}
	w.b.Children = []ike.ChildPolicy{ssh, wide}
	child := web()
	child.Remote = []ipsec.TrafficSelector{anyPort("10.0.0.2/32", 6)}
	m := initiator(w.a.Config(addrB))
	if err := w.a.Do(m, packet(child)); err != nil {
		t.Fatal(err)
	}
	w.Run(time.Second)
	w.check(t, 1)
	if got := w.b.Installed[0].SA.Policy; got != "wide" {
		t.Errorf("b used the rule %s, want wide", got)
	}
}

// TestChildRefused has a good IKE SA, a Child SA that is refused, and then
// another one that is not.
func TestChildRefused(t *testing.T) {
	for _, tt := range []struct {
		name   string
		change func(*ike.ChildPolicy)
		want   error
		theirs error // what the responder says
	}{
		{"proposal", func(p *ike.ChildPolicy) {
			p.Proposals = []ipsec.Proposal{{Protocol: ipsec.ProtoESP, Transforms: []ipsec.Transform{cbc128, {Type: ipsec.TypeInteg, ID: ipsec.IntegHMACSHA1}}}}
		}, ike.ErrNoProposal, ike.ErrNoProposal},
		{"mode", func(p *ike.ChildPolicy) { p.Mode = ipsec.Tunnel }, ike.ErrSelectors, ike.ErrMode},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(1)
			bad := web()
			tt.change(&bad)
			m := initiator(w.a.Config(addrB))
			if err := w.a.Do(m, packet(bad)); err != nil {
				t.Fatal(err)
			}
			w.Run(time.Second)
			if len(w.a.Established) != 1 || len(w.a.Failed) != 1 || w.a.Failed[0].Whole || !errors.Is(w.a.Failed[0].Why, tt.want) {
				t.Fatalf("established %v, failed %v", w.a.Established, w.a.Failed)
			}
			if len(w.b.Failed) != 1 || !errors.Is(w.b.Failed[0].Why, tt.theirs) {
				t.Errorf("b says %v", w.b.Failed)
			}
			w.a.Failed, w.b.Failed = nil, nil
			if err := w.a.Do(m, packet(web())); err != nil {
				t.Fatal(err)
			}
			w.Run(time.Second)
			w.check(t, 1)
		})
	}
}

// TestMoreChildren asks for several at once, from both ends, which are made
// one after the other.
func TestMoreChildren(t *testing.T) {
	for _, tt := range []struct {
		name string
		pfs  []ipsec.Transform
	}{
		{"without a key exchange", nil},
		{"with a key exchange", []ipsec.Transform{group(ipsec.GroupX25519)}},
		{"with a group that b does not want", []ipsec.Transform{group(ipsec.GroupX25519), group(ipsec.GroupMODP2048)}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(1)
			w.Faults = iketest.Faults{Delay: 10 * time.Millisecond}
			child := web()
			child.Proposals = []ipsec.Proposal{{Protocol: ipsec.ProtoESP, Transforms: append([]ipsec.Transform{gcm256}, tt.pfs...)}}
			back := mirror(child)
			if len(tt.pfs) == 2 {
				back.Proposals = []ipsec.Proposal{{Protocol: ipsec.ProtoESP, Transforms: []ipsec.Transform{gcm256, tt.pfs[1]}}}
			}
			w.a.Children, w.b.Children = []ike.ChildPolicy{child}, []ike.ChildPolicy{back}
			m := initiator(w.a.Config(addrB))
			for range 3 {
				if err := w.a.Do(m, packet(child)); err != nil {
					t.Fatal(err)
				}
			}
			w.Run(time.Second)
			if len(tt.pfs) < 2 {
				w.check(t, 3)
			} else if len(w.a.Alive()) != 3 || len(w.b.Alive()) != 3 {
				t.Fatalf("%d and %d Child SAs, want 3: %v", len(w.a.Alive()), len(w.b.Alive()), w.a.Failed)
			}
			p := packet(child)
			p.Child, p.Local, p.Remote = back, p.Remote, p.Local
			if err := w.b.Do(w.b.Machines[0], p); err != nil {
				t.Fatal(err)
			}
			w.Run(time.Second)
			if len(w.a.Alive()) != 4 || len(w.b.Alive()) != 4 {
				t.Errorf("%d and %d Child SAs, want 4: %v", len(w.a.Alive()), len(w.b.Alive()), w.b.Failed)
			}
			var keys [][]byte
			for _, i := range w.a.Installed {
				keys = append(keys, i.SA.InKeys.Encr)
			}
			slices.SortFunc(keys, slices.Compare)
			if n := len(slices.CompactFunc(keys, slices.Equal)); n != 4 {
				t.Errorf("%d different keys, want 4", n)
			}
		})
	}
}

func TestDelete(t *testing.T) {
	for _, end := range []string{"initiator", "responder"} {
		t.Run(end, func(t *testing.T) {
			w := newWorld(1)
			w.mustConnect(t)
			h := map[string]*iketest.Host{"initiator": w.a, "responder": w.b}[end]
			if err := h.Do(h.Machines[0], ike.DeleteChild{InSPI: h.Alive()[0]}); err != nil {
				t.Fatal(err)
			}
			w.Run(time.Second)
			w.check(t, 0)
			if len(w.a.Machines) != 1 || len(w.b.Machines) != 1 {
				t.Error("the IKE SA did not stay")
			}
		})
	}
}

func TestDeleteBothEnds(t *testing.T) {
	w := newWorld(1)
	w.mustConnect(t)
	w.Faults.Delay = 10 * time.Millisecond
	for _, h := range []*iketest.Host{w.a, w.b} {
		if err := h.Do(h.Machines[0], ike.DeleteChild{InSPI: h.Alive()[0]}); err != nil {
			t.Fatal(err)
		}
	}
	w.Run(time.Second)
	w.check(t, 0)
}

func TestClose(t *testing.T) {
	for _, tt := range []struct {
		name   string
		a, b   bool // who closes
		silent bool
		left   int // machines
	}{
		{"initiator", true, false, false, 0},
		{"responder", false, true, false, 0},
		{"both", true, true, false, 0},
		{"silently", true, false, true, 1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(1)
			w.mustConnect(t)
			w.Faults.Delay = 10 * time.Millisecond
			for _, h := range []*iketest.Host{w.a, w.b} {
				if h == w.a && tt.a || h == w.b && tt.b {
					if err := h.Do(h.Machines[0], ike.Close{Reason: "test", Silent: tt.silent}); err != nil {
						t.Fatal(err)
					}
					if len(h.Alive()) != 0 {
						t.Error("a Child SA outlives the wish to close")
					}
				}
			}
			w.Run(time.Second)
			if n := len(w.a.Machines) + len(w.b.Machines); n != tt.left {
				t.Errorf("%d machines left, want %d", n, tt.left)
			}
			if len(w.a.Failed)+len(w.b.Failed) != 0 {
				t.Errorf("failures %v %v", w.a.Failed, w.b.Failed)
			}
		})
	}
}

func TestLiveness(t *testing.T) {
	w := newWorld(1)
	w.a.Policy.Liveness, w.b.Policy.Liveness = 10*time.Second, time.Hour
	w.mustConnect(t)
	sent := len(w.a.Sent)
	w.Run(time.Minute)
	if n := len(w.a.Sent) - sent; n != 5 && n != 6 {
		t.Errorf("%d questions in a minute, want one in 10 s", n)
	}
	w.check(t, 1)
	w.Faults.Loss = 1
	w.Run(45 * time.Second)
	if len(w.a.Machines) != 0 || len(w.a.Alive()) != 0 || len(w.a.Closed) != 1 {
		t.Errorf("a believes a dead peer: %v", w.a.Closed)
	}
	if len(w.a.Failed) != 0 {
		t.Errorf("nobody waited, and yet %v", w.a.Failed)
	}
}

// TestProbe has hints of a peer that lives, and of one that does not.
func TestProbe(t *testing.T) {
	w := newWorld(1)
	m := w.mustConnect(t)
	sent := len(w.a.Sent)
	for range 100 {
		if err := w.a.Do(m, ike.Probe{}); err != nil {
			t.Fatal(err)
		}
	}
	w.Run(time.Second)
	if n := len(w.a.Sent) - sent; n != 1 {
		t.Errorf("%d questions after a hundred hints, want 1", n)
	}
	w.check(t, 1)
	w.Run(10 * time.Second)
	w.Faults.Loss = 1
	if err := w.a.Do(m, ike.Probe{}); err != nil {
		t.Fatal(err)
	}
	w.Run(5 * time.Second)
	if len(w.a.Machines) != 0 {
		t.Error("after 5 s a still believes a dead peer")
	}
}

// TestInvalidIKESPI forges the notification of a peer that lives: it must not
// end the SA.
func TestInvalidIKESPI(t *testing.T) {
	w := newWorld(1)
	m := w.mustConnect(t)
	w.Mangle = func(from, _ netip.AddrPort, data []byte) []byte {
		if from.Addr() != addrB {
			return data
		}
		h, err := wire.ParseHeader(data)
		if err != nil {
			t.Fatal(err)
		}
		forged, err := wire.Encode(h, []wire.Payload{&wire.Notify{Kind: wire.InvalidIKESPI}})
		if err != nil {
			t.Fatal(err)
		}
		w.Mangle = nil // the next one passes
		return forged
	}
	if err := w.a.Do(m, packet(web())); err != nil {
		t.Fatal(err)
	}
	w.Run(5 * time.Second)
	w.check(t, 2)
}

func TestUnderLoss(t *testing.T) {
	lost := 0
	for seed := range uint64(40) {
		w := newWorld(seed)
		w.Faults = iketest.Faults{Loss: 0.25, Duplicate: 0.2, Delay: 10 * time.Millisecond, Jitter: 700 * time.Millisecond}
		m := w.connect(t)
		if err := w.a.Do(m, packet(web())); err != nil {
			t.Fatal(err)
		}
		w.Run(70 * time.Second)
		if len(w.a.Alive()) != 2 || len(w.b.Alive()) < 2 {
			lost++ // seven sendings may all get lost
			continue
		}
		for _, i := range w.a.Installed {
			j := slices.IndexFunc(w.b.Installed, func(j ike.InstallChild) bool { return j.SA.InSPI == i.SA.OutSPI })
			if j < 0 {
				t.Fatalf("seed %d: b lacks %s", seed, i.SA.OutSPI)
			}
			checkPair(t, i, w.b.Installed[j])
		}
	}
	if lost > 4 {
		t.Errorf("%d of 40 attempts came to nothing", lost)
	}
}

// TestRetransmission counts: each lost answer is sent again as it was, and the
// responder does its work once.
func TestRetransmission(t *testing.T) {
	w := newWorld(1)
	w.classic()
	dropped := map[uint32]int{}
	w.Mangle = func(from, _ netip.AddrPort, data []byte) []byte {
		h, err := wire.ParseHeader(data)
		if err != nil {
			t.Fatal(err)
		}
		if from.Addr() == addrB && dropped[h.MessageID] < 2 {
			dropped[h.MessageID]++
			return nil
		}
		return data
	}
	w.connect(t)
	w.Run(10 * time.Second)
	w.check(t, 1)
	if len(w.b.Established) != 1 || len(w.b.Installed) != 1 {
		t.Errorf("b established %d and installed %d", len(w.b.Established), len(w.b.Installed))
	}
	if len(w.b.Sent) != 6 {
		t.Fatalf("b sent %d messages, want three of each", len(w.b.Sent))
	}
	for i := range 2 {
		if !slices.Equal(w.b.Sent[3*i].Data, w.b.Sent[3*i+2].Data) {
			t.Errorf("answer %d changed when it was sent again", i)
		}
	}
}

func TestNATDetection(t *testing.T) {
	w := newWorld(1)
	outside := netip.MustParseAddr("192.0.2.1")
	w.NAT = &iketest.NAT{Inside: addrA, Outside: outside}
	tunnel := web()
	tunnel.Mode = ipsec.Tunnel
	w.b.Children = []ike.ChildPolicy{mirror(tunnel)}
	m := initiator(w.a.Config(addrB))
	if err := w.a.Do(m, packet(tunnel)); err != nil {
		t.Fatal(err)
	}
	w.Run(time.Second)
	w.check(t, 1)
	if p := w.a.Sent[1]; p.Local.Port() != 4500 || p.Remote.Port() != 4500 {
		t.Errorf("IKE_AUTH goes from %s to %s, want ports 4500", p.Local, p.Remote)
	}
	x, y := w.a.Installed[0].SA, w.b.Installed[0].SA
	if !x.UDPEncap || !y.UDPEncap || x.RemoteAddr != netip.AddrPortFrom(addrB, 4500) || y.RemoteAddr.Addr() != outside {
		t.Errorf("a %v to %s, b %v to %s", x.UDPEncap, x.RemoteAddr, y.UDPEncap, y.RemoteAddr)
	}
	if p := w.b.Established[0].Peer; !p.NATRemote || p.NATLocal {
		t.Errorf("b finds a NAT here %v, there %v", p.NATLocal, p.NATRemote)
	}
	// The NAT forgets its mapping: b answers to where the next message came
	// from.
	w.NAT = &iketest.NAT{Inside: addrA, Outside: netip.MustParseAddr("192.0.2.9")}
	w.Run(time.Minute)
	if n := len(w.b.Changed); n == 0 || w.b.Changed[n-1].Peer.Remote.Addr() != netip.MustParseAddr("192.0.2.9") {
		t.Errorf("b did not notice the move: %v", w.b.Changed)
	}
}

func TestCookieOfAPeer(t *testing.T) {
	w := newWorld(1)
	w.classic()
	cookies := ike.NewCookies(iketest.Rand(1))
	asked := 0
	w.b.Responder = func(c ike.MachineConfig) ike.Machine { return &guarded{responder(c), cookies, &asked} }
	w.mustConnect(t)
	if asked != 1 || len(w.a.Sent) != 3 {
		t.Errorf("asked %d times for a cookie, a sent %d messages", asked, len(w.a.Sent))
	}
}

// guarded is a responder that wants a cookie first.
type guarded struct {
	ike.Machine
	cookies *ike.Cookies
	asked   *int
}

func (g *guarded) Handle(now time.Time, ev ike.Event) ([]ike.Effect, error) {
	d, ok := ev.(ike.Datagram)
	if h, err := wire.ParseHeader(d.Data); !ok || err != nil || h.Exchange != wire.IKESAInit {
		return g.Machine.Handle(now, ev)
	}
	good, answer, err := g.cookies.Check(now, d.Remote, d.Data)
	if good || err != nil {
		return g.Machine.Handle(now, ev)
	}
	*g.asked++
	return []ike.Effect{ike.Send{Local: d.Local, Remote: d.Remote, Data: answer}, ike.Closed{}}, nil
}

// TestStates follows an initiator from its birth to its end.
func TestStates(t *testing.T) {
	w := newWorld(1)
	w.classic()
	m := initiator(w.a.Config(addrB)).(*ikev2.SA)
	want := func(s ikev2.State) {
		t.Helper()
		if m.State() != s {
			t.Errorf("state %s, want %s", m.State(), s)
		}
	}
	want(ikev2.Idle)
	w.Faults.Delay = 10 * time.Millisecond
	if err := w.a.Do(m, packet(web())); err != nil {
		t.Fatal(err)
	}
	want(ikev2.InitSent)
	w.Run(25 * time.Millisecond)
	want(ikev2.AuthSent)
	w.Run(time.Second)
	want(ikev2.Established)
	if err := w.a.Do(m, ike.Close{Reason: "test"}); err != nil {
		t.Fatal(err)
	}
	want(ikev2.Closing)
	w.Run(time.Second)
	want(ikev2.Closed)
	if err := w.a.Do(m, packet(web())); !errors.Is(err, ike.ErrClosed) {
		t.Errorf("a closed SA takes an acquire: %v", err)
	}
}
