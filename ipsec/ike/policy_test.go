package ike

import (
	"testing"
	"time"

	"github.com/ipsecfw/ipsecfw/ipsec"
)

func TestSameMeaning(t *testing.T) {
	rule := func() ChildPolicy {
		return ChildPolicy{
			Name: "web", Mode: ipsec.Transport, Proposals: []ipsec.Proposal{espP(gcm, p256), espP(cbc, hmac256)}, Lifetime: time.Hour,
			Auth: []AuthMethod{PresharedKey{Secret: []byte("one")}}, PeerID: "a.example",
			Peers: &PeerGroup{Name: "staff", Names: []string{"a.example"}, Units: []string{"Sales"}},
		}
	}
	for _, tt := range []struct {
		name   string
		change func(*ChildPolicy)
		want   bool
	}{
		{"a copy", func(*ChildPolicy) {}, true},
		{"other packets", func(p *ChildPolicy) { p.Local = []ipsec.TrafficSelector{{}} }, true},
		{"name", func(p *ChildPolicy) { p.Name = "mail" }, false},
		{"mode", func(p *ChildPolicy) { p.Mode = ipsec.Tunnel }, false},
		{"a transform", func(p *ChildPolicy) { p.Proposals[0].Transforms[0] = gcm128 }, false},
		{"no PFS", func(p *ChildPolicy) { p.Proposals = WithoutGroups(p.Proposals) }, false},
		{"a proposal less", func(p *ChildPolicy) { p.Proposals = p.Proposals[:1] }, false},
		{"lifetime", func(p *ChildPolicy) { p.Lifetime = time.Minute }, false},
		{"UDP", func(p *ChildPolicy) { p.ForceUDP = true }, false},
		{"key", func(p *ChildPolicy) { p.Auth = []AuthMethod{PresharedKey{Secret: []byte("two")}} }, false},
		{"peer", func(p *ChildPolicy) { p.PeerID = "" }, false},
		{"no group of peers", func(p *ChildPolicy) { p.Peers = nil }, false},
		{"another group of peers", func(p *ChildPolicy) { p.Peers.Name = "others" }, false},
		{"another name in the group", func(p *ChildPolicy) { p.Peers.Names[0] = "b.example" }, false},
		{"another unit in the group", func(p *ChildPolicy) { p.Peers.Units = nil }, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p, q := rule(), rule()
			tt.change(&q)
			if p.SameMeaning(q) != tt.want || q.SameMeaning(p) != tt.want {
				t.Errorf("SameMeaning is not %v", tt.want)
			}
		})
	}
}
