package ike

import (
	"fmt"
	"net/netip"
	"strings"
	"time"
)

// PostMortem is what is known of a negotiation that did not succeed. It holds
// no secret, and nothing in it is longer than a few kilobytes, whatever the
// peer sent. As JSON its keys are stable.
type PostMortem struct {
	At        time.Time      `json:"at"`
	Local     netip.AddrPort `json:"local"`
	Remote    netip.AddrPort `json:"remote"`
	Initiator bool           `json:"initiator"`          // this host began
	Rule      string         `json:"rule,omitempty"`     // whose packets wait, if this host began
	Step      string         `json:"step"`               // the exchange, as in "IKE_AUTH"
	Identity  string         `json:"identity,omitempty"` // whom the peer claims to be
	Cause     Cause          `json:"cause"`
	Error     string         `json:"error"` // what happened, in one line
	Change    Change         `json:"change"`

	Ours        *Stance      `json:"ours,omitempty"`        // what this host offered or would have taken
	Theirs      *Stance      `json:"theirs,omitempty"`      // and the peer, as far as it said
	Differences []Difference `json:"differences,omitempty"` // of the proposals
	Certificate *Validity    `json:"certificate,omitempty"` // the one that was not believed

	Evidence Evidence `json:"evidence"`
	Messages []string `json:"messages,omitempty"` // the last ones, in the notation of RFC 7296
	// Since is when it first failed like this, and Times how often it did,
	// without another failure of this peer in between.
	Since time.Time `json:"since"`
	Times int       `json:"times"`

	// Standing is since when there is an SA with the peer all the same, of the
	// kind that this failure was about; nil if there is none now.
	Standing *time.Time `json:"sa-since,omitempty"`

	refused bool      // by this host, as it did not believe the peer
	whole   bool      // this host sends large messages in one piece
	setting string    // that the error names; or empty
	suites  [2]string // of this host and of the peer, if what they offer is that of one
}

// Over reports whether an SA has come about since the failure.
func (p *PostMortem) Over() bool { return p.Standing != nil && p.Standing.After(p.At) }

// Change is the one setting to change.
type Change struct {
	Side    string `json:"side"`              // "this-host", "peer" or "either"
	Setting string `json:"setting,omitempty"` // in the words of the rule file; empty if it is none of those
	Text    string `json:"text"`              // what to do
}

// Stance is the Terms of one end as text.
type Stance struct {
	Proposals []string `json:"proposals,omitempty"`
	Local     []string `json:"local-selectors,omitempty"` // as seen from this host, at either end
	Remote    []string `json:"remote-selectors,omitempty"`
	Mode      string   `json:"mode,omitempty"`
	Text      string   `json:"text,omitempty"` // if that is all there is
}

// Validity is what the clocks say of a certificate.
type Validity struct {
	Subject   string    `json:"subject,omitempty"`
	Issuer    string    `json:"issuer,omitempty"`
	NotBefore time.Time `json:"not-before"`
	NotAfter  time.Time `json:"not-after"`
	Now       time.Time `json:"now"` // by the clock of this host
}

// Evidence is what was seen on the way.
type Evidence struct {
	Ports    []uint16 `json:"ports,omitempty"`    // of the peer that were written to
	Sent     int      `json:"sent"`               // messages, repetitions included
	Received int      `json:"received"`           // datagrams that made sense
	Rejected int      `json:"rejected,omitempty"` // datagrams that came for the IKE SA and did not do; anybody can make them
	Answered bool     `json:"answered"`           // something came in answer to IKE_SA_INIT
	// Request is the last request of this host, if time has shown that it was
	// not answered, or by nothing that would do.
	Request *Unanswered `json:"unanswered-request,omitempty"`
	ICMP    []string    `json:"icmp,omitempty"`       // errors that came back; anybody can make them
	Failure string      `json:"send-error,omitempty"` // why a message did not leave this host
	NAT     bool        `json:"nat"`                  // one was found on the way, or is pretended
}

// Unanswered is a request without an answer.
type Unanswered struct {
	Exchange  string `json:"exchange"`
	Bytes     int    `json:"bytes"`               // of all its datagrams, without IP and UDP
	Fragments int    `json:"fragments,omitempty"` // of RFC 7383; 0 for one piece
	Sendings  int    `json:"sendings"`            // how often it was sent
}

