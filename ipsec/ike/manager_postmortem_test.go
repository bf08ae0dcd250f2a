package ike_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ipsecfw/ipsecfw/ipsec"
	"github.com/ipsecfw/ipsecfw/ipsec/ike"
	"github.com/ipsecfw/ipsecfw/ipsec/ike/iketest"
)

// proposing is rules with other algorithms for the IKE SA.
type proposing struct {
	rules
	proposals []ipsec.Proposal
}

func (p proposing) Peer(local, remote netip.Addr) (ike.Policy, bool) {
	out, ok := p.rules.Peer(local, remote)
	out.Proposals = p.proposals
	return out, ok
}

// choking loses what is larger than a size, in bytes.
type choking struct {
	*iketest.Network
	most int
	port uint16 // only what goes to this port, unless it is 0
}

func (c choking) Send(local, remote netip.AddrPort, data []byte) error {
	if len(data) > c.most && (c.port == 0 || remote.Port() == c.port) {
		return nil
	}
	return c.Network.Send(local, remote, data)
}

// Each failure leaves a post-mortem at the end that began, and at the one that
// was asked, if it heard of it.
func TestManagerPostMortem(t *testing.T) {
	p256 := []ipsec.Proposal{{Protocol: ipsec.ProtoIKE, Transforms: []ipsec.Transform{
		{Type: ipsec.TypeEncr, ID: ipsec.EncrAESGCM16, KeyBits: 256},
		{Type: ipsec.TypePRF, ID: ipsec.PRFHMACSHA256},
		{Type: ipsec.TypeGroup, ID: ipsec.GroupP256},
	}}}
	other := func(change func(*ike.ChildPolicy)) rules {
		r, c := psk(addrA), all("all")
		change(&c)
		r.children = []ike.ChildPolicy{c}
		return r
	}
	wrong := psk(addrA)
	wrong.secret = "battery staple"
	for _, tt := range []struct {
		name       string
		b          ike.Policies
		transport  func(*iketest.Network) ike.Transport
		nobody     bool
		icmp       bool
		a, atB     ike.Cause // none for an empty one
		step       string
		change     string // of a
		difference string // at b
	}{
		{name: "no proposal", b: proposing{psk(addrA), p256}, a: ike.CauseNoProposal, atB: ike.CauseNoProposal, step: "IKE_SA_INIT",
			change: "key-exchange: proposals", difference: "key-exchange"},
		{name: "no proposal for ESP", b: other(func(c *ike.ChildPolicy) {
			c.Proposals = []ipsec.Proposal{{Protocol: ipsec.ProtoESP, Transforms: []ipsec.Transform{{Type: ipsec.TypeEncr, ID: ipsec.EncrAESGCM16, KeyBits: 128}}}}
		}), a: ike.CauseNoProposal, atB: ike.CauseNoProposal, step: "IKE_AUTH", change: "negotiate: methods", difference: "encryption"},
		{name: "selectors", b: other(func(c *ike.ChildPolicy) { c.Local = []ipsec.TrafficSelector{host(addrC)} }),
			a: ike.CauseSelectors, atB: ike.CauseSelectors, step: "IKE_AUTH", change: "filter-lists"},
		{name: "wrong key", b: wrong, a: ike.CauseRefusedByPeer, atB: ike.CauseKeyMismatch, step: "IKE_AUTH", change: "ipsecfw why"},
		{name: "nobody there", nobody: true, a: ike.CauseNoAnswer, step: "IKE_SA_INIT", change: "UDP 500"},
		{name: "ICMP comes back", nobody: true, icmp: true, a: ike.CauseUnreachable, step: "IKE_SA_INIT", change: "UDP 500"},
		{name: "messages cannot leave", nobody: true, a: ike.CauseUnreachable, step: "IKE_SA_INIT", change: "route",
			transport: func(*iketest.Network) ike.Transport { return unreachable{} }},
		{name: "what follows is lost", b: psk(addrA), a: ike.CauseNoAnswer, atB: ike.CauseNoAnswer, step: "IKE_AUTH", change: "its log",
			transport: func(n *iketest.Network) ike.Transport { return &silenced{Network: n, after: 1} }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				net := iketest.NewNetwork(1, iketest.Faults{Delay: time.Millisecond})
				var log bytes.Buffer
				a := start(t, net, addrA, psk(addrB), func(c *ike.ManagerConfig) {
					c.Log = slog.New(slog.NewJSONHandler(&log, nil))
					if tt.transport != nil {
						c.Transport = tt.transport(net)
					}
				})
				var b *node
				if !tt.nobody {
					b = start(t, net, addrB, tt.b)
				}
				a.acquire(addrB, "all")
				pass(time.Second)
				if tt.icmp {
					for range 20 {
						a.Unreachable(netip.AddrPortFrom(addrA, 500), netip.AddrPortFrom(addrB, 500), "ICMP port unreachable, from 10.0.0.2")
					}
				}
				pass(time.Minute)
				got := a.PostMortems(addrB)
				if len(got) != 1 {
					t.Fatalf("%d post-mortems, want 1: %+v", len(got), got)
				}
				p := got[0]
				if p.Cause != tt.a || p.Step != tt.step || !p.Initiator || p.Rule != "all" {
					t.Errorf("got %s", &p)
				}
				if !strings.Contains(p.Change.String(), tt.change) {
					t.Errorf("change %q, want %q", p.Change, tt.change)
				}
				if len(p.Messages) == 0 || p.Evidence.Sent == 0 {
					t.Errorf("nothing of what was sent: %+v", p)
				}
				if n := strings.Count(log.String(), `"advice"`); n != 1 {
					t.Errorf("%d lines in the log, want 1:\n%s", n, log.String())
				}
				hidden(t, p, log.String())
				if tt.atB == "" {
					return
				}
				of := b.PostMortems(addrA)
				if len(of) != 1 || of[0].Cause != tt.atB || of[0].Initiator {
					t.Fatalf("at b: %+v", of)
				}
				if d := of[0].Differences; tt.difference != "" && (len(d) != 1 || d[0].Types[0].Type != tt.difference) {
					t.Errorf("differences %+v, want %s", d, tt.difference)
				}
				hidden(t, of[0], "")
			})
		})
	}
}

