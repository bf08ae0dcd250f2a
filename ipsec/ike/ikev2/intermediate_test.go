package ikev2

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/ipsecfw/ipsecfw/ipsec"
	"github.com/ipsecfw/ipsecfw/ipsec/ike"
	"github.com/ipsecfw/ipsecfw/ipsec/ike/iketest"
	"github.com/ipsecfw/ipsecfw/ipsec/ike/wire"
)

// The numbers of the IANA registry "IKEv2 Parameters" that these exchanges
// live by.
func TestRegistry(t *testing.T) {
	for _, tt := range []struct {
		name      string
		got, want int
	}{
		{"transform type Additional Key Exchange 1", int(ipsec.TypeADDKE1), 6},
		{"transform type Additional Key Exchange 7", int(ipsec.TypeADDKE7), 12},
		{"key exchange method ml-kem-768", int(ipsec.GroupMLKEM768), 36},
		{"key exchange method ml-kem-1024", int(ipsec.GroupMLKEM1024), 37},
		{"exchange IKE_INTERMEDIATE", int(wire.IKEIntermediate), 43},
		{"exchange IKE_FOLLOWUP_KE", int(wire.IKEFollowupKE), 44},
		{"STATE_NOT_FOUND", int(wire.StateNotFound), 47},
		{"CHILDLESS_IKEV2_SUPPORTED", int(wire.ChildlessIKESupported), 16418},
		{"IKEV2_FRAGMENTATION_SUPPORTED", int(wire.FragmentationSupported), 16430},
		{"SIGNATURE_HASH_ALGORITHMS", int(wire.SignatureHashAlgorithms), 16431},
		{"USE_PPK", int(wire.UsePPK), 16435},
		{"PPK_IDENTITY", int(wire.PPKIdentity), 16436},
		{"NO_PPK_AUTH", int(wire.NoPPKAuth), 16437},
		{"INTERMEDIATE_EXCHANGE_SUPPORTED", int(wire.IntermediateSupported), 16438},
		{"ADDITIONAL_KEY_EXCHANGE", int(wire.AdditionalKeyExchange), 16441},
	} {
		if tt.got != tt.want {
			t.Errorf("%s is %d, want %d", tt.name, tt.got, tt.want)
		}
	}
}

// TestIntermediateResponder has the machine answer a peer that is played by
// hand, with as many additional key exchanges as there may be:
//
//	HDR(34), SAi1(.. ADDKE*.. 36), KEi(0), Ni, N(16438) -->
//	<-- HDR(34), SAr1(.. ADDKE*.. 36), KEr(0), Nr, N(16438)
//	HDR(43), SK {KEi(n)} -->                    for each n
//	<-- HDR(43), SK {KEr(n)}
//	HDR(35), SK {IDi, AUTH, SAi2, TSi, TSr} -->
//	<-- HDR(35), SK {IDr, AUTH, SAr2, TSi, TSr}
func TestIntermediateResponder(t *testing.T) {
	for n := range 3 {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			exchanges := slices.Repeat([]uint16{36}, min(n, 1))
			if n == 2 {
				exchanges = []uint16{36, 0, 37}
			}
			p, h := newByHand(t, true, exchanges...)
			m, ps := p.begin(h, []ipsec.Proposal{suiteByHand(exchanges...)}, 16438)
			if _, ok := wire.FindNotify(ps, 16438); !ok {
				t.Error("the answer has no INTERMEDIATE_EXCHANGE_SUPPORTED")
			}
			sa, _ := wire.Find[*wire.SA](ps)
			if got := sa.Proposals[0].Of(6); n > 0 && (len(got) != 1 || got[0].ID != 36) {
				t.Errorf("chosen: %s", sa.Proposals[0])
			}
			for _, x := range exchanges {
				if x != 0 { // NONE leaves one out
					p.exchange(h, m, x)
				}
			}
			p.authenticate(h, m, p.sk, p.sk, childPayloads()...)
			connected(t, h, 1)
			p.checkChild(h, p.sk)
		})
	}
}

