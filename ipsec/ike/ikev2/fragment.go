package ikev2

import (
	"fmt"
	"net/netip"

	"github.com/ipsecfw/ipsecfw/ipsec/ike"
	"github.com/ipsecfw/ipsecfw/ipsec/ike/wire"
)

// shrinkAt is the sending of a message at which its datagrams become as small
// as every path takes them (RFC 7383 section 2.5.2).
const shrinkAt = 3

// room returns how many bytes of an IKE message go into an IP datagram of a
// size, behind the headers of IP and UDP and the non-ESP marker.
func room(size int, remote netip.Addr) int {
	const udp, marker = 8, 4
	if remote.Is4() || remote.Is4In6() {
		return size - 20 - udp - marker
	}
	return size - 40 - udp - marker
}

// cut seals a message: in one piece, or in fragments if it would be larger
// than an IP datagram of a size, 0 for any size.
func (m *outgoing) cut(size int, remote netip.Addr) ([][]byte, error) {
	whole := func() ([][]byte, error) {
		b, err := wire.Seal(m.header, m.first, m.plain, m.cipher)
		return [][]byte{b}, err
	}
	if size == 0 {
		return whole()
	}
	n := room(size, remote)
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
	data, err := m.cut(size, s.remote.Addr())
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

// partial is a message of which some fragments have come.
type partial struct {
	wire.Reassembly
	exchange wire.ExchangeType
	size     int // bytes of the datagrams
}

// partialKey tells the messages of a session's peer apart.
type partialKey struct {
	response bool
	id       uint32
}

// collect takes a fragment that is authentic. It returns the message, once all
// of it has come, or nil (RFC 7383 section 2.6).
func (s *SA) collect(ses *session, d ike.Datagram, h wire.Header, f *wire.Fragment) (*message, error) {
	if ses.fragmentSize == 0 {
		return nil, fmt.Errorf("%w: a fragment, which was not agreed on", errIgnored)
	}
	key := partialKey{h.Response, h.MessageID}
	r := ses.partial[key]
	if r == nil {
		r = &partial{exchange: h.Exchange}
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
		delete(ses.partial, key)
		return nil, fmt.Errorf("%w: the fragments of message %d are too many", errIgnored, h.MessageID)
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
	m := &message{contents: contents{h, first, plain}, local: d.Local, remote: d.Remote, size: r.size, fragments: int(f.Total)}
	m.read()
	return m, nil
}
