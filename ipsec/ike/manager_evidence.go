package ike

import (
	"fmt"
	"net/netip"
	"slices"

	"github.com/ipsecfw/ipsecfw/ipsec"
	"github.com/ipsecfw/ipsecfw/ipsec/ike/wire"
)

// evidence is what was seen of an IKE SA's messages, should a post-mortem be
// needed.
type evidence struct {
	local, remote  netip.AddrPort // of the last message
	ports          []uint16
	sent, received int
	rejected       int // datagrams that came and did not do
	answered       bool
	request        request
	icmp           []string
	failure        string
	identity       string // whom the peer claims to be
	ours, theirs   Terms  // what was offered, and chosen, in the last exchange that did so
	messages       []note
	settled        bool // the IKE SA stands, so that less is kept
}

// request is the last request of this host.
type request struct {
	exchange  wire.ExchangeType
	id        uint32
	turn      uint64 // of the Manager in which it was sent last
	size      int    // bytes
	fragments int
	sendings  int
	answered  bool
}

// Bounds of the evidence of one IKE SA.
const (
	maxPorts    = 4
	maxICMP     = 4
	maxMessages = 12
	maxSettled  = 4   // messages of an IKE SA that stands
	maxMessage  = 720 // bytes of one in notation
	maxOffered  = 256 // transforms of a peer's offer that are kept
	maxTS       = 32  // selectors likewise
)

// sees notes a message that was sent, or could not be.
func (v *evidence) sees(s Send, turn uint64, err error) {
	v.local, v.remote = s.Local, s.Remote
	if err != nil {
		v.failure = clip(err.Error())
	}
	if p := s.Remote.Port(); !slices.Contains(v.ports, p) && len(v.ports) < maxPorts {
		v.ports = append(v.ports, p)
	}
	h, err := wire.ParseHeader(s.Data)
	if err != nil {
		return
	}
	r := &v.request
	switch {
	case h.Response:
		v.sent++
		return
	case r.sendings == 0 || r.exchange != h.Exchange || r.id != h.MessageID || r.answered:
		*r = request{exchange: h.Exchange, id: h.MessageID}
		fallthrough
	case r.turn != turn:
		v.sent++
		r.turn, r.size, r.fragments = turn, 0, 0
		r.sendings++
	}
	r.size += len(s.Data)
	if h.FirstPayload == wire.TypeFragment {
		r.fragments++
	}
}

// hears notes a datagram that the machine took.
func (v *evidence) hears(d Datagram) {
	h, err := wire.ParseHeader(d.Data)
	if err != nil {
		return
	}
	v.received++
	v.local, v.remote = d.Local, d.Remote
	v.icmp, v.failure = nil, "" // whatever was in the way then
	if h.Response {
		v.answered = v.answered || h.Exchange == wire.IKESAInit
		if v.request.exchange == h.Exchange && v.request.id == h.MessageID {
			v.request.answered = true
		}
	}
}

// learns notes what a message says, and writes it down.
func (v *evidence) learns(x Message) {
	v.keep(maxMessages - 1)
	if v.settled {
		v.keep(maxSettled - 1)
	}
	v.messages = append(v.messages, noted(x))
	if x.Again {
		return
	}
	if _, offers := wire.Find[*wire.SA](x.Payloads); offers && !x.Header.Response {
		v.ours, v.theirs = Terms{}, Terms{}
	}
	for _, p := range x.Payloads {
		switch p := p.(type) {
		case *wire.ID:
			if !x.Sent && p.Responder != x.Header.Initiator {
				v.identity = clip(p.String())
			}
		case *wire.SA:
			v.terms(x).Proposals = offered(p.Proposals)
		case *wire.TS:
			ts := slices.Clone(p.Selectors[:min(len(p.Selectors), maxTS)])
			// TSi is of the one who began the exchange.
			if begun := x.Sent != x.Header.Response; begun != p.Responder {
				v.terms(x).Local = ts
			} else {
				v.terms(x).Remote = ts
			}
		}
	}
}

func (v *evidence) terms(x Message) *Terms {
	if x.Sent {
		return &v.ours
	}
	return &v.theirs
}

