package daemon

import (
	"errors"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/ipsecfw/ipsecfw/cmd/ipsecfw/internal/api"
	"github.com/ipsecfw/ipsecfw/filter"
	"github.com/ipsecfw/ipsecfw/filter/packet"
	"github.com/ipsecfw/ipsecfw/ipsec"
	"github.com/ipsecfw/ipsecfw/ipsec/ike"
	"github.com/ipsecfw/ipsecfw/rules"
)

const source = `version: 1
name: test
filter-lists:
  staff:
    - {from: 10.1.0.0/16, to: me, protocol: tcp, to-port: 8443}
  branch:
    - {from: 10.5.0.0/16, to: 10.6.0.0/16}
  both:
    - {from: any, to: any, protocol: udp, to-port: 7}
  rest:
    - {from: any, to: me}
filter-actions:
  secure: {negotiate: {mode: transport, methods: [aes256gcm16]}}
  tunnel: {negotiate: {mode: tunnel, tunnel: {local: 192.0.2.1, remote: 192.0.2.2}}}
rules:
  - {name: staff, filter-list: staff, action: secure, authentication: [{preshared-key: {file: psk}}]}
  - {name: branch, filter-list: branch, action: tunnel, authentication: [{preshared-key: {file: psk3}}]}
  - {name: both, filter-list: both, action: secure, authentication: [{preshared-key: {file: psk2}}]}
  - {name: rest, filter-list: rest, action: block}
`

func upload(text string) api.Policy {
	return api.Policy{Name: "test.yaml", Source: text, Files: map[string][]byte{
		"psk": []byte("a long enough secret\n"), "psk2": []byte("another long secret\n"),
		"psk3": []byte("a third long secret\n"), "ppk": []byte("thirty-two random bytes or more!\n"),
	}}
}

func mustCompile(t *testing.T, text string) *policy {
	t.Helper()
	p, err := compile(upload(text))
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// compile makes a policy of one rule file.
func compile(up api.Policy) (*policy, error) {
	x, err := load(&up, nil)
	if err != nil {
		return nil, err
	}
	return combine([]*part{x}, rules.Addresses{}, 1)
}

func TestCompileRefuses(t *testing.T) {
	missing := upload(source)
	missing.Files = nil
	tests := []struct {
		name string
		up   api.Policy
		code api.Code
		want string
	}{
		{"not YAML", upload("{"), api.CodeInvalidPolicy, "test.yaml:1"},
		{"error in the last line", upload(source + "  - {name: last, filter-list: none, action: block}\n"), api.CodeInvalidPolicy, "test.yaml:20"},
		{"credentials did not come", missing, api.CodeMissingFiles, "3 files"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := compile(tt.up)
			var e *api.Error
			if !errors.As(err, &e) || e.Code != tt.code || !strings.Contains(e.Message, tt.want) {
				t.Errorf("error %v, want %s with %q", err, tt.code, tt.want)
			}
		})
	}
}

func TestMissingFiles(t *testing.T) {
	up := upload(strings.Replace(source, "authentication: [{preshared-key: {file: psk3}}]", "authentication: [{certificate: {authority: ca, own: own, key: key}}]", 1))
	delete(up.Files, "psk2")
	_, err := load(&up, nil)
	var e *api.Error
	const branch, both = `: rule "branch"`, `: rule "both"`
	want := []api.NamedFile{{Path: "ca", Need: "test.yaml:17:100" + branch}, {Path: "key", Need: "test.yaml:17:119" + branch, Secret: true},
		{Path: "own", Need: "test.yaml:17:109" + branch}, {Path: "psk2", Need: "test.yaml:18:93" + both, Secret: true}}
	if !errors.As(err, &e) || !slices.Equal(e.Files, want) {
		t.Errorf("error %v with the files %v, want one with the files %v", err, e.Files, want)
	}
}

