package ike_test

import (
	"bytes"
	"log/slog"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ipsecfw/ipsecfw/ipsec"
	"github.com/ipsecfw/ipsecfw/ipsec/ike"
	"github.com/ipsecfw/ipsecfw/ipsec/ike/iketest"
	"github.com/ipsecfw/ipsecfw/ipsec/ike/wire"
)

// A peer that claims the name of another, which a preshared key lets it do,
// and says INITIAL_CONTACT, ends no SA of that other.
func TestManagerFalseInitialContact(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		net := iketest.NewNetwork(1, iketest.Faults{})
		evil := psk(addrB)
		evil.localID = addrA.String()
		a, b, c := start(t, net, addrA, psk(addrB)), start(t, net, addrB, psk(addrA, addrC)), start(t, net, addrC, evil)
		a.acquire(addrB, "all")
		pass(time.Second)
		c.acquire(addrB, "all")
		pass(time.Second)
		if shared(a, b) != 1 || shared(c, b) != 1 {
			t.Errorf("b shares %d Child SAs with a and %d with c, want 1 and 1", shared(a, b), shared(c, b))
		}
	})
}

// With the key of both ends in one host's hands, somebody who sends a host's
// own messages back to it must not make it talk to itself.
func TestManagerReflection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		tunnel := all("all")
		tunnel.Mode = ipsec.Tunnel
		r := psk(addrB)
		r.children = []ike.ChildPolicy{tunnel}
		m := &mirror{}
		a := start(t, iketest.NewNetwork(1, iketest.Faults{}), addrA, r, func(c *ike.ManagerConfig) { c.Transport = m })
		m.to = a.Manager
		a.Acquire(addrA, addrB, tunnel, host(addrA), host(addrB))
		pass(time.Minute)
		if len(a.Peers())+len(a.sad.Alive()) != 0 {
			t.Errorf("a has the peers %+v and the SAs %v", a.Peers(), a.sad.Alive())
		}
	})
}

// mirror is a transport that brings everything back.
type mirror struct{ to *ike.Manager }

func (m *mirror) Send(local, remote netip.AddrPort, data []byte) error {
	m.to.HandleDatagram(local, remote, data)
	return nil
}

// An IKE SA does not outlive the key by which its peer authenticated.
func TestManagerOtherKey(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		net := iketest.NewNetwork(1, iketest.Faults{})
		a, b := start(t, net, addrA, psk(addrB)), start(t, net, addrB, psk(addrA))
		a.acquire(addrB, "all")
		pass(time.Second)
		fresh := psk(addrA)
		fresh.secret = "battery staple"
		b.SetPolicies(fresh)
		pass(time.Second)
		if len(a.Peers())+len(b.Peers())+len(a.sad.Alive())+len(b.sad.Alive()) != 0 {
			t.Errorf("b still has %+v", b.Peers())
		}
	})
}

// All addresses of a subnet of IPv6 count as one peer that has not
// authenticated. Four of them are answered, the others have to return a cookie.
func TestManagerHalfOpenSubnet(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		answered, asked := 0, 0
		count := transport(func(data []byte) {
			h, _, err := wire.Decode(data)
			switch {
			case err != nil:
				t.Error(err)
			case h.SPIr != 0:
				answered++
			default:
				asked++
			}
		})
		var peers []netip.Addr
		for i := range 40 {
			peers = append(peers, netip.AddrFrom16([16]byte{0x20, 1, 0xd, 0xb8, 15: byte(i + 2)}))
		}
		me := netip.MustParseAddr("2001:db8::1")
		b := start(t, iketest.NewNetwork(1, iketest.Faults{}), me, psk(peers...), func(c *ike.ManagerConfig) { c.Transport = count })
		for i, p := range peers {
			firstWords(t, b, p, ike.Policy{Auth: key("x")}, uint64(i))
		}
		pass(time.Second)
		if answered != 4 || asked != 36 {
			t.Errorf("of 40 hosts in one subnet %d got an answer and %d were asked for a cookie, want 4 and 36", answered, asked)
		}
	})
}

// Strangers write no lines into the log at will.
func TestManagerLogsLittle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		b := start(t, iketest.NewNetwork(1, iketest.Faults{}), addrB, psk(addrA), func(c *ike.ManagerConfig) {
			c.Log = slog.New(slog.NewTextHandler(&log, nil))
		})
		weak := []ipsec.Proposal{{Protocol: ipsec.ProtoIKE, Transforms: []ipsec.Transform{
			{Type: ipsec.TypeEncr, ID: ipsec.EncrAESCBC, KeyBits: 128}, {Type: ipsec.TypeInteg, ID: ipsec.IntegHMACSHA1},
			{Type: ipsec.TypePRF, ID: ipsec.PRFHMACSHA1}, {Type: ipsec.TypeGroup, ID: ipsec.GroupX25519},
		}}}
		for i := range 100 {
			firstWords(t, b, addrA, ike.Policy{Auth: key("x"), Proposals: weak}, uint64(i))
		}
		pass(time.Second)
		if n := strings.Count(log.String(), "\n"); n != 1 {
			t.Errorf("%d lines for 100 requests that are refused, want 1:\n%.500s", n, log.String())
		}
	})
}
