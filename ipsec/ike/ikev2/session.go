package ikev2

import (
	"time"

	"github.com/ipsecfw/ipsecfw/ipsec"
	"github.com/ipsecfw/ipsecfw/ipsec/ike/wire"
	"github.com/ipsecfw/ipsecfw/ipsec/xform"
)

// session is one pair of IKE SPIs with its keys and message numbers. An SA
// has one, and for a while a second one when it is rekeyed.
type session struct {
	initiator  bool // we began it: the I flag of what we send
	spiI, spiR uint64
	proposal   ipsec.Proposal
	prf        xform.PRF
	keys       ikeKeys
	out, in    xform.IKECipher // nil until the keys are known

	ours         outWindow
	theirs       inWindow
	partial      map[partialKey]*partial // of both
	fragmentSize int                     // the largest IP datagram, in bytes, of a message in parts; 0 for messages in one piece

	expire time.Time // the end of one that is not in use, should the peer not delete it; else zero
	lowest []byte    // nonce of the exchange that made it, if the peer began that
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
		for _, p := range ses.ours.pending {
			wipeTask(p.task)
		}
		ses.out, ses.in = nil, nil
		ses.ours.pending, ses.theirs, ses.partial = nil, inWindow{}, nil
	}
}