// offered copies a bounded part of what a peer offers.
func offered(ps []ipsec.Proposal) []ipsec.Proposal {
	var out []ipsec.Proposal
	left := maxOffered
	for _, p := range ps {
		if left -= 1 + len(p.Transforms); left < 0 {
			break
		}
		p.SPI, p.Transforms = nil, slices.Clone(p.Transforms)
		out = append(out, p)
	}
	return out
}

// String writes the message in one line, in the notation of RFC 7296 and with an
// arrow for its direction.
func (x Message) String() string {
	arrow := "<--"
	if x.Sent {
		arrow = "-->"
	}
	s := fmt.Sprintf("%s %s %s, %d bytes", x.At.Format("15:04:05.000"), arrow, wire.Describe(x.Header, x.Payloads), x.Size)
	if x.Fragments > 0 {
		s += fmt.Sprintf(" in %d fragments", x.Fragments)
	}
	if x.Again {
		s += ", again"
	}
	return cut(s, maxMessage)
}

// note is a message as it is kept: written down at once, since its payloads may
// not be kept, but for one without any. Most messages of an IKE SA that stands
// have none, and are never read.
type note struct {
	text  string
	empty *Message
}

func noted(x Message) note {
	if len(x.Payloads) == 0 {
		return note{empty: &x}
	}
	return note{text: x.String()}
}

func (n note) String() string {
	if n.empty != nil {
		return n.empty.String()
	}
	return n.text
}

// transcript writes the last messages, the oldest first; nil for none.
func (v *evidence) transcript() (lines []string) {
	for _, n := range v.messages {
		lines = append(lines, n.String())
	}
	return lines
}

// public returns the evidence for a post-mortem. A request that has just left,
// and for which nobody has waited, is none that was not answered.
func (v *evidence) public(silence bool) Evidence {
	e := Evidence{
		Ports: slices.Clone(v.ports), Sent: v.sent, Received: v.received, Rejected: v.rejected, Answered: v.answered,
		ICMP: slices.Clone(v.icmp), Failure: v.failure,
		NAT: slices.Contains(v.ports, PortIKE) && slices.Contains(v.ports, PortNATT),
	}
	if r := v.request; (r.sendings > 1 || r.sendings > 0 && silence) && !r.answered {
		e.Request = &Unanswered{Exchange: r.exchange.String(), Bytes: r.size, Fragments: r.fragments, Sendings: r.sendings}
	}
	return e
}

// large is from how many bytes on a message may be lost where small ones pass.
const large = 1200

// cause says more of a silence than that it is one.
func (v *evidence) cause(c Cause) Cause {
	if c != CauseNoAnswer {
		return c
	}
	r := v.request
	switch {
	case len(v.icmp) > 0 || v.failure != "":
		return CauseUnreachable
	case !v.answered || r.exchange == wire.IKESAInit || r.answered:
		return CauseNoAnswer
	case r.size > large || r.fragments > 1:
		return CauseNoAnswerLarge
	case r.exchange <= wire.IKEAuth && v.remote.Port() != PortIKE && slices.Contains(v.ports, PortIKE):
		return CauseNAT
	}
	return CauseNoAnswer
}

// Unreachable says that an ICMP error came back for a message from local to
// remote, and what it says. Since anybody can make one, it ends nothing: it is
// evidence should the peer not answer.
func (m *Manager) Unreachable(local, remote netip.AddrPort, what string) {
	local, remote = unmap(local), unmap(remote)
	m.inbox.putReport(report{local.Addr(), remote.Addr(), cut(what, maxMessage)})
}

// report is an ICMP error.
type report struct {
	local, remote netip.Addr
	what          string
}

func (m *Manager) unreachable(r report) {
	for _, e := range m.byPeer[pair{r.local, r.remote}] {
		if v := &e.seen; !slices.Contains(v.icmp, r.what) && len(v.icmp) < maxICMP {
			v.icmp = append(v.icmp, r.what)
		}
	}
}

// settle forgets what an IKE SA that stands no longer needs.
func (v *evidence) settle() {
	v.settled = true
	v.ours, v.theirs = Terms{}, Terms{}
	v.keep(maxSettled)
	v.messages = slices.Clip(v.messages)
}

// keep keeps the last messages.
func (v *evidence) keep(most int) {
	if n := len(v.messages); n > most {
		v.messages = slices.Delete(v.messages, 0, n-most)
	}
}
