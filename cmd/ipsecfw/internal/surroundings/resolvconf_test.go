package surroundings

import (
	"maps"
	"net/netip"
	"slices"
	"testing"
)

func TestParseResolvConf(t *testing.T) {
	tests := []struct {
		name, content, servers string
		asked                  string
		stub                   bool
	}{
		{"nothing", "", "", "127.0.0.1", false},
		{"all that there may be", "# c\n; c\nsearch example\nnameserver 192.0.2.1\noptions edns0\nnameserver\t2001:db8::1  # c\n", "192.0.2.1 2001:db8::1", "192.0.2.1 2001:db8::1", false},
		{"no end of line", "nameserver 192.0.2.1", "192.0.2.1", "192.0.2.1", false},
		{"a zone", "nameserver fe80::1%eth0\n", "fe80::1%eth0", "fe80::1%eth0", false},
		{"four servers", "nameserver 192.0.2.4\nnameserver 192.0.2.3\nnameserver 192.0.2.2\nnameserver 192.0.2.1\n", "192.0.2.4 192.0.2.3 192.0.2.2 192.0.2.1", "192.0.2.4 192.0.2.3 192.0.2.2", false},
		{"not understood", "nameserver\nnameserver x\nnameservers 192.0.2.1\n nameserver 192.0.2.1\nnameserver 192.0.2.300\n", "", "127.0.0.1", false},
		{"the stub", "nameserver 127.0.0.53\noptions trust-ad\n", "127.0.0.53", "127.0.0.53", true},
		{"the stub and another", "nameserver 127.0.0.53\nnameserver 192.0.2.1\n", "127.0.0.53 192.0.2.1", "127.0.0.53 192.0.2.1", false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got := parseResolvConf([]byte(tt.content))
			if !slices.Equal(got, addresses(tt.servers)) {
				t.Errorf("servers %v, want %s", got, tt.servers)
			}
			if onlyStub(got) != tt.stub {
				t.Errorf("only the stub: %t", !tt.stub)
			}
			if got := asked(got); !slices.Equal(got, addresses(tt.asked)) {
				t.Errorf("asked are %v, want %s", got, tt.asked)
			}
		})
	}
}

func TestParseHosts(t *testing.T) {
	tests := []struct {
		name, content string
		want          map[string]string
	}{
		{"nothing", "", nil},
		{"both families, several lines, any case", "192.0.2.2 A.example b.example\n192.0.2.1\ta.EXAMPLE.\n2001:db8::1 a.example\n", map[string]string{"a.example": "192.0.2.1 192.0.2.2 2001:db8::1", "b.example": "192.0.2.2"}},
		{"comments", "# 192.0.2.1 a.example\n192.0.2.2 x # a.example\n", nil},
		{"others", "192.0.2.1 aa.example\n192.0.2.1\n", nil},
		{"not understood", "x a.example\n192.0.2.300 b.example\n", nil},
		{"not unicast", "0.0.0.0 a.example\nff02::1 b.example\n", nil},
		{"zone and IPv4 in IPv6", "fe80::1%lo a.example\n::ffff:192.0.2.1 a.example\n", map[string]string{"a.example": "192.0.2.1 fe80::1"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			want := make(map[string][]netip.Addr)
			for n, s := range tt.want {
				want[n] = addresses(s)
			}
			got := parseHosts([]byte(tt.content), []string{"a.example.", "B.example"})
			if !maps.EqualFunc(got, want, slices.Equal[[]netip.Addr]) {
				t.Errorf("%v, want %v", got, want)
			}
		})
	}
}

func FuzzParseText(f *testing.F) {
	f.Add([]byte("nameserver 192.0.2.1\n"))
	f.Add([]byte("192.0.2.1 a.example # x\n"))
	f.Fuzz(func(t *testing.T, content []byte) {
		for _, a := range parseResolvConf(content) {
			if !a.IsValid() {
				t.Error("an invalid server")
			}
		}
		for n, addrs := range parseHosts(content, []string{"a.example"}) {
			if n != "a.example" || len(addrs) == 0 {
				t.Errorf("%q: %v", n, addrs)
			}
		}
	})
}