// hidden checks that no secret stands in a post-mortem.
func hidden(t *testing.T, p ike.PostMortem, log string) {
	t.Helper()
	b, err := json.Marshal(p)
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range []string{secret, "battery staple"} {
		for _, form := range []string{s, fmt.Sprintf("%x", s), fmt.Sprint([]byte(s))} {
			for _, text := range []string{string(b), p.String(), fmt.Sprintf("%+v %#v", p, p), log} {
				if strings.Contains(text, form) {
					t.Errorf("the key stands in %.400s", text)
				}
			}
		}
	}
}

// silenced loses all that is sent after some messages.
type silenced struct {
	*iketest.Network
	after, sent int
}

func (s *silenced) Send(local, remote netip.AddrPort, data []byte) error {
	if s.sent++; s.sent > s.after {
		return nil
	}
	return s.Network.Send(local, remote, data)
}

// Large messages that get lost, and those to port 4500, are told apart from
// other silence.
func TestManagerPostMortemLarge(t *testing.T) {
	for _, tt := range []struct {
		name string
		udp  bool
		to   func(*iketest.Network) ike.Transport
		want ike.Cause
		more int // sendings of the request, before it is cut anew
	}{
		{"large", false, func(n *iketest.Network) ike.Transport { return choking{n, 300, 0} }, ike.CauseNoAnswerLarge, 2},
		{"port 4500", true, func(n *iketest.Network) ike.Transport { return choking{n, 0, 4500} }, ike.CauseNAT, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				net := iketest.NewNetwork(1, iketest.Faults{Delay: time.Millisecond})
				r := psk(addrB)
				r.forceUDP = tt.udp
				if !tt.udp {
					r.localID = strings.Repeat("a", 1500) // which makes IKE_AUTH large
				}
				child := all("all")
				child.Mode = ipsec.Tunnel
				a := start(t, net, addrA, r, func(c *ike.ManagerConfig) { c.Transport = tt.to(net) })
				start(t, net, addrB, psk(addrA))
				a.Acquire(addrA, addrB, child, host(addrA), host(addrB))
				pass(time.Minute)
				got := a.PostMortems(netip.Addr{})
				if len(got) != 1 || got[0].Cause != tt.want || got[0].Step != "IKE_AUTH" || !got[0].Evidence.Answered {
					t.Fatalf("got %+v", got)
				}
				q := got[0].Evidence.Request
				if q == nil || q.Exchange != "IKE_AUTH" || q.Sendings != ike.Patient.Sends+tt.more || tt.want == ike.CauseNoAnswerLarge && (q.Bytes < 1500 || q.Fragments < 2) {
					t.Errorf("request %+v", q)
				}
				if tt.udp && !slices.Equal(got[0].Evidence.Ports, []uint16{500, 4500}) {
					t.Errorf("ports %v", got[0].Evidence.Ports)
				}
			})
		})
	}
}

