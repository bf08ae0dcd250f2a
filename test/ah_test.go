package test

import (
	"bytes"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ipsecfw/ipsecfw/filter/packet"
	"github.com/ipsecfw/ipsecfw/test/lab"
)

// readable is in what the tests of AH send, for whoever can read it on the wire.
const readable = "anybody on the way can read this"

// bareWire counts packets of the wire by what protects them, and those of them in
// which the contents can be read.
type bareWire struct {
	ah, espInAH, esp, clear, read atomic.Int64
}

// watchAH watches a wire on which IKE may pass, and what AH or ESP protects.
func watchAH(t *testing.T, h *lab.Host, ifname string) (*bareWire, *lab.Capture) {
	t.Helper()
	o := new(bareWire)
	c, err := h.Capture(ifname, func(b []byte, _ bool) {
		kind, p := lab.Classify(b)
		switch {
		case p.Protocol == protocolAH && p.Fragment: // the header is in one of them
		case p.Protocol == protocolAH && b[p.HeaderLen] == protocolESP:
			o.espInAH.Add(1)
		case p.Protocol == protocolAH:
			o.ah.Add(1)
		case kind == lab.ESP:
			o.esp.Add(1)
		case kind == lab.IKE, p.Protocol == protocolICMPv6 && !bytes.Contains(b, []byte(readable)):
			return
		default:
			o.clear.Add(1)
		}
		if bytes.Contains(b, []byte(readable)) {
			o.read.Add(1)
		}
	})
	must(t, err)
	return o, c
}

const (
	protocolESP    = packet.ESP
	protocolAH     = packet.AH
	protocolICMPv6 = 58
)

// say sends what can be read to an echo and waits for the answer.
func say(t *testing.T, h *lab.Host, from, to string, size int) {
	t.Helper()
	c, err := h.DialFrom(within(t, 5*time.Second), "udp", from, to)
	must(t, err)
	defer c.Close()
	message := bytes.Repeat([]byte(readable), size/len(readable)+1)[:size]
	got := make([]byte, size+1)
	must(t, askUntil(within(t, 20*time.Second), func(deadline time.Time) error {
		if _, err := c.Write(message); err != nil {
			return err
		}
		must(t, c.SetReadDeadline(deadline))
		n, err := c.Read(got)
		if err == nil && !bytes.Equal(got[:n], message) {
			t.Errorf("%d bytes came back that are not those that were sent", n)
		}
		return err
	}))
}

// Two hosts under AH, under ESP inside AH and under ESP that hides nothing, with
// either IP version, in both modes: what is on the wire, and what of it can be
// read.
func TestAH(t *testing.T) {
	s := newSite(t)
	w := s.workstation(t)
	ds, dw := startDaemon(t, s.server), startDaemon(t, w)
	ds.write(t, "psk", []byte(psk))
	dw.write(t, "psk", []byte(psk))
	inner4, inner6 := [2]string{serverInner, workstationInner}, [2]string{"fd00:5:1::1", "fd00:5:2::1"}
	for i, h := range []*lab.Host{s.server, w} {
		must(t, h.Address("lo", hostPrefix(inner4[i]), hostPrefix(inner6[i])))
	}
	for _, address := range []string{server4, server6, inner4[0], inner6[0]} {
		listenEcho(t, s.server, net.JoinHostPort(address, "7"))
		listenSwaps(t, s.server, net.JoinHostPort(address, "8443"))
	}
	for _, mode := range []string{"transport", "tunnel"} {
		for _, family := range []string{"IPv4", "IPv6"} {
			outer, inner := [2]string{server4, workstation4}, [2]string{server4, workstation4}
			if family == "IPv6" {
				outer, inner = [2]string{server6, workstation6}, [2]string{server6, workstation6}
			}
			modes := [2]string{"mode: transport", "mode: transport"}
			if mode == "tunnel" {
				if inner = inner4; family == "IPv4" {
					inner = inner6 // either inside the other
				}
				for i := range modes {
					modes[i] = fmt.Sprintf("mode: tunnel, tunnel: {local: %q, remote: %q}", outer[i], outer[1-i])
				}
			}
			for _, x := range []struct {
				name, methods string
				protocols     []string // of the SAs
				read          bool
			}{
				{"AH", "{ah: sha256}", []string{"AH"}, true},
				{"AH of GMAC", "{ah: aesgmac128}", []string{"AH"}, true},
				{"ESP inside AH", "{ah: sha384, esp: aes256-sha256}", []string{"AH", "ESP"}, false},
				{"ESP without encryption", "null-sha256, aes256gmac", []string{"ESP"}, true},
			} {
				t.Run(fmt.Sprintf("%s, %s, %s", x.name, mode, family), func(t *testing.T) {
					for i, d := range []*daemon{ds, dw} {
						d.apply(t, fmt.Sprintf(`version: 1
name: ah
filter-lists:
  all: [{from: %q, to: %q}]
filter-actions:
  protect: {negotiate: {%s, methods: [%s]}}
rules:
  - {name: all, filter-list: all, action: protect, authentication: [{preshared-key: {file: psk}}]}
`, inner[i], inner[1-i], modes[i], x.methods))
					}
					seen, capture := watchAH(t, s.gateway, "wks0")
					must(t, ping(within(t, 20*time.Second), w, inner[1], inner[0], 1000))
					to := net.JoinHostPort(inner[0], "7")
					say(t, w, inner[1], to, 900)
					must(t, transfer(w, inner[1], net.JoinHostPort(inner[0], "8443"), 3*megabyte))
					say(t, w, inner[1], to, 5000) // in fragments
					must(t, capture.Close())
					var protocols []string
					for _, d := range []*daemon{ds, dw} {
						protocols = protocols[:0]
						for _, sa := range d.sas(t) {
							protocols = append(protocols, sa.Protocol)
							if sa.ReplayDrops+sa.IntegrityFailures+sa.Malformed+sa.Mismatches != 0 {
								t.Errorf("%s dropped packets: %+v", d.host.Name, sa)
							}
						}
						slices.Sort(protocols)
						if !slices.Equal(protocols, x.protocols) {
							t.Errorf("%s has SAs of %v, want %v", d.host.Name, protocols, x.protocols)
						}
					}
					ah, nested, esp, read := seen.ah.Load(), seen.espInAH.Load(), seen.esp.Load(), seen.read.Load()
					if n := seen.clear.Load(); n != 0 {
						t.Errorf("%d packets in clear", n)
					}
					counts := map[string]int64{"AH": ah, "AH,ESP": nested, "ESP": esp}
					for k, n := range counts {
						if want := k == strings.Join(x.protocols, ","); (n > 2000) != want || !want && n > 0 {
							t.Errorf("%d packets of %s", n, k)
						}
					}
					if (read > 0) != x.read {
						t.Errorf("%d packets can be read", read)
					}
					ds.untroubled(t)
					dw.untroubled(t)
				})
			}
		}
	}
}

