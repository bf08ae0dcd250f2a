package qemu

import (
	"fmt"
	"strconv"
	"testing"

	"github.com/ipsecfw/ipsecfw/filter/packet"
	"github.com/ipsecfw/ipsecfw/test/lab"
)

// wire counts the bytes of packets on the cable, both ways.
type wire struct {
	capture *lab.Capture
	esp     int
	clear   map[string]int // see describe
}

// watch counts until end.
func (p *peer) watch(t *testing.T) *wire {
	t.Helper()
	w := &wire{clear: map[string]int{}}
	var err error
	w.capture, err = p.Capture("eth0", func(b []byte, _ bool) {
		kind, p := lab.Classify(b)
		switch {
		case kind == lab.ESP:
			w.esp += p.Len
		case kind == lab.Clear && !housekeeping(p):
			w.clear[describe(p)] += len(b)
		}
	})
	must(t, err)
	return w
}

// describe returns the server's port. That of the client is an ephemeral one,
// and those are larger.
func describe(p packet.Packet) string {
	if p.HasPorts {
		return strconv.Itoa(int(min(p.SrcPort, p.DstPort)))
	}
	return fmt.Sprintf("protocol %d from %v to %v", p.Protocol, p.Src, p.Dst)
}

// housekeeping reports whether a packet is of neighbour or listener discovery,
// which the policy does not judge.
func housekeeping(p packet.Packet) bool {
	const listenerQuery, redirect, listenerReport2 = 130, 137, 143
	return p.Protocol == packet.ICMPv6 && !p.Is4() && p.HasICMP &&
		(p.ICMPType >= listenerQuery && p.ICMPType <= redirect || p.ICMPType == listenerReport2)
}

// end ends the watch. After it the counts may be read.
func (w *wire) end(t *testing.T) {
	t.Helper()
	if err := w.capture.Close(); err != nil {
		t.Error(err)
	}
}

// secret ends the watch, and fails the test if anything passed in clear or
// less than so many bytes of ESP.
func (w *wire) secret(t *testing.T, esp int) {
	t.Helper()
	w.end(t)
	if len(w.clear) > 0 || w.esp < esp {
		t.Errorf("on the wire were %d bytes of ESP, of %d at least, and in clear %v", w.esp, esp, w.clear)
	}
}

// open ends the watch, and fails the test unless so many bytes at least passed
// in clear to and from a port of the server, and nothing else did.
func (w *wire) open(t *testing.T, port string, bytes int) {
	t.Helper()
	w.end(t)
	if len(w.clear) != 1 || w.clear[port] < bytes {
		t.Errorf("in clear on the wire were %v, want only port %s and %d bytes at least", w.clear, port, bytes)
	}
}