// String writes all of it for people, in several lines.
func (p *PostMortem) String() string {
	var b strings.Builder
	line := func(name, text string) {
		if text != "" {
			fmt.Fprintf(&b, "%-12s%s\n", name, text)
		}
	}
	began := "the peer began"
	if p.Initiator {
		began = "this host began"
	}
	switch {
	case p.Over():
		fmt.Fprintf(&b, "there is an SA with %s since %s; the last failure before it was:\n", p.Remote.Addr(), p.Standing.Format(time.RFC3339))
	case p.Standing != nil:
		fmt.Fprintf(&b, "there is an SA with %s since %s; later this failed:\n", p.Remote.Addr(), p.Standing.Format(time.RFC3339))
	}
	fmt.Fprintf(&b, "%s: no SA with %s (%s)\n", p.At.Format(time.RFC3339), p.Remote.Addr(), began)
	line("cause", string(p.Cause))
	line("error", p.Error)
	line("change", p.Change.String())
	line("rule", p.Rule)
	line("step", p.Step)
	line("peer is", p.Identity)
	line("between", fmt.Sprintf("%s and %s", p.Local, p.Remote))
	if p.Times > 1 {
		line("repeated", fmt.Sprintf("%d times since %s", p.Times, p.Since.Format(time.RFC3339)))
	}
	line("this host", p.Ours.String())
	line("the peer", p.Theirs.String())
	for _, d := range p.Differences {
		line("differ", fmt.Sprintf("%s and %s:", d.Ours, d.Theirs))
		for _, t := range d.Types {
			line("", fmt.Sprintf("  %s: this host %s; the peer %s", t.Type, strings.Join(t.Ours, ", "), strings.Join(t.Theirs, ", ")))
		}
	}
	line("certificate", p.Certificate.String())
	line("evidence", p.Evidence.String())
	for i, m := range p.Messages {
		name := ""
		if i == 0 {
			name = "messages"
		}
		line(name, m)
	}
	return b.String()
}

// String writes what to do, where, and by which setting.
func (c Change) String() string {
	s := c.Text
	if c.Setting != "" {
		s += " (" + c.Setting + ")"
	}
	switch c.Side {
	case sideThis:
		return "on this host: " + s
	case sidePeer:
		return "on the peer: " + s
	}
	return "on either end: " + s
}

// String writes the stance in one line.
func (o *Stance) String() string {
	if o == nil {
		return ""
	}
	var parts []string
	if len(o.Proposals) > 0 {
		parts = append(parts, strings.Join(o.Proposals, ", "))
	}
	if len(o.Local)+len(o.Remote) > 0 {
		parts = append(parts, strings.Join(o.Local, " or ")+" to "+strings.Join(o.Remote, " or "))
	}
	if o.Mode != "" {
		parts = append(parts, "mode "+o.Mode)
	}
	if o.Text != "" {
		parts = append(parts, o.Text)
	}
	return strings.Join(parts, "; ")
}

// String writes the times in one line.
func (v *Validity) String() string {
	if v == nil {
		return ""
	}
	date := func(t time.Time) string { return t.UTC().Format(time.RFC3339) }
	return fmt.Sprintf("%q by %q, valid from %s to %s; the clock of this host says %s", v.Subject, v.Issuer, date(v.NotBefore), date(v.NotAfter), date(v.Now))
}

// String writes the evidence in one line.
func (e Evidence) String() string {
	var ports []string
	for _, p := range e.Ports {
		ports = append(ports, fmt.Sprint(p))
	}
	parts := []string{fmt.Sprintf("%d messages sent, %d received", e.Sent, e.Received)}
	if e.Rejected > 0 {
		parts = append(parts, fmt.Sprintf("%d more came that did not do", e.Rejected))
	}
	if len(ports) > 0 {
		parts = append(parts, "to the ports "+strings.Join(ports, " and "))
	}
	if r := e.Request; r != nil {
		s := fmt.Sprintf("no answer to %s of %d bytes", r.Exchange, r.Bytes)
		if e.Rejected > 0 {
			s = fmt.Sprintf("no answer that did to %s of %d bytes", r.Exchange, r.Bytes)
		}
		if r.Fragments > 0 {
			s += fmt.Sprintf(" in %d fragments", r.Fragments)
		}
		parts = append(parts, s+fmt.Sprintf(", sent %d times", r.Sendings))
		if e.Answered && r.Exchange != initStep {
			parts = append(parts, "IKE_SA_INIT was answered")
		}
	}
	if len(e.ICMP) > 0 {
		parts = append(parts, strings.Join(e.ICMP, ", "))
	} else if !e.Answered && e.Request != nil {
		parts = append(parts, "no ICMP was seen")
	}
	if e.Failure != "" {
		parts = append(parts, "a message did not leave this host: "+e.Failure)
	}
	if e.NAT {
		parts = append(parts, "a NAT on the way")
	}
	return strings.Join(parts, "; ")
}
