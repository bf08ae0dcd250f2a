package ikev2

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/ecdh"
	"crypto/hmac"
	"crypto/mlkem"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"net/netip"
	"slices"
	"testing"

	"github.com/ipsecfw/ipsecfw/ipsec"
	"github.com/ipsecfw/ipsecfw/ipsec/ike"
	"github.com/ipsecfw/ipsecfw/ipsec/ike/iketest"
	"github.com/ipsecfw/ipsecfw/ipsec/ike/wire"
)

// byHand is a peer that a test plays step by step. It shares nothing with the
// machine but the codecs: keys, ciphers and proofs are computed here, from the
// formulas of RFC 7296, 9242, 9370 and 8784, with AES-GCM-16 of 256 bits,
// HMAC-SHA2-256 and X25519.
type byHand struct {
	t          *testing.T
	w          *pair
	initiator  bool
	a, b       netip.AddrPort // its own and the machine's
	spiI, spiR uint64
	ni, nr     []byte
	init       [2][]byte // IKE_SA_INIT, request and response
	key        *ecdh.PrivateKey
	sk         secrets
	intAuth    [2][]byte // of the initiator and the responder
	exchanges  uint32    // of IKE_INTERMEDIATE
	iv         uint64
	request    wire.Header // that was opened last
	flags      byte        // that mean nothing, in its IKE headers
	reserved   byte        // the same of its SK payloads
}

// secrets are those of RFC 7296 section 2.14: five of the seven, as AES-GCM
// has no SK_ai and SK_ar.
type secrets struct{ d, ei, er, pi, pr []byte }

func prfByHand(key []byte, parts ...[]byte) []byte {
	m := hmac.New(sha256.New, key)
	for _, p := range parts {
		m.Write(p)
	}
	return m.Sum(nil)
}

// plusByHand is prf+ (RFC 7296 section 2.13).
func plusByHand(key, seed []byte, n int) (out []byte) {
	var t []byte
	for i := byte(1); len(out) < n; i++ {
		t = prfByHand(key, t, seed, []byte{i})
		out = append(out, t...)
	}
	return out[:n]
}

// derive computes {SK_d | SK_ei | SK_er | SK_pi | SK_pr} =
// prf+ (SKEYSEED, Ni | Nr | SPIi | SPIr).
func (p *byHand) derive(seed []byte) {
	salt := slices.Concat(p.ni, p.nr)
	salt = binary.BigEndian.AppendUint64(salt, p.spiI)
	salt = binary.BigEndian.AppendUint64(salt, p.spiR)
	all := plusByHand(seed, salt, 3*32+2*36)
	take := func(n int) []byte { k := all[:n]; all = all[n:]; return k }
	p.sk.d, p.sk.ei, p.sk.er, p.sk.pi, p.sk.pr = take(32), take(36), take(36), take(32), take(32)
}

// mix is SKEYSEED(n) = prf(SK_d(n-1), SK(n) | Ni | Nr) and what follows.
func (p *byHand) mix(shared []byte) { p.derive(prfByHand(p.sk.d, shared, p.ni, p.nr)) }

// ppk is SK_x = prf+ (PPK, SK_x') of RFC 8784 section 3.
func (p *byHand) ppk(secret string) secrets {
	s := p.sk
	s.d, s.pi, s.pr = plusByHand([]byte(secret), s.d, 32), plusByHand([]byte(secret), s.pi, 32), plusByHand([]byte(secret), s.pr, 32)
	return s
}

func (p *byHand) must(err error) {
	p.t.Helper()
	if err != nil {
		p.t.Fatal(err)
	}
}

// aead returns the cipher and the salt of one direction.
func (p *byHand) aead(fromInitiator bool) (cipher.AEAD, []byte) {
	key := p.sk.er
	if fromInitiator {
		key = p.sk.ei
	}
	block, err := aes.NewCipher(key[:32])
	p.must(err)
	g, err := cipher.NewGCM(block)
	p.must(err)
	return g, key[32:]
}

