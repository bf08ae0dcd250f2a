package iketest

import (
	"fmt"
	"io"
	"math/rand/v2"
	"net/netip"
	"slices"
	"time"

	"github.com/ipsecfw/ipsecfw/ipsec"
	"github.com/ipsecfw/ipsecfw/ipsec/ike"
)

// begins is when the simulated time begins.
var begins = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

// newWorld makes what a seed says.
func newWorld(seed uint64, m Machines, log io.Writer) *world {
	w := &world{
		Sim: NewSim(seed, begins), dice: rand.New(rand.NewPCG(seed, 1)),
		keys: make(keyBook), heard: make(map[hearing]time.Time), log: log,
	}
	w.watch = newWatch(w)
	w.Mangle = func(from, to netip.AddrPort, data []byte) []byte {
		w.watch.sent(from, to, data)
		return data
	}
	w.gone = w.vanished
	hosts := 2
	if w.chance(0.1) {
		hosts = 3
	}
	for i := range hosts {
		n := &node{
			Addr: netip.AddrFrom4([4]byte{10, 0, 0, byte(i + 1)}), Machines: m,
			world: w, rng: Rand(seed<<2 | uint64(i)), dice: rand.New(rand.NewPCG(seed, uint64(i)+2)),
		}
		n.Clock = w.between(-time.Hour, time.Hour)
		n.Cookies = w.chance(0.15)
		if w.chance(0.2) {
			n.Slow = w.between(0, 300*time.Millisecond)
		}
		n.restart()
		w.nodes = append(w.nodes, n)
		w.stations = append(w.stations, n)
	}
	w.strange = w.chance(0.03)
	if w.chance(0.2) {
		w.NAT = &NAT{Inside: w.nodes[0].Addr, Outside: netip.MustParseAddr("192.0.2.1")}
	}
	for i := range w.nodes {
		for j := range w.nodes[:i] {
			w.introduce(w.nodes[j], w.nodes[i])
		}
	}
	return w
}

// introduce gives two hosts rules for each other.
func (w *world) introduce(a, b *node) {
	pa, pb := w.policies(a, b)
	flowsA, flowsB := w.flows(a, b, pa)
	a.Peers = append(a.Peers, peer{Addr: w.shown(b.Addr), Policy: pa, Flows: flowsA})
	b.Peers = append(b.Peers, peer{Addr: w.shown(a.Addr), Policy: pb, Flows: flowsB})
}

func transform(t ipsec.TransformType, id, bits uint16) ipsec.Transform {
	return ipsec.Transform{Type: t, ID: id, KeyBits: bits}
}

var (
	gcm    = transform(ipsec.TypeEncr, ipsec.EncrAESGCM16, 256)
	gcm1   = transform(ipsec.TypeEncr, ipsec.EncrAESGCM16, 128)
	poly   = transform(ipsec.TypeEncr, ipsec.EncrChaCha20Poly1305, 0)
	cbc    = transform(ipsec.TypeEncr, ipsec.EncrAESCBC, 128)
	sha    = transform(ipsec.TypeInteg, ipsec.IntegHMACSHA256, 0)
	prf    = transform(ipsec.TypePRF, ipsec.PRFHMACSHA256, 0)
	p256   = transform(ipsec.TypeGroup, ipsec.GroupP256, 0) // the cheapest
	x25519 = transform(ipsec.TypeGroup, ipsec.GroupX25519, 0)
	esn    = transform(ipsec.TypeESN, ipsec.ESNYes, 0)
	noESN  = transform(ipsec.TypeESN, ipsec.ESNNo, 0)
)

// cipher returns a cipher with what it needs for integrity.
func (w *world) cipher() []ipsec.Transform {
	return pick(w, []ipsec.Transform{gcm}, []ipsec.Transform{gcm1, gcm}, []ipsec.Transform{poly}, []ipsec.Transform{cbc, sha})
}

