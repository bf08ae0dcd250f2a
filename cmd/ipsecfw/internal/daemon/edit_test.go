package daemon

import (
	"errors"
	"fmt"
	"net/netip"
	"reflect"
	"strings"
	"testing"

	"github.com/ipsecfw/ipsecfw/cmd/ipsecfw/internal/api"
	"github.com/ipsecfw/ipsecfw/filter"
	"github.com/ipsecfw/ipsecfw/filter/packet"
	"github.com/ipsecfw/ipsecfw/rules"
)

// many is a policy with a long list under two rules and one to be secured.
func many(edit map[int]string) string {
	var b strings.Builder
	b.WriteString("version: 1\nname: many\nfilter-lists:\n  hosts:\n")
	line := func(n int, s string) {
		if e, ok := edit[n]; ok {
			s = e
		}
		b.WriteString("    - " + s + "\n")
	}
	for i := range 40 {
		line(i, fmt.Sprintf("{from: 10.1.0.%d, to: me, protocol: tcp, to-port: 80}", i))
	}
	b.WriteString("  secret:\n")
	for i := range 10 {
		line(100+i, fmt.Sprintf("{from: 10.2.0.%d, to: me}", i))
	}
	b.WriteString("  hiding:\n")
	line(200, "{from: 10.3.0.1, to: me, protocol: udp, to-port: 99}")
	line(201, "{from: 10.3.0.2, to: me}")
	b.WriteString(`  hidden-a:
    - {from: 10.3.0.1, to: me, protocol: udp, to-port: 98-99}
  hidden-b:
    - {from: 10.3.0.1, to: me, protocol: udp, to-port: 99-100}
  rest:
    - {from: any, to: me}
rules:
  - {name: hiding, filter-list: hiding, action: permit}
  - {name: hidden-a, filter-list: hidden-a, action: permit}
  - {name: hidden-b, filter-list: hidden-b, action: block}
  - {name: lan, filter-list: hosts, action: permit, connection: lan}
  - {name: far, filter-list: hosts, action: block, connection: remote}
  - {name: secret, filter-list: secret, action: require-security, authentication: [{preshared-key: {file: psk}}]}
  - {name: rest, filter-list: rest, action: block}
`)
	return b.String()
}

func TestEdited(t *testing.T) {
	for _, tt := range []struct {
		name  string
		edit  map[int]string
		whole bool   // it is worked out from the beginning
		fails string // in the error
	}{
		{"a permitted host", map[int]string{7: "{from: 10.1.9.9, to: me, protocol: tcp, to-port: 81}"}, false, ""},
		{"two hosts", map[int]string{7: "{from: 10.1.9.9, to: me}", 8: "{from: 10.1.9.10, to: me}"}, false, ""},
		{"a secured host", map[int]string{103: "{from: 10.2.9.9, to: me, protocol: udp}"}, false, ""},
		{"the last line of a list", map[int]string{109: "{from: 10.2.9.9, to: me}"}, true, ""},
		{"two lists", map[int]string{7: "{from: 10.1.9.9, to: me}", 103: "{from: 10.2.9.9, to: me}"}, true, ""},
		{"a contradiction", map[int]string{103: "{from: any, to: me}"}, false, "weigh the same"},
		{"what hid a contradiction goes", map[int]string{200: "{from: 10.3.0.9, to: me, protocol: udp, to-port: 99}"}, false, "weigh the same"},
		{"an error", map[int]string{7: "{from: 10.1.9.9, to: me, to-port: 81}"}, true, "needs a protocol"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			before := upload(many(nil))
			from, err := load(&before, nil)
			if err != nil {
				t.Fatal(err)
			}
			p, err := combine([]*part{from}, rules.Addresses{}, 1)
			if err != nil {
				t.Fatal(err)
			}
			after := upload(many(tt.edit))
			e := editOf(from, &after)
			if (e == nil) != tt.whole {
				t.Fatalf("edit %+v", e)
			}
			want, wantErr := compile(after)
			if tt.fails != "" && (wantErr == nil || !strings.Contains(wantErr.Error(), tt.fails)) {
				t.Fatalf("error %v, want one that says %q", wantErr, tt.fails)
			}
			if e == nil {
				return
			}
			got, ok, err := p.edited(e, []*part{e.to}, rules.Addresses{}, 2)
			if tt.fails != "" {
				var a *api.Error
				if !errors.As(err, &a) || a.Code != api.CodeInvalidPolicy || a.Message != wantErr.(*api.Error).Message {
					t.Errorf("error %v, want %v", err, wantErr)
				}
				return
			}
			if err != nil || !ok {
				t.Fatalf("not edited: %v", err)
			}
			samePolicy(t, got, want)
			if got.spd.Settings().Generation != 2 {
				t.Errorf("generation %d, want 2", got.spd.Settings().Generation)
			}
		})
	}
}

func TestEditNeedsTheSameCredentials(t *testing.T) {
	before, after := upload(many(nil)), upload(many(map[int]string{7: "{from: 10.1.9.9, to: me}"}))
	after.Files["psk"] = []byte("another long enough secret\n")
	from, err := load(&before, nil)
	if err != nil {
		t.Fatal(err)
	}
	if editOf(from, &after) != nil {
		t.Error("a file with another key is an edit")
	}
}

// samePolicy compares what two policies say of packets and peers.
func samePolicy(t *testing.T, got, want *policy) {
	t.Helper()
	self, subnets := netip.MustParseAddr("10.9.0.1"), []string{"10.1.0.", "10.1.9.", "10.2.0.", "10.2.9.", "192.0.2."}
	for _, net := range subnets {
		for host := range 42 {
			peer := netip.MustParseAddr(fmt.Sprint(net, host))
			for _, port := range []uint16{80, 81, 443} {
				for _, link := range []filter.Interface{{Name: "eth0"}, {Name: "ppp0", Remote: true}} {
					pkt := packet.Packet{Src: peer, Dst: self, Protocol: packet.TCP, HasPorts: true, SrcPort: 4000, DstPort: port}
					c := filter.Context{Direction: filter.Inbound, Interface: link}
					if a, b := got.spd.Lookup(c, &pkt), want.spd.Lookup(c, &pkt); a.Why() != b.Why() {
						t.Fatalf("%+v: %s, want %s", pkt, a.Why(), b.Why())
					}
				}
			}
			a, okA := got.Peer(self, peer)
			b, okB := want.Peer(self, peer)
			if okA != okB || !reflect.DeepEqual(a, b) {
				t.Fatalf("peer %s: %v, want %v", peer, a, b)
			}
			if x, y := got.Child(self, peer, nil, nil, true), want.Child(self, peer, nil, nil, true); !reflect.DeepEqual(x, y) {
				t.Fatalf("children with %s: %v, want %v", peer, x, y)
			}
		}
	}
}