// Against strongSwan with the AH of a kernel: both modes, with either IP version,
// begun by either end, and keys that are replaced by either.
func TestKernelAH(t *testing.T) {
	s := newSite(t)
	share := t.TempDir()
	guest := s.guestWorkstation(t, share, "ah4,ah6,"+espModules)
	d, c := startDaemon(t, s.server), &charon{dir: share}
	d.write(t, "psk", []byte(psk))
	startGuestCharon(t, guest, c)
	for _, address := range []string{workstation4, workstation6} {
		must(t, guest.Call("Guest.ServeSwaps", net.JoinHostPort(address, "8443"), nil))
		must(t, guest.Call("Guest.ServeEcho", net.JoinHostPort(address, "7"), nil))
	}
	for _, tt := range []struct {
		integ     string // spelled alike in both programs' files
		ipv6      bool
		mode      string
		initiator string
	}{
		{"sha256", false, "transport", "ipsecfw"},
		{"sha512", true, "transport", "strongSwan"},
		{"sha384", false, "tunnel", "strongSwan"},
		{"sha256", true, "tunnel", "ipsecfw"},
	} {
		family, server, workstation := "IPv4", server4, workstation4
		if tt.ipv6 {
			family, server, workstation = "IPv6", server6, workstation6
		}
		t.Run(fmt.Sprintf("%s, %s, %s, %s begins", tt.integ, tt.mode, family, tt.initiator), func(t *testing.T) {
			c.connect(t, connection{
				Name: "ah", Local: workstation, Remote: server, Mode: tt.mode, AH: tt.integ + "," + tt.integ + "-esn", LocalTS: "dynamic", RemoteTS: "dynamic",
			})
			mode := "mode: " + tt.mode
			if tt.mode == "tunnel" {
				mode += fmt.Sprintf(", tunnel: {local: %q, remote: %q}", server, workstation)
			}
			d.apply(t, fmt.Sprintf(`version: 1
name: kernel-ah
filter-lists:
  peer: [{from: %q, to: %q}]
filter-actions:
  protect: {negotiate: {%s, methods: [{ah: %s}]}}
rules:
  - {name: peer, filter-list: peer, action: protect, authentication: [{preshared-key: {file: psk}}]}
`, server, workstation, mode, tt.integ))
			seen, capture := watchAH(t, s.gateway, "wks0")
			if tt.initiator == "strongSwan" {
				c.initiate(t, "ah")
			}
			must(t, ping(within(t, 20*time.Second), s.server, server, workstation, 3000))
			say(t, s.server, server, net.JoinHostPort(workstation, "7"), 900)
			agree(t, d, c, func() uint64 { return 0 })
			before := d.sas(t)[0].InSPI
			_, err := c.swanctl("--rekey", "--child", "ah")
			must(t, err)
			eventually(t, 10*time.Second, "another SA has its place", func() bool {
				sas := d.sas(t)
				return len(sas) == 1 && sas[0].InSPI != before
			})
			must(t, transfer(s.server, server, net.JoinHostPort(workstation, "8443"), megabyte))
			agree(t, d, c, func() uint64 { return 0 })
			must(t, capture.Close())
			if seen.ah.Load() < 1000 || seen.read.Load() == 0 || seen.esp.Load()+seen.espInAH.Load()+seen.clear.Load() > 0 {
				t.Errorf("%d packets of AH, %d of them to be read; %d in clear, %d of ESP", seen.ah.Load(), seen.read.Load(), seen.clear.Load(), seen.esp.Load()+seen.espInAH.Load())
			}
			c.terminate(t, "ah")
			eventually(t, 10*time.Second, "the SAs end with strongSwan's", func() bool { return len(d.sas(t)) == 0 })
			d.untroubled(t)
		})
	}
	if t.Failed() {
		t.Logf("the guest's kernel:\n%s%s", inGuest(t, guest, "ip -s xfrm state"), inGuest(t, guest, "cat /proc/net/xfrm_stat"))
	}
}