func TestPeer(t *testing.T) {
	p := mustCompile(t, source)
	tests := []struct {
		name          string
		local, remote string
		rule          string
	}{
		{"the most specific rule that concerns the peer", "10.2.0.10", "10.1.0.20", "staff"},
		{"gateway", "192.0.2.1", "192.0.2.2", "branch"},
		{"gateway, at another of our addresses", "192.0.2.9", "192.0.2.2", "both"},
		{"anybody", "10.2.0.10", "203.0.113.9", "both"},
		{"anybody, IPv6", "2001:db8::1", "2001:db8::9", "both"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, ok := p.Peer(netip.MustParseAddr(tt.local), netip.MustParseAddr(tt.remote))
			if !ok {
				t.Fatal("no rule concerns the peer")
			}
			if !reflect.DeepEqual(got.Auth, p.rules[tt.rule].auth) || len(got.Proposals) == 0 {
				t.Errorf("policy %+v is not that of the rule %q", got, tt.rule)
			}
		})
	}
	only := strings.Replace(source, "  - {name: both", "  # - {name: both", 1)
	p, stranger := mustCompile(t, only), netip.MustParseAddr("203.0.113.9")
	if _, ok := p.Peer(netip.MustParseAddr("10.2.0.10"), stranger); ok {
		t.Error("a rule concerns a peer that none names")
	}
	if n := testing.AllocsPerRun(10, func() { p.Peer(netip.MustParseAddr("10.2.0.10"), stranger) }); n != 0 {
		t.Errorf("%v allocations for a stranger's packet, want none", n)
	}
}

func TestChild(t *testing.T) {
	p := mustCompile(t, source)
	tests := []struct {
		name          string
		local, remote string
		transport     bool
		want          []string
	}{
		{"from a subnet to me", "10.2.0.10", "10.1.0.20", true, []string{
			"staff: 10.2.0.10 tcp 8443 - 10.1.0.20 tcp",
			"both: 10.2.0.10 udp - 10.1.0.20 udp 7",
			"both: 10.2.0.10 udp 7 - 10.1.0.20 udp",
		}},
		{"another peer", "10.2.0.10", "203.0.113.9", true, []string{
			"both: 10.2.0.10 udp - 203.0.113.9 udp 7",
			"both: 10.2.0.10 udp 7 - 203.0.113.9 udp",
		}},
		{"tunnel", "192.0.2.1", "192.0.2.2", false, []string{
			"branch: 10.5.0.0/16 - 10.6.0.0/16",
			"branch: 10.6.0.0/16 - 10.5.0.0/16",
		}},
		{"tunnel at another of our addresses", "192.0.2.9", "192.0.2.2", false, nil},
		{"tunnel of a peer that has none", "10.2.0.10", "10.1.0.20", false, nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var got []string
			for _, c := range p.Child(netip.MustParseAddr(tt.local), netip.MustParseAddr(tt.remote), nil, nil, tt.transport) {
				got = append(got, c.Name+": "+c.Local[0].String()+" - "+c.Remote[0].String())
				if !ike.SameMethods(c.Auth, p.rules[c.Name].auth) || len(c.Auth) == 0 {
					t.Errorf("%s asks for %v, which is not its own authentication", c.Name, c.Auth)
				}
			}
			slices.Sort(got)
			slices.Sort(tt.want)
			if !slices.Equal(got, tt.want) {
				t.Errorf("got  %q\nwant %q", got, tt.want)
			}
		})
	}
}

