package ikev2

import (
	"fmt"
	"maps"
	"net/netip"
	"time"

	"github.com/ipsecfw/ipsecfw/ipsec/ike"
	"github.com/ipsecfw/ipsecfw/ipsec/ike/wire"
)

// shrinkAt is the sending of a message at which its datagrams become as small
// as every path takes them (RFC 7383 section 2.5.2).
const shrinkAt = 3

// room returns how many bytes of an IKE message go into an IP datagram of a
// size, behind the headers of IP and UDP and the non-ESP marker, which a message
// from port 500 does without (RFC 7383 appendix B).
func room(size int, by path) int {
	const ip4, ip6, udp, marker = 20, 40, 8, 4
	size -= udp
	if by.local.Port() != ike.PortIKE {
		size -= marker
	}
	if a := by.remote.Addr(); a.Is4() || a.Is4In6() {
		return size - ip4
	}
	return size - ip6
}

// cut seals a message: in one piece, or in fragments if it would be larger
// than an IP datagram of a size, 0 for any size.
func (m *outgoing) cut(size int, by path) ([][]byte, error) {
	whole := func() ([][]byte, error) {
		b, err := wire.Seal(m.header, m.first, m.plain, m.cipher)
		return [][]byte{b}, err
	}
	if size == 0 {
		return whole()
	}
	n := room(size, by)
	if wire.SealedSize(len(m.plain), m.cipher) <= n {
		return whole()
	}
	return wire.SealFragments(m.header, m.first, m.plain, m.cipher, n)
}

// least is the size of an IP datagram that every path takes (RFC 7383 section
// 2.5.1).
func least(remote netip.Addr) int {
	if remote.Is4() || remote.Is4In6() {
		return 576
	}
	return 1280
}

// shrink cuts a message anew, into datagrams that every path takes, and
// reports whether they are smaller than before. The peer takes fragments of
// which there are more than before (RFC 7383 section 2.6).
func (s *SA) shrink(ses *session, m *outgoing) bool {
	size := least(s.remote.Addr())
	if ses.fragmentSize <= size || m.cipher == nil {
		return false
	}
	data, err := m.cut(size, path{s.local, s.remote})
	if err != nil || len(data) <= len(m.data) {
		return false
	}
	m.data = data
	return true
}

// What is kept of messages that have not come as a whole, in bytes of a
// session: less while nobody knows who the peer is.
const (
	maxPartial        = 64 << 10
	maxPartialUnknown = 32 << 10
)

// partialTime is how long the rest of a message may take to come, from its
// first fragment on: as long as a request of ours is sent again.
const partialTime = 31 * time.Second

// partial is a message of which some fragments have come.
type partial struct {
	wire.Reassembly
	exchange wire.ExchangeType
	head     []byte // of fragment 1
	size     int    // bytes of the datagrams
	until    time.Time
}

// partialKey tells the messages of a session's peer apart.
type partialKey struct {
	response bool
	id       uint32
}

// forgetPartial drops what came of messages whose rest has not come in time: a
// request is then as if it had never come (RFC 7383 section 2.6).
func (s *SA) forgetPartial(ses *session) {
	maps.DeleteFunc(ses.partial, func(_ partialKey, r *partial) bool { return s.due(r.until) })
}

// collect takes a fragment that is authentic. It returns the message, once all
// of it has come, or nil (RFC 7383 section 2.6). A peer of whose messages too
// much would have to be kept is at fault, or means harm (section 5).
func (s *SA) collect(ses *session, d ike.Datagram, h wire.Header, f *wire.Fragment) (*message, error) {
	if ses.fragmentSize == 0 {
		return nil, fmt.Errorf("%w: a fragment, which was not agreed on", errIgnored)
	}
	key := partialKey{h.Response, h.MessageID}
	r := ses.partial[key]
	if r == nil {
		r = &partial{exchange: h.Exchange, until: s.now.Add(partialTime)}
	}
	if r.exchange != h.Exchange || !r.Wants(f) {
		return nil, fmt.Errorf("%w: fragment %d of %d of message %d, which came before or is of no use", errIgnored, f.Number, f.Total, h.MessageID)
	}
	plain, err := wire.Unseal(d.Data, f.Body, ses.in)
	if err != nil {
		return nil, err
	}
	most := maxPartial
	if s.state != Established && s.state != Closing {
		most = maxPartialUnknown
	}
	for k, other := range ses.partial {
		if k != key {
			most -= other.Size()
		}
	}
	if !r.Add(f, plain, most) {
		ses.partial = nil
		err := fmt.Errorf("%w: the fragments of message %d are too many", ike.ErrClosed, h.MessageID)
		s.giveUp(err)
		return nil, err
	}
	if f.Number == 1 {
		r.head = headOf(d)
	}
	r.size += len(d.Data)
	first, plain, ok := r.Whole()
	if !ok {
		if ses.partial == nil {
			ses.partial = make(map[partialKey]*partial)
		}
		ses.partial[key] = r
		return nil, nil
	}
	delete(ses.partial, key)
	h.FirstPayload = wire.TypeEncrypted
	m := &message{contents: contents{h, r.head, first, plain}, local: d.Local, remote: d.Remote, size: r.size, fragments: int(f.Total)}
	m.read()
	return m, nil
}
