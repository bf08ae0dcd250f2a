package iketest

import (
	"bytes"
	"encoding/binary"
	"net/netip"

	"github.com/ipsecfw/ipsecfw/ipsec"
	"github.com/ipsecfw/ipsecfw/ipsec/ike/wire"
)

// watch sees all protected messages as they are sent, and holds them to what
// RFC 7296 says of numbers, repetitions and nonces.
type watch struct {
	world    *world
	messages map[messageKey][]byte
	ivs      map[ivKey][]byte
	next     map[side]uint32   // the number of the next request
	open     map[side][]uint32 // requests without an answer
}

// side is one direction of an IKE SA: it has its own keys, and its own numbers
// of requests.
type side struct {
	spiI, spiR    uint64
	fromInitiator bool
}

// messageKey names a message, or a fragment of one.
type messageKey struct {
	side
	response      bool
	id            uint32
	number, total uint16 // of a fragment, or 0
}

// ivKey is an IV under a key. All ciphers for IKE have IVs of at least eight
// bytes. Each IKE_INTERMEDIATE with a key exchange makes new keys, for what
// comes after it (RFC 9370 section 2.2.2).
type ivKey struct {
	side
	intermediate uint32 // the number of the IKE_INTERMEDIATE, 0 for all else
	iv           [8]byte
}

func newWatch(w *world) *watch {
	return &watch{
		world: w, messages: make(map[messageKey][]byte), ivs: make(map[ivKey][]byte),
		next: make(map[side]uint32), open: make(map[side][]uint32),
	}
}

// protected are the types of the payloads that protect a message: SK, and SKF
// of RFC 7383.
const typeSKF wire.PayloadType = 53

// sent checks a message at its sending. A message that was sent before may be
// sent again, bit for bit (section 2.1), and no other may bear its number. No
// two messages may have one key and one IV.
func (x *watch) sent(from, to netip.AddrPort, data []byte) {
	h, err := wire.ParseHeader(data)
	if err != nil {
		x.world.fail("%s sends what is no message: %v", from, err)
		return
	}
	body := data[28:]
	k := messageKey{side: side{h.SPIi, h.SPIr, h.Initiator}, response: h.Response, id: h.MessageID}
	switch {
	case h.FirstPayload == wire.TypeEncrypted && len(body) >= 12:
		body = body[4:]
	case h.FirstPayload == typeSKF && len(body) >= 16:
		k.number, k.total = binary.BigEndian.Uint16(body[4:]), binary.BigEndian.Uint16(body[6:])
		body = body[8:]
	default:
		return
	}
	if earlier, again := x.messages[k]; again {
		if !bytes.Equal(earlier, data) {
			x.world.fail("%s sends two messages with the number %d: %s (RFC 7296 section 2.1)", from, h.MessageID, headline(h))
		}
		return
	}
	x.messages[k] = data
	iv := ivKey{side: k.side, iv: [8]byte(body)}
	if h.Exchange == wire.IKEIntermediate {
		iv.intermediate = h.MessageID
	}
	if _, again := x.ivs[iv]; again {
		x.world.fail("%s uses the IV %x twice with one key: %s", from, iv.iv, headline(h))
	}
	x.ivs[iv] = data
	if !h.Response {
		x.request(from, to, k)
	}
}

// request checks that a new request lies within the window of the one that it
// is for (section 2.3). A request may be sent again in fragments.
func (x *watch) request(from, to netip.AddrPort, k messageKey) {
	if k.id < x.next[k.side] {
		return
	}
	x.next[k.side] = k.id + 1
	open := x.open[k.side]
	if size := x.world.window(from.Addr(), to.Addr()); len(open) > 0 && k.id-open[0] >= uint32(size) {
		x.world.fail("%s has the request %d under way and sends %d to a window of %d (RFC 7296 section 2.3)", from, open[0], k.id, size)
	}
	x.open[k.side] = append(open, k.id)
}

// arrived notes the answer to a request.
func (x *watch) arrived(h wire.Header) {
	if !h.Response {
		return
	}
	s := side{h.SPIi, h.SPIr, !h.Initiator}
	open := x.open[s]
	for i, id := range open {
		if id == h.MessageID {
			x.open[s] = append(open[:i:i], open[i+1:]...)
			return
		}
	}
}

// keyBook has all keys that Child SAs ever had.
type keyBook map[string]*keyUse

// keyUse is what a key was for: packets for one SPI, that one host sends and
// another receives.
type keyUse struct {
	spi      ipsec.SPI
	in, out  bool
	reported bool
}

// use notes that a host has a key for what it receives or for what it sends.
// Its nonces are counted for each SA from 0, so that two SAs with one key would
// use one nonce twice.
func (b keyBook) use(w *world, key string, spi ipsec.SPI, in bool) {
	u := b[key]
	if u == nil {
		u = &keyUse{spi: spi}
		b[key] = u
	}
	again := u.out
	if in {
		again = u.in
	}
	if (again || u.spi != spi) && !u.reported {
		u.reported = true
		w.fail("two Child SAs have the same key: those for the SPIs %s and %s", u.spi, spi)
	}
	if in {
		u.in = true
	} else {
		u.out = true
	}
}