// Nothing is kept of what succeeded, and strangers push out no failure of a
// peer that this host began with.
func TestManagerPostMortemStrangers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		net := iketest.NewNetwork(1, iketest.Faults{})
		peers := []netip.Addr{addrA, addrC}
		for i := range 600 {
			peers = append(peers, netip.AddrFrom4([4]byte{192, 0, byte(i >> 8), byte(i)}))
		}
		b := start(t, net, addrB, psk(peers...))
		a := start(t, net, addrA, psk(addrB))
		a.acquire(addrB, "all")
		b.acquire(addrC, "all") // nobody is there
		pass(time.Minute)
		if n := len(a.PostMortems(netip.Addr{})) + len(b.PostMortems(addrA)); n != 0 || shared(a, b) != 1 {
			t.Errorf("%d post-mortems of what succeeded", n)
		}
		weak := []ipsec.Proposal{{Protocol: ipsec.ProtoIKE, Transforms: []ipsec.Transform{
			{Type: ipsec.TypeEncr, ID: ipsec.EncrAESGCM16, KeyBits: 128},
			{Type: ipsec.TypePRF, ID: ipsec.PRFHMACSHA256}, {Type: ipsec.TypeGroup, ID: ipsec.GroupX25519},
		}}}
		for i, from := range peers[2:] {
			firstWords(t, b, from, ike.Policy{Auth: key("x"), Proposals: weak}, uint64(i))
			pass(100 * time.Millisecond)
		}
		if got := b.PostMortems(addrC); len(got) != 1 || got[0].Cause != ike.CauseNoAnswer {
			t.Errorf("that of the peer is gone: %+v", got)
		}
		if n := len(b.PostMortems(netip.Addr{})); n > 130 || n < 10 {
			t.Errorf("%d in all", n)
		}
	})
}

// A watcher sees the messages of both directions, and what they lead to; a
// person need not wait for the pause after a failure.
func TestManagerWatch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		net := iketest.NewNetwork(1, iketest.Faults{})
		a := start(t, net, addrA, psk(addrB))
		var news []string
		stop := a.Watch(addrA, addrB, ike.Watcher{
			Message: func(m ike.Message) {
				_, text, _ := strings.Cut(m.String(), " ")
				text, _, _ = strings.Cut(text, ":")
				news = append(news, text)
			},
			Established: func(p ike.PeerInfo) { news = append(news, "established "+p.RemoteID) },
			Installed:   func(_ ike.PeerInfo, c ike.ChildInfo) { news = append(news, "installed "+c.Policy) },
			Failed:      func(p ike.PostMortem) { news = append(news, fmt.Sprintf("failed %s %s", p.Rule, p.Cause)) },
		})
		initiate := func() { a.Initiate(addrA, addrB, all("all"), host(addrA), host(addrB)) }
		initiate()
		pass(40 * time.Second)
		if n := len(news); n < 2 || news[0] != "--> IKE_SA_INIT request 0" || news[n-1] != "failed all no-answer" {
			t.Errorf("nobody there: %q", news)
		}
		start(t, net, addrB, psk(addrA))
		news = nil
		initiate()
		pass(100 * time.Millisecond)
		want := []string{
			"--> IKE_SA_INIT request 0", "<-- IKE_SA_INIT response 0", "--> IKE_AUTH request 1", "<-- IKE_AUTH response 1",
			"established 10.0.0.2", "installed all",
		}
		if !slices.Equal(news, want) {
			t.Errorf("got %q, want %q", news, want)
		}
		stop()
		news = nil
		a.acquire(addrB, "other")
		pass(time.Second)
		if len(news) != 0 {
			t.Errorf("after stop: %q", news)
		}
	})
}
