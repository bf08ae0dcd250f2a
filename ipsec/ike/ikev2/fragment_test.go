package ikev2

import (
	"bytes"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ipsecfw/ipsecfw/ipsec"
	"github.com/ipsecfw/ipsecfw/ipsec/ike"
	"github.com/ipsecfw/ipsecfw/ipsec/ike/iketest"
	"github.com/ipsecfw/ipsecfw/ipsec/ike/wire"
)

// bulky has both ends claim identities so long that IKE_AUTH needs about 3
// datagrams of size bytes.
func (p *pair) bulky(size int) {
	name := strings.Repeat("x.", size) + "example"
	for _, h := range []*iketest.Host{p.a, p.b} {
		h.Policy.LocalID, h.Policy.FragmentSize = name, size
	}
}

// isFragment reports whether a datagram is a fragment, of the response or the
// request of an exchange.
func isFragment(data []byte, x wire.ExchangeType, response bool) (*wire.Fragment, bool) {
	h, outer, err := wire.Decode(data)
	if err != nil || h.Exchange != x || h.Response != response {
		return nil, false
	}
	return wire.Find[*wire.Fragment](outer)
}

// TestFragmentation makes IKE SAs with fragments of several sizes, over both
// versions of IP, and also where the exchange that makes quantum computers
// harmless is one of those that are cut and authenticated all the same
// (RFC 9242 section 3.3.2).
func TestFragmentation(t *testing.T) {
	for _, tt := range []struct {
		name       string
		a, b       string
		size       int
		sizeB      int // if it is another one
		fragmented bool
	}{
		{"IPv4, smallest", "10.0.0.1", "10.0.0.2", 576, 0, true},
		{"IPv4", "10.0.0.1", "10.0.0.2", 1280, 0, true},
		{"IPv6", "2001:db8::1", "2001:db8::2", 1280, 0, true},
		{"two sizes", "10.0.0.1", "10.0.0.2", 576, 1400, true},
		{"one end does not", "10.0.0.1", "10.0.0.2", 1280, -1, false},
		{"neither does", "10.0.0.1", "10.0.0.2", -1, 0, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p := newPair()
			p.bulky(max(tt.size, 1280))
			p.a.Policy.FragmentSize, p.b.Policy.FragmentSize = tt.size, tt.size
			if tt.sizeB != 0 {
				p.b.Policy.FragmentSize = tt.sizeB
			}
			p.a.Addr, p.b.Addr = netip.MustParseAddr(tt.a), netip.MustParseAddr(tt.b)
			rule := tunnel()
			if p.a.Addr.Is6() {
				all := ipsec.SelectPrefix(netip.MustParsePrefix("2001:db8::/64"), 6, 0, 0xffff)
				rule.Local, rule.Remote = []ipsec.TrafficSelector{all}, []ipsec.TrafficSelector{all}
				p.b.Children = []ike.ChildPolicy{rule}
			}
			a := p.acquire(t, nil, rule).(*SA)
			p.Run(time.Second)
			if len(p.a.Alive()) != 1 || len(p.b.Alive()) != 1 {
				t.Fatalf("not connected: %v %v %v", p.a.Failed, p.b.Failed, p.b.Errors)
			}
			if a.info().Fragmentation != tt.fragmented {
				t.Errorf("the peer is said to cut messages: %v", a.info().Fragmentation)
			}
			for _, h := range []*iketest.Host{p.a, p.b} {
				cut := 0
				for _, s := range h.Sent {
					hd, _, err := wire.Decode(s.Data)
					if err != nil {
						t.Fatal(err)
					}
					if hd.FirstPayload == wire.TypeFragment {
						cut++
					}
					if most := room(h.Policy.FragmentSize, path{s.Local, s.Remote}); tt.fragmented && hd.Exchange != wire.IKESAInit && len(s.Data) > most {
						t.Errorf("%s sent %d bytes of %s, at most %d were allowed", h.Addr, len(s.Data), hd.Exchange, most)
					}
				}
				if (cut > 0) != tt.fragmented {
					t.Errorf("%s sent %d fragments", h.Addr, cut)
				}
			}
			p.acquire(t, a, rule)
			p.Run(time.Second)
			if len(p.a.Alive()) != 2 {
				t.Errorf("no second Child SA: %v", p.a.Failed)
			}
		})
	}
}