func TestWanted(t *testing.T) {
	p := mustCompile(t, source)
	addr := netip.MustParseAddr
	tests := []struct {
		name    string
		rule    string
		pkt     packet.Packet
		want    string // selectors
		gateway string // whom to ask
	}{
		{"answer of the server", "staff",
			packet.Packet{Src: addr("10.2.0.10"), Dst: addr("10.1.0.20"), Protocol: packet.TCP, HasPorts: true, SrcPort: 8443, DstPort: 4000},
			"10.2.0.10 tcp 8443 - 10.1.0.20 tcp", "10.1.0.20"},
		{"tunnel", "branch",
			packet.Packet{Src: addr("10.5.0.1"), Dst: addr("10.6.0.1"), Protocol: 1},
			"10.5.0.0/16 - 10.6.0.0/16", "192.0.2.2"},
		{"a rule that is gone", "gone",
			packet.Packet{Src: addr("10.2.0.10"), Dst: addr("10.1.0.20"), Protocol: packet.TCP, HasPorts: true, SrcPort: 8443, DstPort: 4000}, "", ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			d := p.spd.Lookup(filter.Context{Direction: filter.Outbound}, &tt.pkt)
			if d.Entry == nil || tt.want != "" && d.Entry.Name != tt.rule {
				t.Fatalf("the filter is %s", d.Why())
			}
			if tt.want == "" {
				d.Entry = &filter.Entry{Name: tt.rule, Selector: d.Entry.Selector}
			}
			c, _, remote, ok := p.wanted(d, &tt.pkt)
			if ok != (tt.want != "") {
				t.Fatalf("ok = %v", ok)
			}
			if !ok {
				return
			}
			if got := c.Local[0].String() + " - " + c.Remote[0].String(); got != tt.want || remote.String() != tt.gateway {
				t.Errorf("%s with %s, want %s with %s", got, remote, tt.want, tt.gateway)
			}
		})
	}
}

func TestSame(t *testing.T) {
	p := mustCompile(t, source)
	tests := []struct {
		name     string
		old, new string
		want     bool
	}{
		{"comment above", "version: 1\n", "# a comment\nversion: 1\n", true},
		{"other algorithm", "[aes256gcm16]", "[chacha20poly1305]", false},
		{"other key", "action: secure, authentication: [{preshared-key: {file: psk}}]", "action: secure, authentication: [{preshared-key: {file: psk2}}]", false},
		{"other proposals for IKE", "{name: staff, ", "{key-exchange: {proposals: [aes256-sha256-modp2048]}, name: staff, ", false},
		{"other proposals of the file", "version: 1\n", "version: 1\nkey-exchange: {suite: interop}\n", false},
		{"a post-quantum key", "version: 1\n", "version: 1\nkey-exchange: {ppk: {id: a, file: ppk}}\n", false},
		{"another time of reauthentication", "{name: staff, ", "{key-exchange: {reauthentication: 1h, childless: true}, name: staff, ", true},
		{"another lifetime of IKE SAs", "version: 1\n", "version: 1\nkey-exchange: {lifetime: 1h, liveness: 5s, window: 1}\n", true},
		{"the suite that holds anyway", "{name: staff, ", "{key-exchange: {suite: default}, name: staff, ", true},
		{"gone", "{name: staff, ", "{name: employees, ", false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			text := strings.Replace(source, tt.old, tt.new, 1)
			if text == source {
				t.Fatal("the text has nothing to replace")
			}
			if got := p.same(mustCompile(t, text), "staff"); got != tt.want {
				t.Errorf("same = %v", got)
			}
		})
	}
}

func TestPacketSelectors(t *testing.T) {
	p := packet.Packet{Src: netip.MustParseAddr("10.0.0.1"), Dst: netip.MustParseAddr("10.0.0.2"), Protocol: 1}
	local, remote := packetSelectors(&p)
	if local.String() != "10.0.0.1 icmp" || remote.String() != "10.0.0.2 icmp" {
		t.Errorf("%s, %s", local, remote)
	}
	p.Protocol, p.HasPorts, p.SrcPort, p.DstPort = 6, true, 1, 2
	local, remote = packetSelectors(&p)
	if local.String() != "10.0.0.1 tcp 1" || remote != (ipsec.TrafficSelector{Protocol: 6, StartPort: 2, EndPort: 2, Start: p.Dst, End: p.Dst}) {
		t.Errorf("%s, %s", local, remote)
	}
}
