package iketest

import (
	"fmt"
	"net/netip"

	"github.com/ipsecfw/ipsecfw/ipsec/ike"
	"github.com/ipsecfw/ipsecfw/ipsec/ike/wire"
)

// line writes one line of the log, with the seconds since the beginning.
func (w *world) line(s string) {
	fmt.Fprintf(w.log, "%10.3f %s\n", w.Now.Sub(begins).Seconds(), s)
}

// trace returns what a machine of a host tells of its messages to, nil if
// nobody wants to know.
func (w *world) trace(n *node) func(ike.Message) {
	if w.log == nil {
		return nil
	}
	return func(m ike.Message) {
		more := ""
		if m.Fragments > 0 {
			more = fmt.Sprintf(" (%d fragments)", m.Fragments)
		}
		if m.Again {
			more += " (again)"
		}
		way := "<--"
		if m.Sent {
			way = "-->"
		}
		w.line(fmt.Sprintf("%s %s %s  %08x %s%s", n.Addr, way, m.Remote, m.Header.SPIi>>32, wire.Describe(m.Header, m.Payloads), more))
	}
}

// unprotected writes a message that a host sends outside of any IKE SA.
func (w *world) unprotected(n *node, remote netip.AddrPort, data []byte) {
	if w.log == nil {
		return
	}
	if h, ps, err := wire.Decode(data); err == nil {
		w.line(fmt.Sprintf("%s --> %s  %08x %s", n.Addr, remote, h.SPIi>>32, wire.Describe(h, ps)))
	}
}

// vanished writes that a message does not arrive as it was sent.
func (w *world) vanished(f flight, how string) {
	if h, err := wire.ParseHeader(f.data); w.log != nil && err == nil {
		w.line(fmt.Sprintf("%s ==> %s  %08x %s %d %s", f.from, f.to, h.SPIi>>32, h.Exchange, h.MessageID, how))
	}
}

// headline names a message.
func headline(h wire.Header) string {
	what := "request"
	if h.Response {
		what = "response"
	}
	return fmt.Sprintf("%s %s %d of %016x %016x", h.Exchange, what, h.MessageID, h.SPIi, h.SPIr)
}