// policies returns how two hosts deal with each other. They agree in what they
// must, and differ in what they may.
func (w *world) policies(a, b *node) (pa, pb ike.Policy) {
	pa = ike.Policy{Auth: w.auth()}
	pa.Lifetime = pick(w, 0, 0, w.between(20*time.Second, 3*time.Minute))
	pa.ForceUDP = w.chance(0.1)
	pa.MaxChildren = pick(w, 0, 0, 0, 0, 1, 2)
	groups := []ipsec.Transform{p256}
	if w.chance(0.2) {
		groups = []ipsec.Transform{x25519, p256}
	}
	if cipher := w.cipher(); !w.chance(0.1) {
		pa.Proposals = []ipsec.Proposal{{Protocol: ipsec.ProtoIKE, Transforms: slices.Concat(cipher, []ipsec.Transform{prf}, groups)}}
	}
	pb = pa
	if w.strange {
		pb.Auth = []ike.AuthMethod{ike.PresharedKey{Secret: []byte("another key")}}
	}
	if len(pa.Proposals) > 0 && len(groups) > 1 { // INVALID_KE_PAYLOAD, from one side
		pb.Proposals = []ipsec.Proposal{{Protocol: ipsec.ProtoIKE, Transforms: slices.DeleteFunc(slices.Clone(pa.Proposals[0].Transforms), func(t ipsec.Transform) bool { return t == x25519 })}}
	}
	if w.chance(0.3) {
		pb.Lifetime = w.between(20*time.Second, 3*time.Minute)
	}
	if w.chance(0.5) {
		pb.MaxChildren = 0
	}
	for _, p := range []*ike.Policy{&pa, &pb} {
		p.Liveness = pick(w, 0, w.between(5*time.Second, 30*time.Second))
		p.FragmentSize = pick(w, 0, 0, 0, -1, 576)
		p.Window = pick(w, 0, 0, 1, 1+w.dice.IntN(8))
		p.Childless = w.chance(0.2)
		if w.chance(0.15) {
			p.Reauth = w.between(30*time.Second, 3*time.Minute)
		}
	}
	if w.chance(0.15) {
		key := ike.PPK{ID: "both", Secret: []byte("a key of thirty-two bytes or more")}
		pa.PPKs, pa.PPKRequired = []ike.PPK{key}, w.chance(0.3)
		if pb.PPKs = pa.PPKs; w.chance(0.3) && !pa.PPKRequired {
			pb.PPKs = nil
		}
		pb.PPKRequired = len(pb.PPKs) > 0 && w.chance(0.3)
	}
	return pa, pb
}

// flows returns the rules of two hosts for what they send each other, in
// transport mode where they see each other's addresses.
func (w *world) flows(a, b *node, p ike.Policy) (fa, fb []flow) {
	transport := w.NAT == nil && w.chance(0.5)
	for i := range 1 + w.dice.IntN(3) {
		protocol := []uint8{6, 17, 132}[i]
		r := ike.ChildPolicy{Name: fmt.Sprintf("rule%d", i+1), Mode: ipsec.Tunnel, Auth: p.Auth}
		la, lb := side4(a, false, protocol), side4(b, false, protocol)
		if transport {
			r.Mode = ipsec.Transport
			la, lb = side4(a, true, protocol), side4(b, true, protocol)
		}
		r.Proposals = []ipsec.Proposal{{Protocol: ipsec.ProtoESP, Transforms: slices.Clone(w.cipher())}}
		t := &r.Proposals[0].Transforms
		switch w.dice.IntN(5) {
		case 0:
			*t = append(*t, p256)
		case 1:
			*t = append(*t, p256, transform(ipsec.TypeGroup, ipsec.GroupNone, 0))
		}
		switch w.dice.IntN(4) {
		case 0:
			*t = append(*t, esn)
		case 1:
			*t = append(*t, esn, noESN)
		}
		if w.chance(0.5) {
			r.Lifetime = w.between(15*time.Second, 2*time.Minute)
		}
		r.Local, r.Remote = []ipsec.TrafficSelector{la}, []ipsec.TrafficSelector{lb}
		s := r
		s.Local, s.Remote = r.Remote, r.Local
		if w.chance(0.3) {
			s.Lifetime = w.between(15*time.Second, 2*time.Minute)
		}
		// One packet of the rule is as good as another.
		pa, pb := one(la), one(lb)
		fa = append(fa, flow{Rule: r, Local: pa, Remote: pb})
		fb = append(fb, flow{Rule: s, Local: pb, Remote: pa})
	}
	return fa, fb
}

// side4 returns the selector of a host, or of the network behind it.
func side4(n *node, host bool, protocol uint8) ipsec.TrafficSelector {
	p := netip.PrefixFrom(n.Addr, 32)
	if !host {
		p = netip.PrefixFrom(netip.AddrFrom4([4]byte{10, n.Addr.As4()[3], 0, 0}), 16)
	}
	return ipsec.SelectPrefix(p, protocol, 0, 0xffff)
}

// one returns the selector of one packet of those that another selects.
func one(t ipsec.TrafficSelector) ipsec.TrafficSelector {
	t.End, t.StartPort, t.EndPort = t.Start, 4000, 4000
	return t
}
