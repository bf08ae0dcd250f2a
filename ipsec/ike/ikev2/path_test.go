package ikev2

import (
	"net/netip"
	"testing"
	"time"

	"github.com/ipsecfw/ipsecfw/ipsec/ike"
	"github.com/ipsecfw/ipsecfw/ipsec/ike/iketest"
	"github.com/ipsecfw/ipsecfw/ipsec/ike/wire"
)

// behindNAT is established with a behind a NAT.
func behindNAT(t *testing.T) (p *pair, a, b *SA) {
	t.Helper()
	p = newPair()
	p.NAT = &iketest.NAT{Inside: p.a.Addr, Outside: netip.MustParseAddr("192.0.2.1")}
	a = p.acquire(t, nil, tunnel()).(*SA)
	p.Run(time.Second)
	if len(p.a.Alive()) != 1 || len(p.b.Machines) != 1 {
		t.Fatalf("not connected: %v", p.a.Failed)
	}
	return p, a, p.b.Machines[0].(*SA)
}

// TestPathMoves has a NAT give its host another port, or another address. The
// other end follows as soon as an answer has come from there, whatever it was
// doing meanwhile.
func TestPathMoves(t *testing.T) {
	other := netip.MustParseAddr("198.51.100.1")
	for _, tt := range []struct {
		name    string
		outside netip.Addr
		busy    int // requests of b that are on their way to where nobody is any more
	}{
		{"another port", netip.MustParseAddr("192.0.2.1"), 0},
		{"another address", other, 0},
		{"in the midst of a request", other, 1},
		{"with a window full of requests", other, 8},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p, a, b := behindNAT(t)
			was := b.remote
			p.NAT.Rebind()
			p.NAT.Outside = tt.outside
			lost := asks(t, p.b, b, tt.busy)
			p.Run(100 * time.Millisecond)
			asks(t, p.a, a, 1)
			p.Run(10 * time.Second)
			if b.remote == was || b.remote.Addr() != tt.outside {
				t.Fatalf("b still sends to %s", b.remote)
			}
			if n := len(p.b.Changed); n != 1 || p.b.Changed[0].Peer.Remote != b.remote {
				t.Errorf("told %d times of the move: %+v", n, p.b.Changed)
			}
			for i, x := range lost {
				if x.ended != 1 {
					t.Errorf("request %d of b ended %d times", i, x.ended)
				}
			}
			if b.state != Established || b.trial != (trial{}) {
				t.Errorf("%s, trial %+v", b.state, b.trial)
			}
		})
	}
}

// TestPathMovesAfterSessionEnds has the request of a trial go with its session:
// the next move is followed all the same.
func TestPathMovesAfterSessionEnds(t *testing.T) {
	p, a, b := behindNAT(t)
	p.NAT.Rebind()
	asks(t, p.b, b, 1)
	asks(t, p.a, a, 1)
	p.Run(time.Millisecond)
	if b.trial.by == nil {
		t.Fatal("no trial is under way")
	}
	b.cur.ours.pending = nil
	p.NAT.Rebind()
	asks(t, p.a, a, 1)
	p.Run(time.Second)
	if want := p.NAT.Outside; b.remote.Addr() != want || b.remote.Port() != 20003 || b.trial != (trial{}) {
		t.Errorf("b sends to %s, trial %+v", b.remote, b.trial)
	}
}

// TestPathForged has somebody catch a message of the peer and send it on from
// elsewhere. It gets the answer, as RFC 7296 section 2.11 wants, and a
// question that it cannot answer; nothing else follows.
func TestPathForged(t *testing.T) {
	p, a, b := behindNAT(t)
	was := b.remote
	fromA := p.catch(p.a.Addr)
	asks(t, p.a, a, 1)
	attacker := netip.MustParseAddrPort("203.0.113.9:4500")
	if err := p.b.Do(b, ike.Datagram{Local: b.local, Remote: attacker, Data: (*fromA)[0]}); err != nil {
		t.Fatal(err)
	}
	p.Mangle = nil
	sent := len(p.b.Sent)
	mine := asks(t, p.b, b, 2)
	for _, s := range p.b.Sent[sent:] {
		if s.Remote != was {
			t.Errorf("a message went to %s", s.Remote)
		}
	}
	p.Run(20 * time.Second)
	if b.remote != was || len(p.b.Changed) != 0 {
		t.Errorf("b sends to %s", b.remote)
	}
	if b.state != Established || a.state != Established || len(b.cur.ours.pending) != 0 {
		t.Errorf("a is %s, b %s with %d requests under way", a.state, b.state, len(b.cur.ours.pending))
	}
	for i, x := range mine {
		if x.ended != 1 {
			t.Errorf("request %d of b ended %d times", i, x.ended)
		}
	}
	to := 0
	for _, s := range p.b.Sent {
		if s.Remote == attacker {
			to++
		}
	}
	if to != 1+trialSends {
		t.Errorf("%d messages to the attacker, want the answer and %d questions", to, trialSends)
	}
}

// TestPathWithoutNAT does not follow a peer that needs no NAT to move.
func TestPathWithoutNAT(t *testing.T) {
	p, a, b := established(t)
	was := b.remote
	fromA := p.catch(p.a.Addr)
	asks(t, p.a, a, 1)
	elsewhere := netip.MustParseAddrPort("203.0.113.9:500")
	if err := p.b.Do(b, ike.Datagram{Local: b.local, Remote: elsewhere, Data: (*fromA)[0]}); err != nil {
		t.Fatal(err)
	}
	if b.remote != was || b.trial != (trial{}) || len(b.cur.ours.pending) != 0 {
		t.Errorf("b sends to %s, trial %+v", b.remote, b.trial)
	}
	last := p.b.Sent[len(p.b.Sent)-1]
	if h, err := wire.ParseHeader(last.Data); err != nil || !h.Response || last.Remote != elsewhere {
		t.Errorf("no answer to where the request came from: %v to %s", h, last.Remote)
	}
}
