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
)

// particular is rules with another policy for the peer, and with children by
// mode, as the rules of a host have them.
type particular struct {
	rules
	change func(*ike.Policy)
}

func (p particular) Peer(local, remote netip.Addr) (ike.Policy, bool) {
	out, ok := p.rules.Peer(local, remote)
	if p.change != nil {
		p.change(&out)
	}
	return out, ok
}

func (p particular) Child(_, _ netip.Addr, _, _ []ipsec.TrafficSelector, transport bool) (out []ike.ChildPolicy) {
	for _, c := range p.children {
		if (c.Mode == ipsec.Transport) == transport {
			out = append(out, c)
		}
	}
	return out
}

// What the post-mortems of both ends say beyond the cause.
func TestManagerPostMortemSides(t *testing.T) {
	ofB := func(r rules) ike.Policies { return r }
	tunnel := psk(addrA)
	tunnel.children = []ike.ChildPolicy{all("all")}
	tunnel.children[0].Mode = ipsec.Tunnel
	elsewhere := psk(addrA)
	elsewhere.children = []ike.ChildPolicy{all("all")}
	elsewhere.children[0].Local = []ipsec.TrafficSelector{host(addrC)}
	ppk := func(secret string) func(*ike.Policy) {
		return func(p *ike.Policy) { p.PPKs = []ike.PPK{{ID: "winter", Secret: []byte(secret)}} }
	}
	suite := func(name string) func(*ike.Policy) {
		return func(p *ike.Policy) { p.Proposals, _, _ = ike.Suite(name) }
	}
	long := psk(addrB)
	long.localID = strings.Repeat("a", 1500)
	for _, tt := range []struct {
		name     string
		a, b     ike.Policies
		most     int          // bytes of a message that arrives
		causes   [2]ike.Cause // at a and b
		settings [2]string
		texts    [2]string
	}{
		{name: "the peer refuses us though we believe it", a: particular{psk(addrB), func(p *ike.Policy) { p.PeerID = "c.example" }}, b: ofB(psk(addrA)),
			causes: [2]ike.Cause{ike.CauseIdentity, ike.CauseRefusedByPeer}, settings: [2]string{"rules: peer-id", "authentication"},
			texts: [2]string{"", "the peer refused our authentication: this host said that it is 10.0.0.2"}},
		{name: "transport against tunnel", a: psk(addrB), b: particular{tunnel, nil},
			causes: [2]ike.Cause{ike.CauseSelectors, ike.CauseMode}, settings: [2]string{"filter-lists", "filter-actions: …: negotiate: mode"},
			texts: [2]string{"", "this host   10.0.0.0/24 to 10.0.0.0/24; mode tunnel\nthe peer    ESP:aes256gcm16-noesn; 10.0.0.2 to 10.0.0.1; mode transport"}},
		{name: "other selectors", a: psk(addrB), b: particular{elsewhere, nil},
			causes: [2]ike.Cause{ike.CauseSelectors, ike.CauseSelectors}, settings: [2]string{"filter-lists", "filter-lists"},
			texts: [2]string{"", "this host   10.0.0.3 to 10.0.0.0/24; mode transport\nthe peer    ESP:aes256gcm16-noesn; 10.0.0.2 to 10.0.0.1;"}},
		{name: "other suites", a: particular{psk(addrB), suite("cnsa2")}, b: particular{psk(addrA), suite("interop")},
			causes:   [2]ike.Cause{ike.CauseNoProposal, ike.CauseNoProposal},
			settings: [2]string{"key-exchange: suite", "key-exchange: suite"},
			texts:    [2]string{"the same suite: this host has cnsa2", "the same suite: this host has interop, the peer cnsa2"}},
		{name: "other PPKs", a: particular{psk(addrB), ppk("a")}, b: particular{psk(addrA), ppk("b")},
			causes: [2]ike.Cause{ike.CauseRefusedByPeer, ike.CauseKeyMismatch}, settings: [2]string{"authentication", "authentication"},
			texts: [2]string{`the same "ppk"`, `what the ppk "winter" holds, differs`}},
		{name: "large messages get lost", a: long, b: particular{psk(addrA), func(p *ike.Policy) { p.FragmentSize = -1 }}, most: 500,
			causes:   [2]ike.Cause{ike.CauseNoAnswerLarge, ike.CauseNoAnswer},
			settings: [2]string{"key-exchange: fragmentation: true", "key-exchange: fragmentation: true"},
			texts:    [2]string{"let IP fragments", "on this host: the peer began and sent nothing more that arrived"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				net := iketest.NewNetwork(1, iketest.Faults{Delay: time.Millisecond})
				var log bytes.Buffer
				a := start(t, net, addrA, tt.a, func(c *ike.ManagerConfig) {
					c.Log = slog.New(slog.NewTextHandler(&log, nil))
					if tt.most > 0 {
						c.Transport = choking{net, tt.most, 0}
					}
				})
				b := start(t, net, addrB, tt.b)
				a.acquire(addrB, "all")
				pass(2 * time.Minute)
				for i, got := range [][]ike.PostMortem{a.PostMortems(addrB), b.PostMortems(addrA)} {
					if len(got) != 1 {
						t.Fatalf("%d: %d post-mortems: %+v", i, len(got), got)
					}
					p := got[0]
					if p.Cause != tt.causes[i] || p.Change.Setting != tt.settings[i] || !strings.Contains(p.String(), tt.texts[i]) || p.Step == "none" {
						t.Errorf("%d: want %s, %s, %q; got\n%s", i, tt.causes[i], tt.settings[i], tt.texts[i], &p)
					}
				}
				for line := range strings.Lines(log.String()) {
					if strings.Contains(line, "cause=") && (len(line) > 2000 || strings.Contains(line, "-->") || strings.Contains(line, "prfsha256")) {
						t.Errorf("a line of the log: %s", line)
					}
				}
			})
		})
	}
}

