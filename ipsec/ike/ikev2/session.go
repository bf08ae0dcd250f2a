package ikev2

import (
	"time"

	"github.com/ipsecfw/ipsecfw/ipsec"
	"github.com/ipsecfw/ipsecfw/ipsec/ike"
	"github.com/ipsecfw/ipsecfw/ipsec/ike/wire"
	"github.com/ipsecfw/ipsecfw/ipsec/xform"
)

// session is one pair of IKE SPIs with its keys and message numbers. An SA
// has one, and for a while a second one when it is rekeyed. The window is 1
// in both directions (RFC 7296 section 2.3).
type session struct {
	initiator  bool // we began it: the I flag of what we send
	spiI, spiR uint64
	proposal   ipsec.Proposal
	prf        xform.PRF
	keys       ikeKeys
	out, in    xform.IKECipher // nil until the keys are known

	nextOut uint32   // the number of our next request
	pending *request // ours that is not answered
	nextIn  uint32   // the number of the peer's next request
	answer  []byte   // to the peer's last request

	expire time.Time // a rekeyed session's end, should the peer not delete it; else zero
}

// request is a request of ours that waits for its answer.
type request struct {
	id       uint32
	exchange wire.ExchangeType
	data     []byte
	task     task
	schedule ike.Schedule
	sends    int
	at       time.Time // to be sent again, or given up
	hurried  bool
}

// has reports whether a message with these SPIs belongs to the session.
func (ses *session) has(h wire.Header) bool {
	return ses != nil && h.SPIi == ses.spiI && h.SPIr == ses.spiR
}

func (ses *session) header(exchange wire.ExchangeType, id uint32, response bool) wire.Header {
	return wire.Header{
		SPIi: ses.spiI, SPIr: ses.spiR, Version: wire.Version2, Exchange: exchange,
		Initiator: ses.initiator, Response: response, MessageID: id,
	}
}

func (ses *session) wipe() {
	if ses != nil {
		ses.keys.wipe()
		ses.out, ses.in, ses.pending = nil, nil, nil
	}
}

// hurry shortens what is left of the schedule, once.
func (r *request) hurry(now time.Time) {
	if r.hurried {
		return
	}
	r.hurried = true
	r.schedule, r.sends = ike.Quick, 1
	if soon := now.Add(ike.Quick.First); r.at.After(soon) {
		r.at = soon
	}
}