// TestIntermediateInitiator is the same with the machine as the initiator.
func TestIntermediateInitiator(t *testing.T) {
	for n := range 3 {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			exchanges := []uint16{36, 37}[:n]
			p, h := newByHand(t, false, exchanges...)
			m, said := p.hear(h)
			next := p.send(h, m, p.answerInit(suiteByHand(exchanges...), 16438))
			if _, ok := wire.FindNotify(said, 16438); !ok {
				t.Error("the request has no INTERMEDIATE_EXCHANGE_SUPPORTED")
			}
			for _, x := range exchanges {
				next = p.encapsulate(h, m, x, p.one(next))
			}
			hd, ps := p.open(p.one(next))
			if hd.Exchange != 35 || hd.MessageID != uint32(1+n) {
				t.Fatalf("the machine goes on with %v", hd)
			}
			p.checkAuth(ps, p.sk)
			p.answerAuth(h, m, p.sk, childPayloads()...)
			connected(t, h, 1)
			p.checkChild(h, p.sk)
		})
	}
}

// TestIntermediateReserved has a peer that sets bits which mean nothing yet. They
// are a part of what is signed, as they came; those of a message in fragments are
// those of the first (RFC 9242 section 3.3.2).
func TestIntermediateReserved(t *testing.T) {
	for _, cut := range []bool{false, true} {
		t.Run(fmt.Sprintf("in fragments %v", cut), func(t *testing.T) {
			p, h := newByHand(t, true, 36)
			h.Policy.FragmentSize = 1400
			m, _ := p.begin(h, []ipsec.Proposal{suiteByHand(36)}, 16438, 16430)
			p.flags, p.reserved = 0x41, 0xd5
			if !cut {
				p.exchange(h, m, 36)
			} else {
				p.exchangeInParts(h, m)
			}
			p.authenticate(h, m, p.sk, p.sk, childPayloads()...)
			connected(t, h, 1)
		})
	}
}

// exchangeInParts is exchange with ML-KEM-768 and a request in two fragments,
// of which the second comes first.
func (p *byHand) exchangeInParts(h *iketest.Host, m ike.Machine) {
	p.t.Helper()
	public, decapsulate := p.kem(36)
	first, plain, err := wire.EncodePayloads([]wire.Payload{&wire.KE{Group: 36, Data: public}})
	p.must(err)
	fragment := func(number byte, next wire.PayloadType, reserved byte, part []byte) []byte {
		g, salt := p.aead(true)
		n := 28 + 8 + 8 + len(part) + 1 + 16
		b := p.head(43, 1, false, n)
		b[16] = 53
		b = append(b, byte(next), reserved)
		b = binary.BigEndian.AppendUint16(b, uint16(n-28))
		b = append(b, 0, number, 0, 2)
		p.iv++
		iv := binary.BigEndian.AppendUint64(nil, p.iv)
		return slices.Concat(b, iv, g.Seal(nil, slices.Concat(salt, iv), append(slices.Clone(part), 0), b))
	}
	if sent := p.send(h, m, fragment(2, 0, 0x2a, plain[600:])); len(sent) != 0 {
		p.t.Fatalf("%d answers to half a message", len(sent))
	}
	answer := p.one(p.send(h, m, fragment(1, first, p.reserved, plain[:600])))
	a := p.head(43, 1, false, 32+len(plain))
	a = append(a, byte(first), p.reserved)
	a = binary.BigEndian.AppendUint16(a, uint16(4+len(plain)))
	p.intAuth[0] = prfByHand(p.sk.pi, a, plain)
	_, ps := p.open(answer)
	ke, ok := wire.Find[*wire.KE](ps)
	if !ok {
		p.t.Fatalf("the answer is %v", ps)
	}
	shared, err := decapsulate(ke.Data)
	p.must(err)
	p.note(answer)
	p.exchanges++
	p.mix(shared)
}

// TestIntermediateRefused has requests that do not fit what was agreed on.
func TestIntermediateRefused(t *testing.T) {
	base := make([]byte, 32)
	base[0] = 9
	point := &wire.KE{Group: 31, Data: base} // a good one
	for _, tt := range []struct {
		name      string
		exchanges []uint16
		exchange  wire.ExchangeType
		payloads  []wire.Payload
	}{
		{"nothing was agreed on", nil, 43, []wire.Payload{point}},
		{"no key exchange", []uint16{36}, 43, nil},
		{"another method", []uint16{36}, 43, []wire.Payload{point}},
		{"a public value that is none", []uint16{36}, 43, []wire.Payload{&wire.KE{Group: 36, Data: make([]byte, 100)}}},
		{"IKE_AUTH too early", []uint16{36}, 35, []wire.Payload{identity, &wire.Auth{Method: wire.AuthPSK, Data: make([]byte, 32)}}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p, h := newByHand(t, true, tt.exchanges...)
			m, _ := p.begin(h, []ipsec.Proposal{suiteByHand(tt.exchanges...)}, 16438)
			_, ps := p.open(p.one(p.send(h, m, p.seal(tt.exchange, 1, false, tt.payloads...))))
			if _, ok := wire.FindNotify(ps, wire.InvalidSyntax); !ok {
				t.Errorf("the answer is %v, want INVALID_SYNTAX", ps)
			}
			if m.(*SA).State() != Refused || len(h.Failed) != 1 {
				t.Errorf("%s, %v", m.(*SA).State(), h.Failed)
			}
		})
	}
}