// seal returns a protected message.
func (p *byHand) seal(x wire.ExchangeType, id uint32, response bool, ps ...wire.Payload) []byte {
	p.t.Helper()
	first, plain, err := wire.EncodePayloads(ps)
	p.must(err)
	g, salt := p.aead(p.initiator)
	n := 28 + 4 + 8 + len(plain) + 1 + 16
	b := p.head(x, id, response, n)
	b = append(b, byte(first), p.reserved)
	b = binary.BigEndian.AppendUint16(b, uint16(n-28))
	p.iv++
	iv := binary.BigEndian.AppendUint64(nil, p.iv)
	sealed := g.Seal(nil, slices.Concat(salt, iv), append(plain, 0), b)
	return slices.Concat(b, iv, sealed)
}

// head returns an IKE header whose next payload is SK, number 46.
func (p *byHand) head(x wire.ExchangeType, id uint32, response bool, length int) []byte {
	b := binary.BigEndian.AppendUint64(nil, p.spiI)
	b = binary.BigEndian.AppendUint64(b, p.spiR)
	flags := p.flags
	if p.initiator {
		flags |= 0x08
	}
	if response {
		flags |= 0x20
	}
	b = append(b, 46, 0x20, byte(x), flags)
	b = binary.BigEndian.AppendUint32(b, id)
	return binary.BigEndian.AppendUint32(b, uint32(length))
}

// open returns the contents of a protected message of the machine.
func (p *byHand) open(data []byte) (wire.Header, []wire.Payload) {
	p.t.Helper()
	h, err := wire.ParseHeader(data)
	p.must(err)
	first, plain := p.plain(data)
	ps, err := wire.DecodePayloads(first, plain)
	p.must(err)
	p.request = h
	return h, ps
}

func (p *byHand) plain(data []byte) (wire.PayloadType, []byte) {
	p.t.Helper()
	if data[16] != 46 {
		p.t.Fatalf("next payload %d, want SK", data[16])
	}
	g, salt := p.aead(data[19]&0x08 != 0)
	plain, err := g.Open(nil, slices.Concat(salt, data[32:40]), data[40:], data[:32])
	p.must(err)
	return wire.PayloadType(data[28]), plain[:len(plain)-1-int(plain[len(plain)-1])]
}

// note continues IntAuth with a message of IKE_INTERMEDIATE, whichever end it
// is of: IntAuth_xN = prf(SK_pxN, IntAuth_xN-1 | IntAuth_xNA | IntAuth_xNP).
func (p *byHand) note(data []byte) {
	_, plain := p.plain(data)
	a := slices.Clone(data[:32])
	binary.BigEndian.PutUint32(a[24:], uint32(32+len(plain))) // the adjusted lengths
	binary.BigEndian.PutUint16(a[30:], uint16(4+len(plain)))
	i, key := 1, p.sk.pr
	if a[19]&0x08 != 0 {
		i, key = 0, p.sk.pi
	}
	p.intAuth[i] = prfByHand(key, p.intAuth[i], a, plain)
}

// octets is what one end signs.
func (p *byHand) octets(initiator bool, sk secrets, id *wire.ID) []byte {
	message, nonce, key := p.init[1], p.ni, sk.pr
	if initiator {
		message, nonce, key = p.init[0], p.nr, sk.pi
	}
	out := slices.Concat(message, nonce, prfByHand(key, []byte{byte(id.Kind), 0, 0, 0}, id.Data))
	if p.exchanges > 0 {
		out = slices.Concat(out, p.intAuth[0], p.intAuth[1])
		out = binary.BigEndian.AppendUint32(out, 1+p.exchanges) // IKE_AUTH's number
	}
	return out
}

// mac is AUTH of a shared key.
func macByHand(secret, octets []byte) []byte {
	return prfByHand(prfByHand(secret, []byte("Key Pad for IKEv2")), octets)
}

var identity = &wire.ID{Kind: wire.IDFQDN, Data: []byte("by.hand")}

// send gives a datagram to the machine and returns what it sends.
func (p *byHand) send(h *iketest.Host, m ike.Machine, data []byte) [][]byte {
	p.t.Helper()
	before := len(h.Sent)
	if err := h.Do(m, ike.Datagram{Local: p.b, Remote: p.a, Data: data}); err != nil {
		p.t.Fatalf("the machine refuses: %v", err)
	}
	var out [][]byte
	for _, s := range h.Sent[before:] {
		out = append(out, s.Data)
	}
	return out
}