func TestRoom(t *testing.T) {
	for addr, want := range map[string]int{"10.0.0.1": 1252, "::ffff:10.0.0.1": 1252, "2001:db8::1": 1232} {
		for port, marker := range map[uint16]int{500: 0, 4500: 4} {
			at := netip.AddrPortFrom(netip.MustParseAddr(addr), port)
			if got := room(1280, path{at, at}); got != want-marker {
				t.Errorf("%s: %d bytes of IKE in 1280 of IP, want %d", at, got, want-marker)
			}
		}
	}
}

// TestOneDatagram has the default proposals, whose ML-KEM-768 leaves just enough
// of a datagram where there is no non-ESP marker in it.
func TestOneDatagram(t *testing.T) {
	for _, tt := range []struct {
		name      string
		udp       bool
		datagrams int
	}{{"port 500", false, 1}, {"port 4500", true, 2}} {
		t.Run(tt.name, func(t *testing.T) {
			p := newPair()
			for _, h := range []*iketest.Host{p.a, p.b} {
				h.Policy.Proposals, h.Policy.ForceUDP = ike.DefaultProposals(), tt.udp
			}
			p.acquire(t, nil, tunnel())
			p.Run(time.Second)
			if len(p.a.Alive()) != 1 {
				t.Fatalf("not connected: %v %v", p.a.Failed, p.b.Failed)
			}
			sent := 0
			for _, s := range p.a.Sent {
				if s.Data[18] != byte(wire.IKEIntermediate) {
					continue
				}
				sent++
				if size := 20 + 8 + len(s.Data) + (tt.datagrams-1)*4; size > 1280 {
					t.Errorf("an IP datagram of %d bytes", size)
				}
			}
			if sent != tt.datagrams {
				t.Errorf("IKE_INTERMEDIATE in %d datagrams, want %d", sent, tt.datagrams)
			}
		})
	}
}

// TestFragmentsUnderFaults loses, repeats and reorders fragments: the whole
// message is sent again, and what came before is still of use.
func TestFragmentsUnderFaults(t *testing.T) {
	for seed := range uint64(10) {
		p := newPair()
		p.Sim = iketest.NewSim(seed, p.Now)
		p.Add(p.a)
		p.Add(p.b)
		p.Faults = iketest.Faults{Loss: 0.15, Duplicate: 0.2, Delay: 5 * time.Millisecond, Jitter: 30 * time.Millisecond}
		p.bulky(576)
		p.acquire(t, nil, tunnel())
		p.Run(30 * time.Second)
		if len(p.a.Alive()) != 1 || len(p.b.Alive()) != 1 {
			t.Errorf("seed %d: %d and %d Child SAs: %v %v", seed, len(p.a.Alive()), len(p.b.Alive()), p.a.Failed, p.b.Failed)
		}
	}
}

// TestFragmentLost loses one fragment of the request, or of the response,
// once: with the next sending all is well.
func TestFragmentLost(t *testing.T) {
	for _, tt := range []struct {
		name     string
		response bool
	}{{"of the request", false}, {"of the response", true}} {
		t.Run(tt.name, func(t *testing.T) {
			p := newPair()
			p.bulky(576)
			lost := 0
			p.Mangle = func(_, _ netip.AddrPort, data []byte) []byte {
				if f, ok := isFragment(data, wire.IKEAuth, tt.response); ok && f.Number == 2 && lost == 0 {
					lost++
					return nil
				}
				return data
			}
			p.acquire(t, nil, tunnel())
			p.Run(400 * time.Millisecond)
			if len(p.a.Alive()) != 0 || lost != 1 {
				t.Fatalf("connected without fragment 2, %d lost", lost)
			}
			p.Run(2 * time.Second)
			if len(p.a.Alive()) != 1 || len(p.b.Alive()) != 1 {
				t.Errorf("not connected: %v %v", p.a.Failed, p.b.Failed)
			}
		})
	}
}