// TestIntermediateAnswerRefused has answers that do not fit.
func TestIntermediateAnswerRefused(t *testing.T) {
	for _, tt := range []struct {
		name    string
		payload wire.Payload
	}{
		{"error", &wire.Notify{Kind: wire.InvalidSyntax}},
		{"no key exchange", &wire.Notify{Kind: 40000}},
		{"another method", &wire.KE{Group: 37, Data: make([]byte, 1088)}}, // which anything is for ML-KEM-768
		{"a ciphertext that is none", &wire.KE{Group: 36, Data: make([]byte, 100)}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p, h := newByHand(t, false, 36)
			m, _ := p.hear(h)
			p.send(h, m, p.answerInit(suiteByHand(36), 16438))
			p.send(h, m, p.seal(43, 1, true, tt.payload))
			var why *ike.NegotiationError
			if len(h.Failed) != 1 || !errors.As(h.Failed[0].Why, &why) || why.Step != "IKE_INTERMEDIATE" || !errors.Is(why, ike.ErrRefused) {
				t.Errorf("failures %v", h.Failed)
			}
		})
	}
}

// A responder that chooses additional key exchanges and has no exchange for
// them chooses what makes no sense.
func TestChoiceWithoutIntermediate(t *testing.T) {
	p, h := newByHand(t, false, 36)
	m, _ := p.hear(h)
	answer := p.answerInit(suiteByHand(36))
	if err := h.Do(m, ike.Datagram{Local: p.b, Remote: p.a, Data: answer}); !errors.Is(err, ike.ErrNoProposal) || m.(*SA).State() != InitSent {
		t.Errorf("%v, %s", err, m.(*SA).State())
	}
}

// An initiator that offers additional key exchanges and does not say
// INTERMEDIATE_EXCHANGE_SUPPORTED gets none, and nothing at all from a host that
// insists.
func TestOfferWithoutIntermediate(t *testing.T) {
	p, h := newByHand(t, true)
	h.Policy.Proposals = withAndWithout(true, true)
	offer := withAndWithout(true, true)
	offer[1].Number = 2
	m, ps := p.begin(h, offer)
	sa, _ := wire.Find[*wire.SA](ps)
	if _, ok := wire.FindNotify(ps, 16438); ok || sa.Proposals[0].Number != 2 || len(sa.Proposals[0].Of(6)) != 0 {
		t.Errorf("chosen: %s", sa.Proposals[0])
	}
	p.authenticate(h, m, p.sk, p.sk, childPayloads()...)
	connected(t, h, 1)

	p, h = newByHand(t, true, 36)
	request, err := wire.Encode(wire.Header{SPIi: p.spiI, Version: wire.Version2, Exchange: 34, Initiator: true}, []wire.Payload{
		&wire.SA{Proposals: offer}, &wire.KE{Group: 31, Data: p.key.PublicKey().Bytes()}, &wire.Nonce{Data: p.ni},
	})
	p.must(err)
	_, ps, err = wire.Decode(p.one(p.send(h, NewResponder(h.Config(p.a.Addr())), request)))
	p.must(err)
	if _, ok := wire.FindNotify(ps, wire.NoProposalChosen); !ok {
		t.Errorf("the answer is %v", ps)
	}
}

// withAndWithout returns proposals with ML-KEM-768 and without, or one of the
// two.
func withAndWithout(with, without bool) (out []ipsec.Proposal) {
	if with {
		out = append(out, suiteByHand(36))
	}
	if without {
		out = append(out, suiteByHand())
	}
	return out
}

