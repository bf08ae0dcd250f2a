package protect

// Suite is a protocol with the keys of an SA: what it makes of one packet. It
// is safe for concurrent use.
type Suite interface {
	Layout() Layout

	// Seal makes a packet. It has Len(n) bytes of the Layout, of which the n
	// bytes of payload are in their place and all others are to be written.
	Seal(pkt []byte, n int, seq uint64, nextHeader uint8)
	// Finish completes a packet that Seal has made, now that the IP header of
	// headerLen bytes before it is there. The SA has used sequence numbers up to
	// last.
	Finish(ip []byte, headerLen int, last uint64)

	// Number returns the lower half of a packet's sequence number; ok is false
	// when the packet is none that Seal makes.
	Number(header, pkt []byte) (low uint32, ok bool)
	// Open checks a packet that has a Number, and decrypts it in place. high is
	// the upper half of its sequence number. The error is ErrIntegrity or
	// ErrMalformed of package ipsec.
	Open(header, pkt []byte, high uint32) (payload []byte, nextHeader uint8, err error)
}

// Layout says how packets look, in bytes.
type Layout struct {
	Header  int // before the payload
	Trailer int // directly behind the payload, or behind the padding that follows it
	Align   int // payload, padding and trailer together are a multiple of it
	ICV     int // behind these
}

// Len returns the length of a packet with n bytes of payload.
func (l Layout) Len(n int) int {
	return l.Header + (n+l.Trailer+l.Align-1)/l.Align*l.Align + l.ICV
}

// Contents returns how many of a packet's bytes are payload, padding and
// trailer; ok is false when Len makes no packet as long as that.
func (l Layout) Contents(size int) (n int, ok bool) {
	n = size - l.Header - l.ICV
	return n, n >= l.Trailer && n%l.Align == 0
}

// Max returns the length of the longest payload whose packet has at most size
// bytes, or 0 when no payload has such a packet.
func (l Layout) Max(size int) int {
	room := size - l.Header - l.ICV
	return max(0, room-room%l.Align-l.Trailer)
}
