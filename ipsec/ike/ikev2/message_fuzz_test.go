package ikev2

import (
	"encoding/binary"
	"testing"
	"time"

	"github.com/ipsecfw/ipsecfw/ipsec"
	"github.com/ipsecfw/ipsecfw/ipsec/ike"
	"github.com/ipsecfw/ipsecfw/ipsec/ike/wire"
)

// FuzzContents has a peer that is authenticated say anything at all, whole or
// in fragments, as a request or as the answer to one: payloads of the fuzzer's
// making, sealed with the right keys. The other end must not panic, must keep
// to its policy, and must answer each request once at most.
func FuzzContents(f *testing.F) {
	chain := func(ps ...wire.Payload) (uint8, []byte) {
		first, b, err := wire.EncodePayloads(ps)
		if err != nil {
			f.Fatal(err)
		}
		return uint8(first), b
	}
	add := func(x wire.ExchangeType, response bool, cut uint16, ps ...wire.Payload) {
		first, b := chain(ps...)
		f.Add(uint8(x), response, cut, first, b)
	}
	rule := tunnel()
	esp := rule.Proposals[0]
	esp.SPI = []byte{1, 2, 3, 4}
	add(wire.Informational, false, 0)
	add(wire.Informational, true, 0)
	add(wire.Informational, false, 0, &wire.Delete{Protocol: ipsec.ProtoIKE})
	add(wire.Informational, false, 0, &wire.Delete{Protocol: ipsec.ProtoESP, SPIs: []ipsec.SPI{0x100, 0x200}})
	add(wire.Informational, false, 0, &wire.Notify{Kind: wire.SetWindowSize, Data: []byte{0, 0, 0, 9}})
	add(wire.Informational, false, 0, &wire.Notify{Kind: wire.AuthLifetime, Data: []byte{0, 0, 0, 9}})
	add(wire.CreateChildSA, false, 60, &wire.SA{Proposals: []ipsec.Proposal{esp}}, &wire.Nonce{Data: make([]byte, 32)},
		&wire.TS{Selectors: rule.Local}, &wire.TS{Responder: true, Selectors: rule.Remote})
	add(wire.CreateChildSA, false, 0, &wire.SA{Proposals: []ipsec.Proposal{proposalPRF(ipsec.PRFHMACSHA256)}},
		&wire.Nonce{Data: make([]byte, 32)}, &wire.KE{Group: ipsec.GroupX25519, Data: make([]byte, 32)})
	add(wire.CreateChildSA, true, 0, &wire.Notify{Kind: wire.TemporaryFailure})
	add(wire.IKEFollowupKE, false, 0, &wire.KE{Group: ipsec.GroupX25519, Data: make([]byte, 32)},
		&wire.Notify{Kind: wire.AdditionalKeyExchange, Data: []byte("link")})
	add(wire.IKEAuth, false, 0, &wire.ID{Kind: wire.IDNull}, &wire.Auth{Method: wire.AuthNull})
	add(wire.IKEIntermediate, false, 0, &wire.KE{Group: ipsec.GroupX25519, Data: make([]byte, 32)})
	f.Fuzz(func(t *testing.T, x uint8, response bool, cut uint16, first uint8, plain []byte) {
		if len(plain) > 20000 {
			return
		}
		p := newPair()
		proposals := []ipsec.Proposal{proposalPRF(ipsec.PRFHMACSHA256)}
		p.a.Policy.Proposals, p.b.Policy.Proposals = proposals, proposals
		a := p.acquire(t, nil, tunnel()).(*SA)
		p.Run(time.Second)
		if len(p.b.Machines) != 1 {
			t.Fatalf("not connected: %v", p.a.Failed)
		}
		b := p.b.Machines[0].(*SA)
		h := a.cur.header(wire.ExchangeType(x), b.cur.theirs.next, false)
		if response {
			begin(t, p.b, b, &createChild{acquire: ike.Acquire{Child: tunnel(), Local: one(p.b.Addr), Remote: one(p.a.Addr)}})
			h = a.cur.header(wire.ExchangeType(x), b.cur.ours.next-1, true)
		}
		var msgs [][]byte
		var err error
		if cut == 0 {
			msgs = [][]byte{sealed(t, a, h, wire.PayloadType(first), plain)}
		} else if msgs, err = wire.SealFragments(h, wire.PayloadType(first), plain, a.cur.out, 100+int(cut)); err != nil {
			return
		}
		p.a.Machines = nil // it would be surprised by the answer
		before := len(p.b.Sent)
		p.hand(p.b, b, msgs...)
		p.hand(p.b, b, msgs...) // and all again
		answers := map[uint32]string{}
		for _, s := range p.b.Sent[before:] {
			hd, err := wire.ParseHeader(s.Data)
			if err != nil {
				t.Fatal(err)
			}
			if was, again := answers[hd.MessageID]; hd.Response && hd.FirstPayload == wire.TypeEncrypted {
				if again && was != string(s.Data) {
					t.Errorf("two answers to request %d", hd.MessageID)
				}
				answers[hd.MessageID] = string(s.Data)
			}
		}
		for _, i := range p.b.Installed {
			for _, s := range append(i.SA.Local, i.SA.Remote...) {
				if !tunnel().Local[0].Contains(s) {
					t.Errorf("installed the selector %s", s)
				}
			}
		}
		p.Run(time.Minute)
		if b.state == Closed && len(p.b.Alive()) != 0 {
			t.Errorf("closed, and %d Child SAs are left", len(p.b.Alive()))
		}
	})
}