// TestFallback has ends that can do and want different things. An old peer is
// one that does not know RFC 9242, nor transform type 6, for which it leaves
// out a whole proposal (RFC 7296 section 3.3.6).
func TestFallback(t *testing.T) {
	for _, tt := range []struct {
		name                    string
		aWith, aWithout         bool
		bWith, bWithout, bIsOld bool
		exchanges               int // -1 for no agreement
	}{
		{"both can", true, true, true, true, false, 1},
		{"both insist", true, false, true, false, false, 1},
		{"b does not want it", true, true, false, true, false, 0},
		{"a does not want it", false, true, true, true, false, 0},
		{"b is old", true, true, false, true, true, 0},
		{"b is old, a insists", true, false, false, true, true, -1},
		{"b insists, a does not want it", false, true, true, false, false, -1},
	} {
		for _, by := range []string{"a", "b"} {
			t.Run(tt.name+", by "+by, func(t *testing.T) {
				w := newPair()
				w.a.Policy.Proposals = withAndWithout(tt.aWith, tt.aWithout)
				w.b.Policy.Proposals = withAndWithout(tt.bWith, tt.bWithout)
				x, y := w.a, w.b
				if by == "b" {
					x, y = w.b, w.a
				}
				if tt.bIsOld {
					strip(t, w, w.b)
				}
				m := NewInitiator(x.Config(y.Addr))
				if err := x.Do(m, ike.Acquire{Child: tunnel(), Local: one(x.Addr), Remote: one(y.Addr)}); err != nil {
					t.Fatal(err)
				}
				w.Run(time.Minute)
				ids := make(map[byte]bool)
				for _, s := range x.Sent {
					if s.Data[18] == 43 {
						ids[s.Data[23]] = true
					}
				}
				n := len(ids)
				if tt.exchanges < 0 {
					if len(x.Established) != 0 || !errors.Is(x.Failed[0].Why, ike.ErrNoProposal) {
						t.Errorf("established %v, failed %v", x.Established, x.Failed)
					}
					return
				}
				if tt.bIsOld { // what both ends sign differs after strip
					if n != 0 || len(x.Failed) == 0 || errors.Is(x.Failed[0].Why, ike.ErrNoProposal) {
						t.Errorf("%d exchanges, %v", n, x.Failed)
					}
					return
				}
				if n != tt.exchanges || len(w.a.Alive()) != 1 || len(w.b.Alive()) != 1 {
					t.Fatalf("%d exchanges, want %d; %v %v", n, tt.exchanges, x.Failed, y.Failed)
				}
				if got := len(additional(x.Established[0].Peer.Proposal)); got != tt.exchanges {
					t.Errorf("proposal %s", x.Established[0].Peer.Proposal)
				}
			})
		}
	}
}

// strip makes a host one that does not know RFC 9242: it neither says so nor
// hears it.
func strip(t *testing.T, w *pair, old *iketest.Host) {
	w.Mangle = func(_, _ netip.AddrPort, data []byte) []byte {
		h, ps, err := wire.Decode(data)
		if err != nil || h.Exchange != wire.IKESAInit {
			return data
		}
		ps = slices.DeleteFunc(ps, func(p wire.Payload) bool {
			n, ok := p.(*wire.Notify)
			return ok && n.Kind == wire.IntermediateSupported
		})
		if data, err = wire.Encode(h, ps); err != nil {
			t.Error(err)
		}
		return data
	}
}

