package explain

import (
	"encoding/json"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/ipsecfw/ipsecfw/filter"
	"github.com/ipsecfw/ipsecfw/filter/packet"
	"github.com/ipsecfw/ipsecfw/rules"
)

const policy = `version: 1
name: test
exemptions: 0
peers:
  staff: {units: [Staff]}
filter-lists:
  staff: [{from: 10.1.0.0/16, to: me, protocol: tcp, to-port: 8443}]
  sites: [{from: 10.5.0.0/16, to: 10.6.0.0/16}]
  ping: [{from: any, to: me, protocol: icmp, icmp-type: echo-request, limit: {rate: 5/second, burst: 5}}]
  outward: [{from: me, to: any, stateful: true, log: true}]
  rest: [{from: any, to: me}]
filter-actions:
  tunnel: {negotiate: {mode: tunnel, tunnel: {local: 192.0.2.1, remote: 192.0.2.2}, methods: [aes256gcm16]}}
  refuse: {block: {reject: true}}
rules:
  - {name: staff, filter-list: staff, action: request-security, peers: staff,
     authentication: [{certificate: {authority: ca.pem, own: host.pem, key: host.key}}, {preshared-key: {file: psk}}]}
  - {name: sites, filter-list: sites, action: tunnel, path: forward, peer-id: gw.example, authentication: [{preshared-key: {file: psk}}]}
  - {name: ping, filter-list: ping, action: permit}
  - {name: outward, filter-list: outward, action: permit}
  - {name: rest, filter-list: rest, action: refuse}
`

func testPolicy(t *testing.T) (*filter.SPD, map[string]rules.Negotiation) {
	t.Helper()
	f, err := rules.Parse("p.yaml", []byte(policy))
	if err != nil {
		t.Fatal(err)
	}
	s, err := filter.New(f.Entries(rules.Addresses{}), filter.Settings{Exemptions: f.Exemptions})
	if err != nil {
		t.Fatal(err)
	}
	return s, f.Negotiations()
}

func addr(s string) netip.Addr { return netip.MustParseAddr(s) }

// What the explanations say, byte for byte.
func TestText(t *testing.T) {
	s, negotiations := testPolicy(t)
	for _, tt := range []struct {
		name string
		flow Flow
	}{
		{"negotiate", Flow{Direction: "inbound", From: addr("10.1.2.3"), To: addr("10.2.0.1"), Protocol: packet.TCP, FromPort: 50000, ToPort: 8443}},
		{"negotiate-out", Flow{Direction: "outbound", From: addr("10.2.0.1"), To: addr("10.1.2.3"), Protocol: packet.TCP, FromPort: 8443, ToPort: 50000, State: "reply"}},
		{"tunnel", Flow{Direction: "forward", From: addr("10.5.1.1"), To: addr("10.6.1.1"), Protocol: packet.UDP, FromPort: 1, ToPort: 2, Interface: "eth1"}},
		{"reject", Flow{Direction: "inbound", From: addr("192.0.2.9"), To: addr("10.2.0.1"), Protocol: packet.TCP, FromPort: 50000, ToPort: 23}},
		{"stateful", Flow{Direction: "outbound", From: addr("10.2.0.1"), To: addr("192.0.2.9"), Protocol: packet.TCP, FromPort: 50000, ToPort: 443}},
		{"ping", Flow{Direction: "inbound", From: addr("192.0.2.9"), To: addr("10.2.0.1"), Protocol: packet.ICMP, ICMPType: 8}},
		{"unreachable", Flow{Direction: "inbound", From: addr("192.0.2.9"), To: addr("10.2.0.1"), Protocol: packet.ICMP, ICMPType: 3, ICMPCode: 4}},
		{"fragment", Flow{Direction: "inbound", From: addr("10.1.2.3"), To: addr("10.2.0.1"), Protocol: packet.TCP, Fragment: true}},
		{"no-filter", Flow{Direction: "forward", From: addr("10.7.1.1"), To: addr("10.6.1.1"), Protocol: 47}},
		{"discovery", Flow{Direction: "inbound", From: addr("fe80::1"), To: addr("fe80::2"), Protocol: packet.ICMPv6, ICMPType: 135}},
		{"forged-discovery", Flow{Direction: "inbound", From: addr("fe80::1"), To: addr("fe80::2"), Protocol: packet.ICMPv6, ICMPType: 135, HopLimit: 64}},
		{"kerberos", Flow{Direction: "outbound", From: addr("10.2.0.1"), To: addr("10.9.0.1"), Protocol: packet.UDP, FromPort: 50000, ToPort: 88}},
		{"ike", Flow{Direction: "inbound", From: addr("10.1.2.3"), To: addr("10.2.0.1"), Protocol: packet.UDP, FromPort: 500, ToPort: 500}},
		{"broadcast", Flow{Direction: "inbound", From: addr("10.2.0.9"), To: addr("10.2.0.255"), Protocol: packet.UDP, FromPort: 137, ToPort: 137, Broadcast: true}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if err := tt.flow.Check(); err != nil {
				t.Fatal(err)
			}
			golden := filepath.Join("testdata", tt.name+".txt")
			want, err := os.ReadFile(golden)
			if err != nil {
				t.Fatal(err)
			}
			if got := Explain(s, negotiations, tt.flow).String(); got != string(want) {
				t.Errorf("got\n%s\nwant what is in %s:\n%s", got, golden, want)
			}
		})
	}
}

