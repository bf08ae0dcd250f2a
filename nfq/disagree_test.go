package nfq

import (
	"bytes"
	"log/slog"
	"net/netip"
	"strings"
	"testing"

	"github.com/ipsecfw/ipsecfw/filter/packet"
	"github.com/ipsecfw/ipsecfw/ipsec"
	"github.com/ipsecfw/ipsecfw/ipsec/ipsock"
)

// The log is told once, and not for each packet, that the peer has other
// filters.
func TestDisagreementIsLogged(t *testing.T) {
	s := newHost(t, server4, 0)
	var log bytes.Buffer
	s.cfg.Log = slog.New(slog.NewTextHandler(&log, nil))
	a, b := pair(t, "staff", ipsec.Transport, false, client4, server4)
	s.Install(b, false)
	dns := clear(client4, server4, packet.UDP, 40000, 53, 0, []byte("x"))
	in := s.NewInbound(false)
	for range 100 {
		sealed, err := a.Out.Seal(nil, dns[20:], packet.UDP)
		if err != nil {
			t.Fatal(err)
		}
		in.Receive(append(make([]byte, ipsock.Headroom), sealed...), ipsock.Headroom,
			netip.AddrPortFrom(server4, 0), netip.AddrPortFrom(client4, 0), 0, 0)
	}
	if n := s.Counters.InMismatch.Load(); n != 100 {
		t.Fatalf("%d packets were refused, want 100", n)
	}
	if text := log.String(); strings.Count(text, "\n") != 1 || !strings.Contains(text, "peer="+client4.String()) || !strings.Contains(text, "to-port=53") {
		t.Errorf("log:\n%s", text)
	}
}
