package ikev2

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"net/netip"

	"github.com/ipsecfw/ipsecfw/ipsec/ike"
	"github.com/ipsecfw/ipsecfw/ipsec/ike/wire"
	"github.com/ipsecfw/ipsecfw/ipsec/xform"
)

// contents is what stands inside of a message's SK payload, as it was before
// it was sealed and, if need be, cut into fragments.
type contents struct {
	header wire.Header
	head   []byte // as it stands on the wire, up to the contents, in the first fragment if there are any
	first  wire.PayloadType
	plain  []byte
}

// outgoing is a message of ours.
type outgoing struct {
	contents
	cipher xform.IKECipher // that sealed it; nil for a message in clear
	data   [][]byte        // the message, or its fragments
}

// inClear is a message without protection: of IKE_SA_INIT.
func inClear(h wire.Header, data []byte) *outgoing {
	return &outgoing{contents: contents{header: h}, data: [][]byte{data}}
}

// seal protects a message to the peer, by a path, in one piece or in fragments.
func (s *SA) seal(ses *session, by path, h wire.Header, ps []wire.Payload) (*outgoing, error) {
	if ses.out == nil {
		return nil, fmt.Errorf("%w: no keys for %s", ike.ErrClosed, h.Exchange)
	}
	m := &outgoing{contents: contents{header: h}, cipher: ses.out}
	var err error
	if m.first, m.plain, err = wire.EncodePayloads(ps); err != nil {
		return nil, err
	}
	if m.data, err = m.cut(ses.fragmentSize, by); err != nil {
		return nil, err
	}
	m.head = bytes.Clone(m.data[0][:wire.SealedHead])
	return m, nil
}

// transmit sends a message to a place. With again set it was sent before.
func (s *SA) transmit(local, remote netip.AddrPort, m *outgoing, again bool) {
	size := 0
	for _, b := range m.data {
		size += len(b)
		s.emit(ike.Send{Local: local, Remote: remote, Data: b})
	}
	if s.cfg.Trace == nil {
		return
	}
	// What we have encoded can be decoded.
	h, ps, _ := wire.Decode(m.data[0])
	if m.cipher != nil {
		h.FirstPayload = wire.TypeEncrypted
		ps, _ = wire.DecodePayloads(m.first, m.plain)
	}
	s.cfg.Trace(ike.Message{
		At: s.now, Sent: true, Again: again, Local: local, Remote: remote,
		Header: h, Payloads: ps, Size: size, Fragments: pieces(len(m.data)),
	})
}

// pieces is the number of fragments for a trace: none of a message in one piece.
func pieces(n int) int {
	if n == 1 {
		return 0
	}
	return n
}

// request sends a protected request of a session.
func (s *SA) request(ses *session, x wire.ExchangeType, ps []wire.Payload, t task) error {
	_, err := s.requestContents(ses, x, ps, t)
	return err
}

// requestContents is request for one who needs what was sealed.
func (s *SA) requestContents(ses *session, x wire.ExchangeType, ps []wire.Payload, t task) (contents, error) {
	if ses.ours.next == math.MaxUint32 {
		return contents{}, errors.New("the IKE SA has no message number left")
	}
	ps = s.announce(ses, x, ps)
	m, err := s.seal(ses, path{s.local, s.remote}, ses.header(x, ses.ours.next, false), ps)
	if err != nil {
		return contents{}, err
	}
	s.dispatch(ses, m, t)
	return m.contents, nil
}

// manyRequests is the message number from which on an IKE SA is rekeyed, long
// before there is none left (RFC 7296 section 2.2).
const manyRequests = 1 << 31