// What a daemon adds.
func TestCarried(t *testing.T) {
	for _, tt := range []struct {
		e    Explanation
		want string
	}{
		{Explanation{Flow: "flow", SA: "c0ffee01"}, "  carried now by the SA c0ffee01\n"},
		{Explanation{Flow: "flow", NoSA: "the negotiation failed"}, "  carried by no SA now: the negotiation failed\n"},
	} {
		if got := tt.e.String(); !strings.Contains(got, tt.want) {
			t.Errorf("got %q, want %q in it", got, tt.want)
		}
	}
}

func TestCheck(t *testing.T) {
	good := Flow{Direction: "inbound", From: addr("10.1.2.3"), To: addr("10.2.0.1"), Protocol: packet.TCP, ToPort: 1}
	for _, tt := range []struct {
		name   string
		change func(*Flow)
		want   string
	}{
		{"good", func(*Flow) {}, ""},
		{"in reply", func(f *Flow) { f.State = "reply" }, ""},
		{"no direction", func(f *Flow) { f.Direction = "" }, `the direction is "": choose inbound, outbound or forward`},
		{"no state", func(f *Flow) { f.State = "invalid" }, `the state is "invalid": choose new, original or reply`},
		{"no source", func(f *Flow) { f.From = netip.Addr{} }, `"from" is no plain address: write one as in 10.1.2.3 or 2001:db8::1`},
		{"a mapped destination", func(f *Flow) { f.To = addr("::ffff:10.1.2.3") }, `"to" is no plain address: write one as in 10.1.2.3 or 2001:db8::1`},
		{"a zone", func(f *Flow) { f.To = addr("fe80::1%eth0") }, `"to" is no plain address: write one as in 10.1.2.3 or 2001:db8::1`},
		{"two families", func(f *Flow) { f.To = addr("2001:db8::1") }, "10.1.2.3 and 2001:db8::1 are of different families: no packet has both"},
		{"ports of gre", func(f *Flow) { f.Protocol = 47 }, "protocol gre has no ports"},
		{"a message of tcp", func(f *Flow) { f.ICMPType = 8 }, "an ICMP type needs the protocol icmp with IPv4 addresses, or icmpv6 with IPv6 ones"},
		{"a message of the other family", func(f *Flow) { f.Protocol, f.ToPort, f.ICMPType = packet.ICMPv6, 0, 128 }, "an ICMP type needs the protocol icmp with IPv4 addresses, or icmpv6 with IPv6 ones"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			f := good
			tt.change(&f)
			got := ""
			if err := f.Check(); err != nil {
				got = err.Error()
			}
			if got != tt.want {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
}

func TestAnswer(t *testing.T) {
	for _, tt := range []struct {
		name       string
		flow, want Flow
	}{
		{"ports", Flow{Direction: "inbound", From: addr("10.1.2.3"), To: addr("10.2.0.1"), Protocol: packet.TCP, FromPort: 1, ToPort: 2, Interface: "eth0"},
			Flow{Direction: "outbound", From: addr("10.2.0.1"), To: addr("10.1.2.3"), Protocol: packet.TCP, FromPort: 2, ToPort: 1, Interface: "eth0", State: "reply"}},
		{"of an answer", Flow{Direction: "outbound", From: addr("10.1.2.3"), To: addr("10.2.0.1"), Protocol: packet.TCP, State: "reply"},
			Flow{Direction: "inbound", From: addr("10.2.0.1"), To: addr("10.1.2.3"), Protocol: packet.TCP, State: "original"}},
		{"forwarded", Flow{Direction: "forward", From: addr("10.1.2.3"), To: addr("10.2.0.1"), Protocol: 47},
			Flow{Direction: "forward", From: addr("10.2.0.1"), To: addr("10.1.2.3"), Protocol: 47, State: "reply"}},
		{"ping", Flow{Direction: "inbound", From: addr("2001:db8::1"), To: addr("2001:db8::2"), Protocol: packet.ICMPv6, ICMPType: 128},
			Flow{Direction: "outbound", From: addr("2001:db8::2"), To: addr("2001:db8::1"), Protocol: packet.ICMPv6, ICMPType: 129, State: "reply"}},
		{"IKE", Flow{Direction: "inbound", From: addr("10.1.2.3"), To: addr("10.2.0.1"), Protocol: packet.UDP, FromPort: 4500, ToPort: 4500},
			Flow{Direction: "outbound", From: addr("10.2.0.1"), To: addr("10.1.2.3"), Protocol: packet.UDP, FromPort: 4500, ToPort: 4500, State: "reply", Own: true}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := tt.flow.Answer(); got != tt.want {
				t.Errorf("got %+v, want %+v", got, tt.want)
			}
		})
	}
}

// A flow becomes a packet, and a packet a flow, and nothing is lost.
func TestOf(t *testing.T) {
	for _, f := range []Flow{
		{Direction: "inbound", From: addr("10.1.2.3"), To: addr("10.2.0.1"), Protocol: packet.TCP, FromPort: 1, ToPort: 2, Interface: "ppp0", Remote: true, State: "reply"},
		{Direction: "outbound", From: addr("10.1.2.3"), To: addr("10.2.0.1"), Protocol: packet.ICMP, ICMPType: 3, ICMPCode: 4, State: "new"},
		{Direction: "outbound", From: addr("10.1.2.3"), To: addr("10.2.0.1"), Protocol: packet.UDP, FromPort: 500, ToPort: 500, State: "new", Own: true},
		{Direction: "inbound", From: addr("10.1.2.3"), To: addr("10.2.0.255"), Protocol: packet.UDP, ToPort: 1, State: "new", Broadcast: true},
		{Direction: "inbound", From: addr("fe80::1"), To: addr("fe80::2"), Protocol: packet.ICMPv6, ICMPType: 135, State: "new"},
		{Direction: "inbound", From: addr("fe80::1"), To: addr("fe80::2"), Protocol: packet.ICMPv6, ICMPType: 135, State: "new", HopLimit: 64},
		{Direction: "inbound", From: addr("fe80::1"), To: addr("fe80::2"), Protocol: packet.ICMPv6, ICMPType: 143, State: "new"},
		{Direction: "forward", From: addr("10.1.2.3"), To: addr("10.2.0.1"), Protocol: packet.UDP, Fragment: true, State: "new"},
	} {
		t.Run(f.String(), func(t *testing.T) {
			c, p := f.Packet()
			if f.Fragment {
				p.FragmentOffset = 8
			}
			if got := Of(c, &p); got != f {
				t.Errorf("got %+v, want %+v", got, f)
			}
			b, err := json.Marshal(f)
			if err != nil {
				t.Fatal(err)
			}
			var back Flow
			if err := json.Unmarshal(b, &back); err != nil || !reflect.DeepEqual(back, f) {
				t.Errorf("by way of JSON: %+v, %v", back, err)
			}
		})
	}
}