// one fails unless there is one datagram.
func (p *byHand) one(sent [][]byte) []byte {
	p.t.Helper()
	if len(sent) != 1 {
		p.t.Fatalf("%d datagrams, want one", len(sent))
	}
	return sent[0]
}

func encrGCM256() ipsec.Transform {
	return ipsec.Transform{Type: ipsec.TypeEncr, ID: ipsec.EncrAESGCM16, KeyBits: 256}
}

// suiteByHand is the IKE proposal that the peer speaks, with additional key
// exchanges: the first is of transform type 6, the second of 7, and so on.
func suiteByHand(exchanges ...uint16) ipsec.Proposal {
	p := ipsec.Proposal{Number: 1, Protocol: ipsec.ProtoIKE, Transforms: []ipsec.Transform{
		encrGCM256(), {Type: ipsec.TypePRF, ID: ipsec.PRFHMACSHA256}, {Type: ipsec.TypeGroup, ID: ipsec.GroupX25519},
	}}
	for i, x := range exchanges {
		p.Transforms = append(p.Transforms, ipsec.Transform{Type: ipsec.TransformType(6 + i), ID: x})
	}
	return p
}

// newByHand returns a peer and the host that it talks to, which takes the
// suite and the preshared key "staff".
func newByHand(t *testing.T, initiator bool, exchanges ...uint16) (*byHand, *iketest.Host) {
	t.Helper()
	w := newPair()
	p := &byHand{t: t, w: w, initiator: initiator, a: netip.AddrPortFrom(w.a.Addr, 500), b: netip.AddrPortFrom(w.b.Addr, 500)}
	w.b.Policy.Proposals = []ipsec.Proposal{suiteByHand(exchanges...)}
	w.b.Policy.FragmentSize = -1
	w.b.Policy.LocalID = "machine"
	var err error
	p.key, err = ecdh.X25519().GenerateKey(rand.Reader)
	p.must(err)
	nonce := make([]byte, 32)
	rand.Read(nonce)
	if initiator {
		p.ni, p.spiI = nonce, 0x1111
	} else {
		p.nr, p.spiR = nonce, 0x2222
	}
	return p, w.b
}

// begin is IKE_SA_INIT of an initiator.
func (p *byHand) begin(h *iketest.Host, proposals []ipsec.Proposal, ns ...wire.NotifyType) (ike.Machine, []wire.Payload) {
	p.t.Helper()
	ps := []wire.Payload{
		&wire.SA{Proposals: proposals}, &wire.KE{Group: 31, Data: p.key.PublicKey().Bytes()}, &wire.Nonce{Data: p.ni},
	}
	for _, n := range ns {
		ps = append(ps, &wire.Notify{Kind: n})
	}
	var err error
	p.init[0], err = wire.Encode(wire.Header{SPIi: p.spiI, Version: wire.Version2, Exchange: 34, Initiator: true}, ps)
	p.must(err)
	m := NewResponder(h.Config(p.a.Addr()))
	p.init[1] = p.one(p.send(h, m, p.init[0]))
	hd, ps, err := wire.Decode(p.init[1])
	p.must(err)
	p.spiR = hd.SPIr
	p.initDone(ps)
	return m, ps
}

// initDone derives the keys from the machine's half of IKE_SA_INIT.
func (p *byHand) initDone(ps []wire.Payload) {
	p.t.Helper()
	ke, ok1 := wire.Find[*wire.KE](ps)
	nonce, ok2 := wire.Find[*wire.Nonce](ps)
	if !ok1 || !ok2 {
		p.t.Fatalf("no agreement: %v", ps)
	}
	if p.initiator {
		p.nr = nonce.Data
	} else {
		p.ni = nonce.Data
	}
	pub, err := ecdh.X25519().NewPublicKey(ke.Data)
	p.must(err)
	shared, err := p.key.ECDH(pub)
	p.must(err)
	p.derive(prfByHand(slices.Concat(p.ni, p.nr), shared))
}