// dispatch sends a request for the first time.
func (s *SA) dispatch(ses *session, m *outgoing, t task) {
	p := &request{outgoing: *m, task: t, schedule: t.schedule(), sends: 1}
	wait, _ := p.schedule.Wait(1)
	p.at = s.now.Add(wait)
	ses.ours.pending = append(ses.ours.pending, p)
	ses.ours.next++
	if s.trial.path != (path{}) && s.trial.by == nil {
		s.trial.by, s.trial.ses, p.tried = p, ses, true
	}
	s.transmitRequest(p, false)
	if ses == s.cur && ses.ours.next >= manyRequests && s.renew.IsZero() {
		s.renew = s.now
	}
}

// transmitRequest sends a request to where the peer is, or may be.
func (s *SA) transmitRequest(p *request, again bool) {
	to := path{s.local, s.remote}
	if p == s.trial.by {
		to = s.trial.path
	}
	s.transmit(to.local, to.remote, &p.outgoing, again)
}

// again sends a pending request once more, or gives up.
func (s *SA) again(ses *session, p *request) {
	wait, ok := p.schedule.Wait(p.sends + 1)
	if ok {
		p.sends++
		p.at = s.now.Add(wait)
		if p == s.trial.by && p.sends > trialSends {
			s.trial = trial{}
		}
		if p.sends == shrinkAt && !p.small && s.shrink(ses, &p.outgoing) {
			// Its waits begin anew (RFC 7383 section 2.5.2).
			p.small, p.sends = true, 1
			wait, _ = p.schedule.Wait(1)
			p.at = s.now.Add(wait)
		}
		s.transmitRequest(p, true)
		return
	}
	switch {
	case ses != s.cur:
		s.drop(ses)
	case s.rival != nil:
		s.adopt(s.rival)
		s.drop(ses)
	default:
		s.unanswered(p)
	}
}

// respond answers a request of the peer, to where it came from (RFC 7296
// section 2.11). After INVALID_SYNTAX there is no IKE SA any more (section
// 2.21.3).
func (s *SA) respond(q *query, ps []wire.Payload) error {
	_, err := s.respondContents(q, ps)
	return err
}

// respondContents is respond for one who needs what was sealed.
func (s *SA) respondContents(q *query, ps []wire.Payload) (contents, error) {
	ps = s.announce(q.ses, q.header.Exchange, ps)
	m, err := s.seal(q.ses, path{q.local, q.remote}, q.ses.header(q.header.Exchange, q.header.MessageID, true), ps)
	if err != nil {
		return contents{}, err
	}
	q.answer = m
	q.ses.theirs.answered()
	s.transmit(q.local, q.remote, m, false)
	if _, fatal := wire.FindNotify(ps, wire.InvalidSyntax); fatal && (s.state == Established || s.state == Closing) {
		s.broken(q.ses, fmt.Errorf("%w: the peer sent a malformed request of %s", ike.ErrClosed, q.header.Exchange))
	}
	return m.contents, nil
}

// tell sends a request whose answer nobody waits for.
func (s *SA) tell(ses *session, x wire.ExchangeType, ps []wire.Payload) {
	// Without keys there is nobody to be told.
	if m, err := s.seal(ses, path{s.local, s.remote}, ses.header(x, ses.ours.next, false), ps); err == nil {
		s.transmit(s.local, s.remote, m, false)
	}
}

// repeatInit answers an IKE_SA_INIT that came again.
func (s *SA) repeatInit(d ike.Datagram, h wire.Header) {
	s.traceInit(d, h, true)
	s.transmit(d.Local, d.Remote, inClear(s.cur.header(h.Exchange, 0, true), s.start.response), true)
}

// maxRepeats bounds how often an answer is sent again: whoever has seen a
// request can send it again from any address.
const maxRepeats = 32

// repeat answers a request that came again.
func (s *SA) repeat(q *query, local, remote netip.AddrPort) {
	if q.answer == nil || q.repeated == maxRepeats {
		return // it comes when it is ready, or came often enough
	}
	if q.repeated++; q.repeated == shrinkAt-1 {
		s.shrink(q.ses, q.answer)
	}
	s.transmit(local, remote, q.answer, true)
}
