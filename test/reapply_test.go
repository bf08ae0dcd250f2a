package test

import (
	"net"
	"testing"
	"time"
)

// A policy is replaced while packets are in the kernel's queues, which empties
// them.
func TestApplyDuringATransfer(t *testing.T) {
	s, w, ds, dw := secureHosts(t, "")
	address := net.JoinHostPort(server4, "8443")
	listenSwaps(t, s.server, address)
	wire := s.between(t)
	done := make(chan error, 1)
	go func() { done <- transfer(w, workstation4, address, 100*megabyte) }()
	eventually(t, 20*time.Second, "the transfer is under way", func() bool { return wire.bytes.Load() > megabyte })
	applied := 0
	for running := true; running; {
		select {
		case err := <-done:
			must(t, err)
			running = false
		default:
			dw.apply(t, hostPolicy("", server4, server6))
			ds.apply(t, hostPolicy("", workstation4, workstation6))
			applied++
		}
	}
	t.Logf("applied %d times in the transfer", applied)
	wire.secret(t, 200*megabyte)
	ds.untroubled(t)
	dw.untroubled(t)
}
