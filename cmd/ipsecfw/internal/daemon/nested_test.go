package daemon

import (
	"net/netip"
	"slices"
	"testing"

	"github.com/ipsecfw/ipsecfw/filter/packet"
	"github.com/ipsecfw/ipsecfw/ipsec"
	"github.com/ipsecfw/ipsecfw/ipsec/ike"
	"github.com/ipsecfw/ipsecfw/nfq"
)

const nestedSource = `version: 1
name: test
filter-lists:
  site: [{from: 10.5.0.0/16, to: 10.6.0.0/16}, {from: 10.5.0.0/16, to: 10.7.0.0/16}]
  open: [{from: me, to: 10.1.0.0/16, protocol: tcp}]
filter-actions:
  both: {negotiate: {mode: tunnel, tunnel: {local: 192.0.2.1, remote: 192.0.2.2}, df: clear, tfc: 1200, replay-window: 64,
    methods: [{ah: sha256, esp: aes256gcm16, lifetime-packets: 5000}, {ah: sha256, esp: aes128gcm16}]}}
  open: {negotiate: {methods: [{esp: null-sha256, lifetime: 1m, lifetime-bytes: 2GB}, {ah: sha256}], lifetime-bytes: 1GB}}
rules:
  - {name: site, filter-list: site, action: both, path: forward, authentication: [{preshared-key: {file: psk}}]}
  - {name: open, filter-list: open, action: open, authentication: [{preshared-key: {file: psk}}]}
`

// A rule with ESP inside AH has one Child SA of AH with a peer, in transport mode
// for protocol 50 between the two hosts, whatever its own mode and filters.
func TestChildOfNested(t *testing.T) {
	p := mustCompile(t, nestedSource)
	local, remote := netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("192.0.2.2")
	esp := p.Child(local, remote, nil, nil, false)
	if len(esp) != 2 {
		t.Fatalf("%d Child SAs of ESP, want one for each filter", len(esp))
	}
	for _, c := range esp {
		if c.Outer || c.Around == nil || c.Mode != ipsec.Tunnel || len(c.Proposals) != 2 || c.Proposals[0].Protocol != ipsec.ProtoESP {
			t.Errorf("%+v", c)
		}
	}
	ah := p.Child(local, remote, nil, nil, true)
	if len(ah) != 1 {
		t.Fatalf("%d Child SAs of AH, want 1", len(ah))
	}
	c := ah[0]
	if !c.Outer || c.Around != nil || c.Mode != ipsec.Transport || len(c.Proposals) != 1 || c.Proposals[0].Protocol != ipsec.ProtoAH || c.Name != "site" {
		t.Errorf("%+v", c)
	}
	between := func(a netip.Addr) []ipsec.TrafficSelector {
		return []ipsec.TrafficSelector{{Protocol: packet.ESP, Start: a, End: a, EndPort: 0xffff}}
	}
	if !slices.Equal(c.Local, between(local)) || !slices.Equal(c.Remote, between(remote)) {
		t.Errorf("from %v to %v", c.Local, c.Remote)
	}
	if !esp[0].Around.SameMeaning(c) {
		t.Error("what is asked for is not what is granted")
	}
	if got := p.Child(local, netip.MustParseAddr("192.0.2.3"), nil, nil, true); len(got) != 0 {
		t.Errorf("with another peer: %+v", got)
	}
	// Both stay when the policy changes and still wants them.
	for _, c := range []ike.ChildPolicy{esp[1], c} {
		sa := &nfq.SA{ChildSA: &ipsec.ChildSA{
			Policy: "site", Protocol: c.Proposals[0].Protocol, Local: c.Local, Remote: c.Remote,
			LocalAddr: netip.AddrPortFrom(local, 0), RemoteAddr: netip.AddrPortFrom(remote, 0),
		}}
		if !p.wants(sa) {
			t.Errorf("%s is not wanted any more", sa.Protocol)
		}
	}
}

// Without AH around it, a rule has what it had.
func TestChildOfAH(t *testing.T) {
	p := mustCompile(t, nestedSource)
	cs := p.Child(netip.MustParseAddr("10.9.0.1"), netip.MustParseAddr("10.1.0.1"), nil, nil, true)
	if len(cs) != 1 || cs[0].Around != nil || cs[0].Outer || len(cs[0].Proposals) != 2 || cs[0].Proposals[1].Protocol != ipsec.ProtoAH {
		t.Errorf("%+v", cs)
	}
}
