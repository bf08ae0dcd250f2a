package test

import (
	"fmt"
	"net"
	"testing"
	"time"

	"github.com/ipsecfw/ipsecfw/test/lab"
)

// ServeEcho answers UDP datagrams on an address, for good.
func (*Guest) ServeEcho(address string, _ *struct{}) error {
	c, err := net.ListenPacket("udp", address)
	if err != nil {
		return err
	}
	if err := widen(c); err != nil {
		return err
	}
	go serveEcho(c)
	return nil
}

// swaps is a connection by which bytes go to and fro in small portions, so that
// they fill no queue.
type swaps struct {
	stop  chan struct{}
	done  chan error
	bytes int64
}

func startSwaps(t *testing.T, h *lab.Host, to string) *swaps {
	t.Helper()
	c, err := h.Dial(within(t, 20*time.Second), "tcp", to)
	must(t, err)
	t.Cleanup(func() { c.Close() })
	must(t, c.SetDeadline(time.Now().Add(patience)))
	s := &swaps{stop: make(chan struct{}), done: make(chan error, 1)}
	go func() {
		const portion = 8 << 10
		tick := time.NewTicker(10 * time.Millisecond) // so that the guest has time for all
		defer tick.Stop()
		for {
			select {
			case <-s.stop:
				s.done <- nil
				return
			case <-tick.C:
			}
			if err := swap(c, portion); err != nil {
				s.done <- err
				return
			}
			s.bytes += 2 * portion
		}
	}()
	return s
}

// end stops it, and returns how many bytes went both ways.
func (s *swaps) end(t *testing.T) int64 {
	t.Helper()
	close(s.stop)
	must(t, <-s.done)
	return s.bytes
}

// Against strongSwan with the ESP of a kernel: each kind of cipher in transport
// mode, and keys that either end replaces in the midst of transfers, of which
// no datagram is lost. Algorithms are spelled alike in both programs' files.
func TestKernelRekey(t *testing.T) {
	s := newSite(t)
	share := t.TempDir()
	guest := s.guestWorkstation(t, share, espModules+",chacha_generic,poly1305_generic,des_generic,ccm")
	m := &matrixSite{tunnelPeer: &tunnelPeer{site: s, d: startDaemon(t, s.server), c: &charon{dir: share}}}
	m.d.write(t, "psk", []byte(psk))
	startGuestCharon(t, guest, m.c)
	for _, address := range []string{workstation4, workstation6} {
		must(t, guest.Call("Guest.ServeSwaps", net.JoinHostPort(address, "8443"), nil))
		must(t, guest.Call("Guest.ServeEcho", net.JoinHostPort(address, "7"), nil))
	}
	for _, tt := range []struct {
		esp       string
		ipv6      bool
		initiator string
		event     string
	}{
		{"aes256gcm16", false, "ipsecfw", "ipsecfw rekeys Child SA"},
		{"aes256gcm16", true, "strongSwan", "strongSwan rekeys Child SA"},
		{"chacha20poly1305", false, "ipsecfw", "strongSwan rekeys IKE SA"},
		{"aes256-sha384", true, "strongSwan", "ipsecfw rekeys IKE SA"},
		{"aes128ctr-sha512", false, "ipsecfw", "strongSwan rekeys Child SA"},
		{"aes128ccm16", true, "ipsecfw", "strongSwan rekeys IKE SA"},
		{"3des-sha1", true, "strongSwan", "ipsecfw rekeys Child SA"},
	} {
		family, server, workstation := "IPv4", server4, workstation4
		if tt.ipv6 {
			family, server, workstation = "IPv6", server6, workstation6
		}
		t.Run(fmt.Sprintf("%s, %s, %s begins, %s", tt.esp, family, tt.initiator, tt.event), func(t *testing.T) {
			lifetime := func(event string) string {
				if event == tt.event {
					return "6s" // it is to be over before the next one, on however busy a machine
				}
				return "1h"
			}
			m.c.connect(t, connection{
				Name: "inner", Local: workstation, Remote: server, Mode: "transport", ESP: tt.esp, LocalTS: "dynamic", RemoteTS: "dynamic",
			})
			m.d.apply(t, fmt.Sprintf(`version: 1
name: kernel
key-exchange: {lifetime: %s}
filter-lists:
  peer: [{from: me, to: %q}]
filter-actions:
  secure: {negotiate: {methods: [%s], lifetime: %s}}
rules:
  - {name: peer, filter-list: peer, action: secure, legacy: true, authentication: [{preshared-key: {file: psk}}]}
`, lifetime("ipsecfw rekeys IKE SA"), workstation, tt.esp, lifetime("ipsecfw rekeys Child SA")))
			defer m.end(t)
			wire := s.between(t)
			if tt.initiator == "strongSwan" {
				m.c.initiate(t, "inner")
			}
			must(t, ping(within(t, 20*time.Second), s.server, server, workstation, 3000))
			agree(t, m.d, m.c, func() uint64 { return 0 })
			numbered := startTraffic(t, s.server, server, net.JoinHostPort(workstation, "7"))
			swaps := startSwaps(t, s.server, net.JoinHostPort(workstation, "8443"))
			m.happen(t, tt.event)
			bytes := swaps.end(t)
			if sent, lost := numbered.end(t); lost > 0 {
				t.Errorf("%d of %d datagrams were lost", lost, sent)
			}
			must(t, ping(within(t, 20*time.Second), s.server, server, workstation, 3000))
			must(t, transfer(s.server, server, net.JoinHostPort(workstation, "8443"), megabyte))
			wire.secret(t, bytes+2*megabyte)
			if n := wire.udp.Load(); n > 0 {
				t.Errorf("%d ESP packets were UDP-encapsulated", n)
			}
			m.d.untroubled(t)
		})
	}
	if t.Failed() {
		t.Logf("the guest's kernel:\n%s%s", inGuest(t, guest, "ip -s xfrm state"), inGuest(t, guest, "cat /proc/net/xfrm_stat /proc/net/snmp /proc/net/snmp6 /proc/net/dev"))
	}
}