// kemByHand returns an encapsulation key of ML-KEM-768 (36) or ML-KEM-1024
// (37), and what takes the secret out of a ciphertext.
func (p *byHand) kem(group uint16) (public []byte, decapsulate func([]byte) ([]byte, error)) {
	if group == 37 {
		k, err := mlkem.GenerateKey1024()
		p.must(err)
		return k.EncapsulationKey().Bytes(), k.Decapsulate
	}
	k, err := mlkem.GenerateKey768()
	p.must(err)
	return k.EncapsulationKey().Bytes(), k.Decapsulate
}

// exchange is one IKE_INTERMEDIATE of an initiator.
func (p *byHand) exchange(h *iketest.Host, m ike.Machine, group uint16) {
	p.t.Helper()
	public, decapsulate := p.kem(group)
	request := p.seal(43, 1+p.exchanges, false, &wire.KE{Group: group, Data: public})
	answer := p.one(p.send(h, m, request))
	hd, ps := p.open(answer)
	ke, ok := wire.Find[*wire.KE](ps)
	if !ok || hd.Exchange != 43 || ke.Group != group || hd.MessageID != 1+p.exchanges || !hd.Response {
		p.t.Fatalf("the answer is %v, %v", hd, ps)
	}
	if again := p.one(p.send(h, m, request)); !bytes.Equal(again, answer) {
		p.t.Error("the answer differs when the request comes again")
	}
	shared, err := decapsulate(ke.Data)
	p.must(err)
	p.note(request)
	p.note(answer)
	p.exchanges++
	p.mix(shared)
}

// childPayloads ask for the Child SA of the rule tunnel.
func childPayloads() []wire.Payload {
	ts := tunnel().Local
	p := ipsec.Proposal{Number: 1, Protocol: ipsec.ProtoESP, SPI: []byte{1, 2, 3, 4}, Transforms: []ipsec.Transform{encrGCM256(), {Type: ipsec.TypeESN}}}
	return []wire.Payload{&wire.SA{Proposals: []ipsec.Proposal{p}}, &wire.TS{Selectors: ts}, &wire.TS{Responder: true, Selectors: ts}}
}

// authenticate is IKE_AUTH of an initiator by the preshared key. It returns
// the answer's contents and fails unless the answer proves, with the secrets
// given, who the machine is.
func (p *byHand) authenticate(h *iketest.Host, m ike.Machine, sk, theirs secrets, more ...wire.Payload) []wire.Payload {
	p.t.Helper()
	ps := p.tryAuth(h, m, &wire.Auth{Method: wire.AuthPSK, Data: macByHand([]byte("staff"), p.octets(true, sk, identity))}, more...)
	p.checkAuth(ps, theirs)
	return ps
}

func (p *byHand) tryAuth(h *iketest.Host, m ike.Machine, auth *wire.Auth, more ...wire.Payload) []wire.Payload {
	p.t.Helper()
	answer := p.one(p.send(h, m, p.seal(35, 1+p.exchanges, false, append([]wire.Payload{identity, auth}, more...)...)))
	hd, ps := p.open(answer)
	if hd.Exchange != 35 || hd.MessageID != 1+p.exchanges || !hd.Response {
		p.t.Fatalf("the answer is %v", hd)
	}
	return ps
}

// checkAuth fails unless a message proves that the machine has the preshared
// key and signed the same exchanges.
func (p *byHand) checkAuth(ps []wire.Payload, sk secrets) {
	p.t.Helper()
	id, ok1 := wire.FindID(ps, p.initiator)
	auth, ok2 := wire.Find[*wire.Auth](ps)
	if !ok1 || !ok2 {
		p.t.Fatalf("no proof: %v", ps)
	}
	if want := macByHand([]byte("staff"), p.octets(!p.initiator, sk, id)); !bytes.Equal(auth.Data, want) {
		p.t.Errorf("AUTH %x, want %x", auth.Data, want)
	}
}