// FuzzMessage gives a machine, half open or established, what anybody may send
// it: the fuzzer's bytes with the header fields set right, so that they get as
// far as they can. Nothing of it may change the SA or be answered.
func FuzzMessage(f *testing.F) {
	f.Add(false, uint8(wire.IKEAuth), uint8(wire.TypeEncrypted), false, []byte{0, 0, 0, 40})
	f.Add(true, uint8(wire.Informational), uint8(wire.TypeFragment), false, []byte{41, 0, 0, 40, 0, 1, 0, 2, 1, 2, 3, 4, 5, 6, 7, 8})
	f.Add(true, uint8(wire.Informational), uint8(wire.TypeNotify), true, []byte{0, 0, 0, 8, 0, 0, 0, 4})
	f.Add(true, uint8(wire.CreateChildSA), uint8(wire.TypeSA), false, []byte{0, 0, 0, 4})
	f.Fuzz(func(t *testing.T, connected bool, x, first uint8, response bool, rest []byte) {
		if x == uint8(wire.IKESAInit) || len(rest) > 60000 {
			return
		}
		p := newPair()
		if !connected {
			p.catch(p.b.Addr) // its first answer is lost
		}
		a := p.acquire(t, nil, tunnel()).(*SA)
		p.Run(400 * time.Millisecond)
		p.Mangle = nil
		if len(p.b.Machines) != 1 {
			t.Fatalf("no responder: %v", p.b.Errors)
		}
		b := p.b.Machines[0].(*SA)
		state, next, sent := b.state, b.cur.theirs.next, len(p.b.Sent)
		h := a.cur.header(wire.ExchangeType(x), next, response)
		h.SPIr = b.cur.spiR
		data, err := wire.Encode(h, nil)
		if err != nil {
			t.Fatal(err)
		}
		data = append(data, rest...)
		data[16] = first
		binary.BigEndian.PutUint32(data[24:], uint32(len(data)))
		p.hand(p.b, b, data)
		if b.state != state || b.cur.theirs.next != next || len(p.b.Sent) != sent || len(b.cur.partial) != 0 {
			t.Errorf("from %s to %s, %d messages sent, %d kept", state, b.state, len(p.b.Sent)-sent, len(b.cur.partial))
		}
		p.Run(10 * time.Second)
		if connected && (a.state != Established || b.state != Established) {
			t.Errorf("a is %s, b %s", a.state, b.state)
		}
	})
}
