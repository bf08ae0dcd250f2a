package test

import (
	"fmt"
	"net"
	"testing"
	"time"
)

// Fragments that come in clear are judged as the packet that they are of: those
// without ports do not get past a filter that has some.
func TestClearFragments(t *testing.T) {
	const policy = `version: 1
name: fragments
filter-lists:
  secret:
    - {from: any, to: me, protocol: udp, to-port: 9}
filter-actions:
  secure: {negotiate: {mode: transport}}
rules:
  - {name: secret, filter-list: secret, action: secure, authentication: [{preshared-key: {file: psk}}]}
`
	s := newSite(t)
	w := s.workstation(t)
	d := startDaemon(t, s.server)
	d.write(t, "psk", []byte(psk))
	d.apply(t, policy)
	for _, server := range []string{server4, server6} {
		for _, size := range []int{100, 1472, 3000, 20_000} {
			t.Run(fmt.Sprintf("%s %d", server, size), func(t *testing.T) {
				open, err := s.server.ListenPacket("udp", net.JoinHostPort(server, "10"))
				must(t, err)
				defer open.Close()
				secret, err := s.server.ListenPacket("udp", net.JoinHostPort(server, "9"))
				must(t, err)
				defer secret.Close()
				for _, port := range []string{"9", "10"} { // what is permitted comes after what is not
					c, err := w.Dial(within(t, 5*time.Second), "udp", net.JoinHostPort(server, port))
					must(t, err)
					_, err = c.Write(make([]byte, size))
					must(t, err)
					c.Close()
				}
				got := make([]byte, 1<<16)
				must(t, open.SetReadDeadline(time.Now().Add(5*time.Second)))
				if n, _, err := open.ReadFrom(got); err != nil || n != size {
					t.Fatalf("what no filter is about: %d bytes, %v", n, err)
				}
				must(t, secret.SetReadDeadline(time.Now().Add(50*time.Millisecond)))
				if n, _, err := secret.ReadFrom(got); err == nil {
					t.Errorf("%d bytes come in clear", n)
				}
			})
		}
	}
	d.untroubled(t)
}