// A failure is told as one of the past once there is an SA.
func TestManagerPostMortemOver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		net := iketest.NewNetwork(1, iketest.Faults{Delay: time.Millisecond})
		a := start(t, net, addrA, psk(addrB))
		wrong := psk(addrA)
		wrong.secret = "battery staple"
		b := start(t, net, addrB, wrong)
		a.acquire(addrB, "all")
		pass(time.Minute)
		if got := a.PostMortems(addrB); len(got) != 1 || got[0].Standing != nil || got[0].Over() {
			t.Fatalf("before: %+v", got)
		}
		b.SetPolicies(psk(addrA))
		a.Initiate(addrA, addrB, all("all"), host(addrA), host(addrB))
		pass(time.Second)
		for _, n := range []*node{a, b} {
			if got := n.PostMortems(netip.Addr{}); len(got) != 1 || !got[0].Over() || !strings.HasPrefix(got[0].String(), "there is an SA with ") {
				t.Errorf("since: %+v", got)
			}
		}
		// A rule that the peer does not have fails on the IKE SA that stands.
		other := psk(addrA)
		other.children = []ike.ChildPolicy{all("all")}
		other.children[0].Local = []ipsec.TrafficSelector{host(addrC)}
		b.SetPolicies(other)
		pass(time.Second)
		a.Initiate(addrA, addrB, all("other"), host(addrA), host(addrB))
		pass(time.Second)
		if got := a.PostMortems(addrB); len(got) != 2 || got[0].Rule != "other" || got[0].Over() || !got[1].Over() {
			t.Errorf("another rule: %+v", got)
		}
		if got := a.PostMortems(addrB); len(got) > 0 && got[0].Standing != nil {
			t.Errorf("no SA of that rule: %+v", got[0])
		}
	})
}

// Whoever has a PPK for a peer learns that it protects nothing.
func TestManagerWarnsOfNoPPK(t *testing.T) {
	for name, tt := range map[string]struct {
		theirs []ike.PPK
		want   int
	}{
		"the peer has none": {nil, 1},
		"the peer has it":   {[]ike.PPK{{ID: "winter", Secret: []byte("b")}}, 0},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				net := iketest.NewNetwork(1, iketest.Faults{})
				var log bytes.Buffer
				a := start(t, net, addrA, particular{psk(addrB), func(p *ike.Policy) {
					p.PPKs = []ike.PPK{{ID: "winter", Secret: []byte("b")}}
				}}, func(c *ike.ManagerConfig) { c.Log = slog.New(slog.NewTextHandler(&log, nil)) })
				b := start(t, net, addrB, particular{psk(addrA), func(p *ike.Policy) { p.PPKs = tt.theirs }})
				a.acquire(addrB, "all")
				pass(time.Minute)
				if n := strings.Count(log.String(), "level=WARN msg=\"no ppk in common"); n != tt.want || shared(a, b) != 1 {
					t.Errorf("%d warnings, want %d:\n%s", n, tt.want, log.String())
				}
			})
		})
	}
}
