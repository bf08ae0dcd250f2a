package wire

import (
	"cmp"
	"encoding/binary"
	"slices"
)

// fragmentLen is the SKF payload's generic header and its two numbers.
const fragmentLen = genericLen + 4

// Fragment is the SKF payload as it stands on the wire (RFC 7383 section
// 2.5): IV, ciphertext and ICV of a part of what an SK payload would hold.
type Fragment struct {
	Inner  PayloadType // the first payload inside the whole message; only fragment 1 knows it
	Number uint16      // from 1 to Total
	Total  uint16
	Body   []byte
}

// Type returns TypeFragment.
func (*Fragment) Type() PayloadType { return TypeFragment }

func decodeFragment(inner PayloadType, c cursor) (*Fragment, error) {
	head, err := c.take(fragmentLen - genericLen)
	if err != nil {
		return nil, err
	}
	f := &Fragment{Inner: inner, Number: binary.BigEndian.Uint16(head), Total: binary.BigEndian.Uint16(head[2:])}
	if !f.counted() {
		return nil, c.fail("fragment %d of %d", f.Number, f.Total)
	}
	if f.Number != 1 {
		f.Inner = NoNextPayload
	}
	f.Body = c.takeRest()
	return f, nil
}

func (f *Fragment) counted() bool { return f.Number >= 1 && f.Number <= f.Total }

func (f *Fragment) appendBody(dst []byte) ([]byte, error) {
	if !f.counted() || f.Number != 1 && f.Inner != NoNextPayload {
		return nil, cannotEncode(TypeFragment, dst, "fragment %d of %d, of which %s is the first payload", f.Number, f.Total, f.Inner)
	}
	dst = binary.BigEndian.AppendUint16(dst, f.Number)
	return append(binary.BigEndian.AppendUint16(dst, f.Total), f.Body...), nil
}

// MaxFragments is how many fragments a message may have: one of 64 KiB in
// datagrams of 576 bytes has fewer.
const MaxFragments = 255

// SealFragments writes a message in parts (RFC 7383 section 2.5), none of
// which is larger than size: bytes of an IKE message from its header on,
// without the headers of IP and UDP and the non-ESP marker. The payloads are
// those that EncodePayloads has written. The error is an *Error when the
// message does not go into MaxFragments parts of this size, else it is c's.
func SealFragments(h Header, first PayloadType, plaintext []byte, c Sealer, size int) ([][]byte, error) {
	room := size - headerLen - fragmentLen
	n := room
	for n > 0 && c.SealedLen(n) > room {
		n -= c.SealedLen(n) - room
	}
	for n > 0 && c.SealedLen(n+1) <= room { // padding makes for steps
		n++
	}
	if n <= 0 || len(plaintext) > n*MaxFragments {
		return nil, cannotEncode(TypeFragment, plaintext, "%d bytes in fragments of %d", len(plaintext), size)
	}
	total := max(1, (len(plaintext)+n-1)/n)
	out := make([][]byte, 0, total)
	for i := range total {
		head := []byte{byte(first), 0, 0, 0}
		if i > 0 {
			head[0] = byte(NoNextPayload)
		}
		head = binary.BigEndian.AppendUint16(head, uint16(i+1))
		head = binary.BigEndian.AppendUint16(head, uint16(total))
		b, err := seal(h, TypeFragment, head, plaintext[i*n:min((i+1)*n, len(plaintext))], c)
		if err != nil {
			return nil, err
		}
		out = append(out, b)
	}
	return out, nil
}

// Reassembly puts the fragments of one message together (RFC 7383 section
// 2.6). Its zero value waits for the first one, whichever that is. What it
// keeps is what came, never more than its caller allows.
type Reassembly struct {
	first PayloadType
	total uint16
	parts []part // in the order of their numbers
	size  int
}

type part struct {
	number uint16
	data   []byte
}

// Wants reports whether a fragment would bring something new, so that it is
// worth to be decrypted. It does not after it came before, when the fragments
// that came belong to a later attempt of the sender with smaller, and so more,
// fragments (RFC 7383 section 2.5.2), or when it has too many.
func (r *Reassembly) Wants(f *Fragment) bool {
	if f.Total > MaxFragments || f.Total < r.total {
		return false
	}
	_, have := r.search(f.Number)
	return f.Total > r.total || !have
}

func (r *Reassembly) search(number uint16) (int, bool) {
	return slices.BinarySearchFunc(r.parts, number, func(p part, n uint16) int { return cmp.Compare(p.number, n) })
}

// Add keeps the plaintext of a fragment, which must be authentic and wanted,
// unless all that is kept would exceed most bytes; then the message is to be
// forgotten. The first fragment of a later attempt displaces what came of the
// earlier one.
func (r *Reassembly) Add(f *Fragment, plaintext []byte, most int) (ok bool) {
	if f.Total > r.total {
		*r = Reassembly{total: f.Total}
	}
	if r.size+len(plaintext) > most {
		return false
	}
	if f.Number == 1 {
		r.first = f.Inner
	}
	i, _ := r.search(f.Number)
	r.parts = slices.Insert(r.parts, i, part{f.Number, plaintext})
	r.size += len(plaintext)
	return true
}

// Size is how many bytes are kept.
func (r *Reassembly) Size() int { return r.size }

// Whole returns what DecodePayloads reads once all fragments have come.
func (r *Reassembly) Whole() (first PayloadType, plaintext []byte, ok bool) {
	if r.total == 0 || len(r.parts) < int(r.total) {
		return NoNextPayload, nil, false
	}
	plaintext = make([]byte, 0, r.size)
	for _, p := range r.parts {
		plaintext = append(plaintext, p.data...)
	}
	return r.first, plaintext, true
}
