package packet

import (
	"encoding/binary"
	"errors"
)

// Why Fragmenter.Reset refuses a packet.
var (
	ErrNoRoom   = errors.New("fragments have no room for data behind the IP header")
	ErrFragment = errors.New("packet is a fragment of IPv6, or has a fragment header: it cannot be fragmented")
)

// fragmentHeaderLen is the length of IPv6's fragment header in bytes.
const fragmentHeaderLen = 8

// Fragmenter cuts a packet into fragments (RFC 791 section 3.2, RFC 8200
// section 4.5). The zero value has none, and a Fragmenter is used again for the
// next packet. It does not ask whether a packet may be fragmented.
type Fragmenter struct {
	pkt    []byte // the packet without padding
	v4     bool
	head   int // bytes of the headers that each fragment repeats
	nextAt int
	id     uint32
	size   int // bytes of data in each fragment but the last
	pos    int // bytes of data already cut
	base   int // where the packet's own data belongs, in bytes
	after  bool
}

// Reset makes f cut pkt, which Parse read into p, into fragments of at most mtu
// bytes. A packet that fits is one, and not changed. The id is the
// identification, of which IPv4 takes the lower half, and that only for a packet
// that has none. The Fragmenter refers to pkt until the next Reset.
//
// It fails with ErrNoRoom or ErrFragment, and then has no fragments.
func (f *Fragmenter) Reset(pkt []byte, p *Packet, mtu int, id uint32) error {
	*f = Fragmenter{}
	head, nextAt := EnRoute(pkt, p)
	size := mtu - head
	if p.Len > mtu {
		if !p.Is4() {
			if pkt[nextAt] == fragment || nextAt >= IPv6HeaderLen && hasFragmentHeader(pkt, head) {
				return ErrFragment
			}
			size -= fragmentHeaderLen
		}
		size &^= 7
		if size < 8 {
			return ErrNoRoom
		}
	}
	if own := binary.BigEndian.Uint16(pkt[4:]); p.Is4() && own != 0 {
		id = uint32(own)
	}
	*f = Fragmenter{
		pkt: pkt[:p.Len], v4: p.Is4(), head: head, nextAt: nextAt, id: id, size: size,
		base: int(p.FragmentOffset), after: p.MoreFragments,
	}
	return nil
}

// hasFragmentHeader reports whether one of the extension headers in the first
// head bytes of an IPv6 packet is a fragment header.
func hasFragmentHeader(b []byte, head int) bool {
	for next, pos := b[6], IPv6HeaderLen; pos < head; {
		if next == fragment {
			return true
		}
		next, pos = b[pos], pos+8+int(b[pos+1])*8
	}
	return false
}

// Next writes the next fragment as a whole IP packet to dst and returns its
// length in bytes; ok is false when there is no more. dst must have room for the
// mtu bytes of Reset.
func (f *Fragmenter) Next(dst []byte) (n int, ok bool) {
	data := f.pkt[min(len(f.pkt), f.head+f.pos):]
	if len(data) == 0 {
		return 0, false
	}
	more := len(data) > f.size
	if f.pos == 0 && !more {
		f.pos += len(data)
		return copy(dst, f.pkt), true
	}
	if more {
		data = data[:f.size]
	}
	n = copy(dst, f.pkt[:f.head])
	if f.v4 {
		f.finish4(dst[:n], len(data), more)
	} else {
		f.finish6(dst[:n+fragmentHeaderLen], len(data), more)
		n += fragmentHeaderLen
	}
	n += copy(dst[n:], data)
	f.pos += len(data)
	return n, true
}

func (f *Fragmenter) finish4(h []byte, data int, more bool) {
	const dontFragment, moreFragments = 0x4000, 0x2000
	word := binary.BigEndian.Uint16(h[6:])&dontFragment | uint16((f.base+f.pos)>>3)
	if more || f.after {
		word |= moreFragments
	}
	if f.pos > 0 {
		blankOptions(h[IPv4HeaderLen:])
	}
	binary.BigEndian.PutUint16(h[2:], uint16(len(h)+data))
	binary.BigEndian.PutUint16(h[4:], uint16(f.id))
	binary.BigEndian.PutUint16(h[6:], word)
	FinishHeaderChecksum(h)
}

// blankOptions overwrites, by the option that does nothing, the IPv4 options
// that only the first fragment has: those without the copied flag.
func blankOptions(opts []byte) {
	const end, nop, copied = 0, 1, 0x80
	for len(opts) > 0 && opts[0] != end {
		n := 1
		if opts[0] != nop {
			if len(opts) < 2 || opts[1] < 2 || int(opts[1]) > len(opts) {
				return
			}
			n = int(opts[1])
		}
		if opts[0]&copied == 0 {
			for i := range n {
				opts[i] = nop
			}
		}
		opts = opts[n:]
	}
}

func (f *Fragmenter) finish6(h []byte, data int, more bool) {
	binary.BigEndian.PutUint16(h[4:], uint16(len(h)-IPv6HeaderLen+data))
	x := h[f.head:]
	x[0], x[1] = h[f.nextAt], 0
	h[f.nextAt] = fragment
	word := uint16(f.pos)
	if more {
		word |= 1
	}
	binary.BigEndian.PutUint16(x[2:], word)
	binary.BigEndian.PutUint32(x[4:], f.id)
}