// TestFirstMethodIsKEM has ML-KEM-768 in IKE_SA_INIT itself, and peers whose
// first choice it is or is not.
func TestFirstMethodIsKEM(t *testing.T) {
	first := func(ids ...uint16) []ipsec.Proposal {
		p := ipsec.Proposal{Protocol: ipsec.ProtoIKE, Transforms: []ipsec.Transform{encrGCM256(), {Type: ipsec.TypePRF, ID: ipsec.PRFHMACSHA256}}}
		for _, id := range ids {
			p.Transforms = append(p.Transforms, ipsec.Transform{Type: ipsec.TypeGroup, ID: id})
		}
		return []ipsec.Proposal{p}
	}
	for _, tt := range []struct {
		name  string
		a, b  []uint16
		inits int
		group uint16
	}{
		{"both", []uint16{36}, []uint16{36}, 1, 36},
		{"a first has another", []uint16{31, 36}, []uint16{36}, 2, 36},
		{"b has another", []uint16{36, 31}, []uint16{31}, 2, 31},
		{"a larger one", []uint16{31, 37}, []uint16{37}, 2, 37},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := newPair()
			w.a.Policy.Proposals, w.b.Policy.Proposals = first(tt.a...), first(tt.b...)
			w.acquire(t, nil, tunnel())
			w.Run(time.Second)
			if len(w.a.Alive()) != 1 || len(w.b.Alive()) != 1 {
				t.Fatalf("not connected: %v %v", w.a.Failed, w.b.Failed)
			}
			if g, _ := w.a.Established[0].Peer.Proposal.First(ipsec.TypeGroup); g.ID != tt.group {
				t.Errorf("group %s", g)
			}
			inits := 0
			for _, s := range w.a.Sent {
				if s.Data[18] == 34 {
					inits++
				}
			}
			if inits != tt.inits {
				t.Errorf("%d IKE_SA_INIT, want %d", inits, tt.inits)
			}
		})
	}
}

// TestIntermediateUnderLoss loses the first two of each kind of message, so
// that the requests of a stage come again when its keys are gone.
func TestIntermediateUnderLoss(t *testing.T) {
	w := newPair()
	w.a.Policy.Proposals = []ipsec.Proposal{suiteByHand(36, 37)}
	w.b.Policy.Proposals = w.a.Policy.Proposals
	type kind struct {
		from     netip.Addr
		exchange byte
		id       byte
	}
	lost := make(map[kind]int)
	w.Mangle = func(from, _ netip.AddrPort, data []byte) []byte {
		k := kind{from.Addr(), data[18], data[23]}
		if lost[k]++; lost[k] <= 2 {
			return nil
		}
		return data
	}
	w.acquire(t, nil, tunnel())
	w.Run(time.Minute)
	if len(w.a.Alive()) != 1 || len(w.b.Alive()) != 1 {
		t.Fatalf("not connected: %v %v", w.a.Failed, w.b.Failed)
	}
}

// TestStages looks at the keys of each stage: they differ, both ends have the
// same, and those of the stage before are wiped.
func TestStages(t *testing.T) {
	w := newPair()
	w.a.Policy.Proposals = []ipsec.Proposal{suiteByHand(36, 37)}
	w.b.Policy.Proposals = w.a.Policy.Proposals
	log := make(map[*iketest.Host][][]byte)
	config := func(h *iketest.Host, c ike.MachineConfig) ike.MachineConfig {
		c.KeyLog = func(s ike.Secrets) {
			if len(s.SKei) != 36 || s.SPIi == 0 || s.SPIr == 0 || len(s.SKai) != 0 {
				t.Errorf("secrets %d %d", len(s.SKei), len(s.SKai))
			}
			log[h] = append(log[h], slices.Concat(s.SKei, s.SKer))
		}
		return c
	}
	w.b.Responder = func(c ike.MachineConfig) ike.Machine { return NewResponder(config(w.b, c)) }
	m := NewInitiator(config(w.a, w.a.Config(w.b.Addr)))
	if err := w.a.Do(m, ike.Acquire{Child: tunnel(), Local: one(w.a.Addr), Remote: one(w.b.Addr)}); err != nil {
		t.Fatal(err)
	}
	var before []ikeKeys
	for range 20 {
		w.Run(500 * time.Microsecond)
		if s := m.cur; s.in != nil && m.start != nil && (len(before) == 0 || !bytes.Equal(before[len(before)-1].d, s.keys.d)) {
			before = append(before, s.keys)
		}
	}
	if len(log[w.a]) != 3 || !slices.EqualFunc(log[w.a], log[w.b], bytes.Equal) {
		t.Fatalf("%d and %d keys, want three at both ends", len(log[w.a]), len(log[w.b]))
	}
	if bytes.Equal(log[w.a][0], log[w.a][1]) || bytes.Equal(log[w.a][1], log[w.a][2]) {
		t.Error("a stage has the keys of the one before")
	}
	if len(before) != 3 {
		t.Fatalf("saw %d stages", len(before))
	}
	for i, k := range before[:2] {
		if zero := make([]byte, 32); !bytes.Equal(k.d, zero) || !bytes.Equal(k.pi, zero) || !bytes.Equal(k.pr, zero) {
			t.Errorf("the keys of stage %d are not wiped", i)
		}
	}
}