// TestOnlyFirstFragmentAsksAgain has the fragments of a request come again:
// the answer is repeated for the first one alone (RFC 7383 section 2.6.1).
func TestOnlyFirstFragmentAsksAgain(t *testing.T) {
	p, a, b := established(t)
	a.cur.fragmentSize, b.cur.fragmentSize = 576, 576
	fromA := p.catch(p.a.Addr)
	begin(t, p.a, a, &ask{x: wire.Informational, ps: []wire.Payload{&wire.VendorID{Data: make([]byte, 1200)}}})
	if len(*fromA) != 3 {
		t.Fatalf("%d fragments, want 3", len(*fromA))
	}
	fromB := p.catch(p.b.Addr)
	p.hand(p.b, b, *fromA...)
	if len(*fromB) != 1 {
		t.Fatalf("%d answers, want 1", len(*fromB))
	}
	for i, data := range *fromA {
		*fromB = nil
		p.hand(p.b, b, data)
		if n := len(*fromB); (n == 1) != (i == 0) {
			t.Errorf("%d answers to fragment %d", n, i+1)
		}
	}
	// One that nobody vouches for is no question.
	*fromB = nil
	forged := bytes.Clone((*fromA)[0])
	forged[len(forged)-1] ^= 1
	if errs := p.hand(p.b, b, forged); errs[0] == nil || len(*fromB) != 0 {
		t.Errorf("a forged fragment 1 got %d answers", len(*fromB))
	}
}

// TestForgedFragment comes first, and must not be kept (RFC 7383 section 2.6).
func TestForgedFragment(t *testing.T) {
	p, a, b := established(t)
	a.cur.fragmentSize, b.cur.fragmentSize = 576, 576
	fromA := p.catch(p.a.Addr)
	x := begin(t, p.a, a, &ask{x: wire.Informational, ps: []wire.Payload{&wire.VendorID{Data: make([]byte, 1200)}}})
	for _, data := range *fromA {
		forged := bytes.Clone(data)
		forged[len(forged)-1] ^= 1
		if errs := p.hand(p.b, b, forged); errs[0] == nil {
			t.Error("a forged fragment was taken")
		}
	}
	if len(b.cur.partial) != 0 {
		t.Errorf("%d messages are kept of forged fragments", len(b.cur.partial))
	}
	requests := slices.Clone(*fromA)
	p.Mangle = nil
	p.hand(p.b, b, requests...)
	p.Run(time.Second)
	if x.ended != 1 || len(b.cur.partial) != 0 {
		t.Errorf("answered %d times, %d messages are kept", x.ended, len(b.cur.partial))
	}
}

// TestSmallPath has a path that takes 576 bytes and no more, and ends that do
// not know. From the third sending on it does (RFC 7383 section 2.5.2).
func TestSmallPath(t *testing.T) {
	p := newPair()
	p.bulky(1280)
	p.Mangle = func(_, _ netip.AddrPort, data []byte) []byte {
		if len(data) > 576-20-8 {
			return nil
		}
		return data
	}
	proposals := []ipsec.Proposal{proposalPRF(ipsec.PRFHMACSHA256)}
	p.a.Policy.Proposals, p.b.Policy.Proposals = proposals, proposals
	a := p.acquire(t, nil, tunnel()).(*SA)
	p.Run(10 * time.Second)
	if len(p.a.Alive()) != 1 || len(p.b.Alive()) != 1 {
		t.Fatalf("not connected: %v %v", p.a.Failed, p.b.Failed)
	}
	if a.cur.fragmentSize != 576 {
		t.Errorf("the next message will be cut into %d bytes", a.cur.fragmentSize)
	}
}

// TestSmallerAnew has a message cut anew for its third sending: the waits begin
// anew with it (RFC 7383 section 2.5.2).
func TestSmallerAnew(t *testing.T) {
	p := newPair()
	p.bulky(1280)
	var at []time.Time
	p.Mangle = func(_, _ netip.AddrPort, data []byte) []byte {
		if data[18] != byte(wire.IKEAuth) {
			return data
		}
		if n := len(at); n == 0 || !at[n-1].Equal(p.Now) {
			at = append(at, p.Now)
		}
		return nil
	}
	p.acquire(t, nil, tunnel())
	p.Run(2 * time.Minute)
	if len(at) != shrinkAt-1+ike.Patient.Sends || len(p.a.Failed) != 1 {
		t.Fatalf("%d sendings, %v", len(at), p.a.Failed)
	}
	for i, wait := range []time.Duration{500, 900, 500, 900} {
		if got := at[i+1].Sub(at[i]); got != wait*time.Millisecond {
			t.Errorf("wait %d is %s, want %s", i, got, wait*time.Millisecond)
		}
	}
}

