package nfq

import (
	"context"
	"encoding/binary"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/ipsecfw/ipsecfw/filter/packet"
	"github.com/ipsecfw/ipsecfw/ipsec"
)

// event is something that is to be found in an audit log (RFC 4301 section 5.2,
// RFC 4302 and RFC 4303, sections 3.3.3 and 3.4).
type event uint8

const (
	eventNoSA      event = iota // nobody knows the SPI
	eventReplay                 // a sequence number that was received before, or is too old
	eventIntegrity              // a wrong ICV
	eventMalformed              // what no transform of the SA makes
	eventMismatch               // what was inside is none of the SA's, or of its rule's
	eventExhausted              // the sequence numbers that we send with have come to an end
	events
)

var eventTexts = [events]string{
	"audit: a packet came for an SPI of which there is no SA",
	"audit: a packet was replayed, or is too old to tell",
	"audit: the integrity of a packet could not be verified",
	"audit: a malformed packet came under an SA",
	"audit: a packet under an SA is dropped: by the filters of this host it is none of the SA's rule",
	"audit: an SA has no sequence numbers left, and sends nothing more",
}

// auditEvery is how often an event of one kind is told of one SA, in seconds. One
// that nobody tells is counted in the next that is: whoever floods a host must not
// flood its log.
const auditEvery = 60

// audits is what was told of one SA, or of packets that have none. It is safe for
// concurrent use.
type audits [events]audit

type audit struct {
	last  atomic.Int64 // when it was told, in Unix seconds
	all   atomic.Uint64
	quiet atomic.Uint64 // since then
}

// happens counts an event, and reports whether it is to be told, and how many
// before it were not.
func (a *audits) happens(x event, now time.Time) (quiet uint64, tell bool) {
	e := &a[x]
	e.all.Add(1)
	t, last := now.Unix(), e.last.Load()
	if t-last < auditEvery && last != 0 || !e.last.CompareAndSwap(last, t) {
		e.quiet.Add(1)
		return 0, false
	}
	return e.quiet.Swap(0), true
}

// Mismatches is how many packets under the SA were dropped as what was in them is
// none of the SA's, or of its rule's.
func (sa *SA) Mismatches() uint64 {
	if sa.audits == nil {
		return 0
	}
	return sa.audits[eventMismatch].all.Load()
}

// refused counts and tells why a packet was not opened.
func (e *Engine) refused(a *arrival, sa *SA, why error) {
	e.Counters.InRefused.Add(1)
	switch why {
	case ipsec.ErrReplay:
		e.audit(sa.audits, eventReplay, a, sa)
	case ipsec.ErrIntegrity:
		e.audit(sa.audits, eventIntegrity, a, sa)
	case ipsec.ErrMalformed:
		e.audit(sa.audits, eventMalformed, a, sa)
	}
}

// unknown counts and tells that a packet has no SA.
func (e *Engine) unknown(a *arrival) {
	e.Counters.InUnknownSPI.Add(1)
	e.audit(&e.strangers, eventNoSA, a, nil)
}

// mismatched counts a packet that was opened and is dropped, and tells what it
// was if that is known.
func (in *Inbound) mismatched(a *arrival, sa *SA, p *packet.Packet) {
	e := in.engine
	e.Counters.InMismatch.Add(1)
	quiet, tell := sa.audits.happens(eventMismatch, e.cfg.Now())
	if !tell {
		return
	}
	args := arrived(a, sa)
	if p != nil {
		args = append(args, "from", p.Src, "from-port", p.SrcPort, "to", p.Dst, "to-port", p.DstPort, "protocol", p.Protocol)
	}
	e.tell(eventMismatch, quiet, append(args, "local-selectors", sa.Local, "remote-selectors", sa.Remote,
		"hint", "make the filters of both ends cover the same packets: see ipsecfw explain at each"))
}

// audit tells of an event with a packet that came.
func (e *Engine) audit(of *audits, x event, a *arrival, sa *SA) {
	if quiet, tell := of.happens(x, e.cfg.Now()); tell {
		e.tell(x, quiet, arrived(a, sa))
	}
}

// arrived is what RFC 4303 section 3.4 wants to be told of a packet, as far as it
// is known: the flow label is that of a header that is there.
func arrived(a *arrival, sa *SA) []any {
	at := a.spiAt()
	args := []any{
		"sa-protocol", protocolName(a.protocol), "spi", ipsec.SPI(binary.BigEndian.Uint32(a.buf[at:])), "sequence", binary.BigEndian.Uint32(a.buf[at+4:]),
		"peer", a.remote.Addr(), "local", a.local.Addr(),
	}
	if len(a.header) > 0 && a.header[0]>>4 == 6 {
		args = append(args, "flow-label", binary.BigEndian.Uint32(a.header)&0xfffff)
	}
	if sa != nil {
		args = append(args, "rule", sa.Policy)
	}
	return args
}

// notSealed counts a packet, and tells that an SA that a packet was to be sent with cannot send any
// more, if that is why it was not sealed.
func (o *Outbound) notSealed(sa *SA, why error) {
	e := o.engine
	e.Counters.OutFailed.Add(1)
	if why != ipsec.ErrSequenceExhausted {
		return
	}
	if quiet, tell := sa.audits.happens(eventExhausted, e.cfg.Now()); tell {
		e.tell(eventExhausted, quiet, []any{
			"sa-protocol", protocolName(sa.Out.Protocol()), "spi", sa.OutSPI, "local", sa.LocalAddr.Addr(), "peer", sa.RemoteAddr.Addr(), "rule", sa.Policy,
			"from", o.p.Src, "from-port", o.p.SrcPort, "to", o.p.Dst, "to-port", o.p.DstPort, "protocol", o.p.Protocol,
		})
	}
}

// tell writes an event down. The time is that of the log.
func (e *Engine) tell(x event, quiet uint64, args []any) {
	level := slog.LevelWarn
	if x == eventNoSA || x == eventReplay {
		level = slog.LevelInfo // late and lost packets do the same
	}
	if quiet > 0 {
		args = append(args, "not-told-before", quiet)
	}
	e.cfg.Log.Log(context.Background(), level, eventTexts[x], args...)
}

func protocolName(p uint8) string {
	if p == protocolAH {
		return "AH"
	}
	return "ESP"
}