// hear is an initiating machine's IKE_SA_INIT to a responder by hand.
func (p *byHand) hear(h *iketest.Host) (m ike.Machine, said []wire.Payload) {
	p.t.Helper()
	m = NewInitiator(h.Config(p.a.Addr()))
	p.must(h.Do(m, ike.Acquire{Child: tunnel(), Local: one(h.Addr), Remote: one(p.a.Addr())}))
	p.init[0] = h.Sent[len(h.Sent)-1].Data
	hd, said, err := wire.Decode(p.init[0])
	p.must(err)
	p.spiI = hd.SPIi
	p.initDone(said)
	return m, said
}

// answerInit is the answer to that, with some notifications.
func (p *byHand) answerInit(chosen ipsec.Proposal, ns ...wire.NotifyType) []byte {
	ps := []wire.Payload{&wire.SA{Proposals: []ipsec.Proposal{chosen}}, &wire.KE{Group: 31, Data: p.key.PublicKey().Bytes()}, &wire.Nonce{Data: p.nr}}
	for _, n := range ns {
		ps = append(ps, &wire.Notify{Kind: n})
	}
	var err error
	p.init[1], err = wire.Encode(wire.Header{SPIi: p.spiI, SPIr: p.spiR, Version: wire.Version2, Exchange: 34, Response: true}, ps)
	p.must(err)
	return p.init[1]
}

// encapsulate answers an IKE_INTERMEDIATE request of the machine and returns
// what it sends next.
func (p *byHand) encapsulate(h *iketest.Host, m ike.Machine, group uint16, request []byte) [][]byte {
	p.t.Helper()
	hd, ps := p.open(request)
	ke, ok := wire.Find[*wire.KE](ps)
	if !ok || hd.Exchange != 43 || ke.Group != group || hd.MessageID != 1+p.exchanges {
		p.t.Fatalf("the request is %v, %v", hd, ps)
	}
	var shared, ct []byte
	if group == 37 {
		k, err := mlkem.NewEncapsulationKey1024(ke.Data)
		p.must(err)
		shared, ct = k.Encapsulate()
	} else {
		k, err := mlkem.NewEncapsulationKey768(ke.Data)
		p.must(err)
		shared, ct = k.Encapsulate()
	}
	answer := p.seal(43, hd.MessageID, true, &wire.KE{Group: group, Data: ct})
	p.note(request)
	p.note(answer)
	p.exchanges++
	next := p.send(h, m, answer)
	p.mix(shared)
	return next
}

// answerAuth proves who the responder is.
func (p *byHand) answerAuth(h *iketest.Host, m ike.Machine, sk secrets, more ...wire.Payload) [][]byte {
	p.t.Helper()
	id := *identity
	id.Responder = true
	auth := &wire.Auth{Method: wire.AuthPSK, Data: macByHand([]byte("staff"), p.octets(false, sk, &id))}
	return p.send(h, m, p.seal(35, p.request.MessageID, true, append([]wire.Payload{&id, auth}, more...)...))
}

// connected fails unless the host has one IKE SA, and n Child SAs.
func connected(t *testing.T, h *iketest.Host, n int) ike.PeerInfo {
	t.Helper()
	if len(h.Established) != 1 || len(h.Installed) != n {
		t.Fatalf("%d IKE SAs, %d Child SAs, want 1 and %d: %v", len(h.Established), len(h.Installed), n, h.Failed)
	}
	return h.Established[0].Peer
}

// childKeysByHand are those of the Child SA that came with IKE_AUTH:
// KEYMAT = prf+ (SK_d, Ni | Nr).
func (p *byHand) childKeys(sk secrets) []byte {
	return plusByHand(sk.d, slices.Concat(p.ni, p.nr), 2*36)
}

// checkChild fails unless the machine installed a Child SA with these keys.
func (p *byHand) checkChild(h *iketest.Host, sk secrets) {
	p.t.Helper()
	k, sa := p.childKeys(sk), h.Installed[0].SA
	toR, toI := k[:36], k[36:]
	in, out := toR, toI
	if !p.initiator {
		in, out = toI, toR
	}
	if !bytes.Equal(sa.InKeys.Encr, in) || !bytes.Equal(sa.OutKeys.Encr, out) {
		p.t.Error("the Child SA has other keys")
	}
}