// TestFragmentsTimeOut has the rest of a request never come (RFC 7383 section
// 2.6). The next sending finds nothing left of the first.
func TestFragmentsTimeOut(t *testing.T) {
	p, a, b := established(t)
	b.cur.fragmentSize = 1280
	msgs, err := wire.SealFragments(a.cur.header(wire.Informational, b.cur.theirs.next, false), wire.TypeVendorID, make([]byte, 3000), a.cur.out, 1200)
	if err != nil {
		t.Fatal(err)
	}
	p.hand(p.b, b, msgs[:2]...)
	p.Run(partialTime - time.Second)
	if len(b.cur.partial) != 1 {
		t.Fatalf("%d messages are kept", len(b.cur.partial))
	}
	if at, ok := b.Deadline(); !ok || at.After(p.Now.Add(time.Second)) {
		t.Errorf("waits until %s", at)
	}
	p.Run(time.Second)
	if len(b.cur.partial) != 0 || b.state != Established {
		t.Errorf("%d messages are kept, %s", len(b.cur.partial), b.state)
	}
}

// TestFragmentsOfAnybody has a peer that has not said who it is send fragments
// and never a whole message.
func TestFragmentsOfAnybody(t *testing.T) {
	p := newPair()
	p.catch(p.b.Addr) // a does not hear of b
	a := p.acquire(t, nil, tunnel()).(*SA)
	p.Run(100 * time.Millisecond)
	b := p.b.Machines[0].(*SA)
	cipher := b.cur.in
	for id := range uint32(3) {
		h := a.cur.header(wire.IKEAuth, id+1, false)
		h.SPIr = b.cur.spiR
		msgs, err := wire.SealFragments(h, wire.TypeVendorID, make([]byte, 60000), cipher, 1200)
		if err != nil {
			t.Fatal(err)
		}
		for _, data := range msgs[1:] {
			p.hand(p.b, b, data)
			kept := 0
			for _, r := range b.cur.partial {
				kept += r.Size()
			}
			if kept > maxPartialUnknown || len(b.cur.partial) > 1 {
				t.Fatalf("%d bytes of %d messages are kept", kept, len(b.cur.partial))
			}
		}
	}
	if b.state != Closed {
		t.Errorf("b is %s", b.state)
	}
}

// TestFragmentsBounded has a peer that is authenticated do so. It is told to go
// (RFC 7383 section 5).
func TestFragmentsBounded(t *testing.T) {
	p, a, b := established(t)
	b.cur.fragmentSize = 1280
	fromB := p.catch(p.b.Addr)
	for id := uint32(0); b.state == Established; id++ {
		if id == 20 {
			t.Fatal("all is kept, or forgotten")
		}
		h := a.cur.header(wire.Informational, b.cur.theirs.next+id, false)
		msgs, err := wire.SealFragments(h, wire.TypeVendorID, make([]byte, 60000), a.cur.out, 1200)
		if err != nil {
			t.Fatal(err)
		}
		for _, data := range msgs[:len(msgs)-1] {
			if p.hand(p.b, b, data); b.state != Established {
				break
			}
			kept := 0
			for _, r := range b.cur.partial {
				kept += r.Size()
			}
			if kept > maxPartial || len(b.cur.partial) > maxWindow {
				t.Fatalf("%d bytes of %d messages are kept", kept, len(b.cur.partial))
			}
		}
	}
	if len(b.cur.partial) != 0 || b.state != Closing || len(b.children) != 0 || len(*fromB) != 1 {
		t.Errorf("%d messages are kept, %s, %d Child SAs, %d datagrams", len(b.cur.partial), b.state, len(b.children), len(*fromB))
	}
}

// TestFragmentNotAgreed has a peer send fragments to one who did not say that
// it understands them.
func TestFragmentNotAgreed(t *testing.T) {
	p := newPair()
	p.b.Policy.FragmentSize = -1
	a := p.acquire(t, nil, tunnel()).(*SA)
	p.Run(time.Second)
	b := p.b.Machines[0].(*SA)
	msgs, err := wire.SealFragments(a.cur.header(wire.Informational, b.cur.theirs.next, false), wire.NoNextPayload, nil, a.cur.out, 200)
	if err != nil {
		t.Fatal(err)
	}
	if errs := p.hand(p.b, b, msgs...); errs[0] == nil {
		t.Error("a fragment was taken")
	}
}
