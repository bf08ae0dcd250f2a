package surroundings

import (
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"
)

var written = time.Unix(1_700_000_000, 0)

// ack is a DHCPACK with options, and with what goes in its fields for the
// server's name and the boot file.
func ack(options, sname, file []byte) []byte {
	msg := make([]byte, optionsOffset)
	msg[0] = 2
	copy(msg[serverName:], sname)
	copy(msg[bootFile:], file)
	copy(msg[magicCookie:], []byte{99, 130, 83, 99})
	return append(msg, options...)
}

func change(msg []byte, at int, to byte) []byte {
	msg[at] = to
	return msg
}

var (
	ackType  = []byte{53, 1, 5}
	serverID = []byte{54, 4, 192, 0, 2, 1}
)

func options(parts ...[]byte) []byte { return append(slices.Concat(parts...), optionEnd) }

func TestParseLeases(t *testing.T) {
	server := netip.MustParseAddr("192.0.2.1")
	other := netip.MustParseAddr("192.0.2.2")
	tests := []struct {
		name    string
		parse   parser
		content string
		want    []lease
		err     string
	}{
		{"networkd", parseNetworkd, "# This is private data. Do not parse.\nADDRESS=192.0.2.9\nROUTER=192.0.2.254\nSERVER_ADDRESS=192.0.2.1\nLIFETIME=86400\n", []lease{{server: server}}, ""},
		{"networkd without", parseNetworkd, "ADDRESS=192.0.2.9\nNEXT_SERVER=192.0.2.1\n", nil, ""},
		{"networkd with nonsense", parseNetworkd, "SERVER_ADDRESS=x\n", nil, "SERVER_ADDRESS"},
		{"networkd with a group", parseNetworkd, "SERVER_ADDRESS=224.0.0.1\n", nil, "224.0.0.1 is not"},
		{"networkd with IPv6", parseNetworkd, "SERVER_ADDRESS=2001:db8::1\n", nil, "2001:db8::1 is not"},

		{"NetworkManager", parseDevice, "[device]\nmanaged=true\n\n[dhcp4]\ndhcp4.dhcp_server_identifier=192.0.2.1\ndhcp4.expiry=1700000100\ndhcp4.routers=192.0.2.254\n[dhcp6]\ndhcp6.x=y\n", []lease{{server, time.Unix(1_700_000_100, 0)}}, ""},
		{"NetworkManager without end", parseDevice, "[dhcp4]\ndhcp4.dhcp_server_identifier = 192.0.2.1\n", []lease{{server: server}}, ""},
		{"NetworkManager without DHCP", parseDevice, "[device]\nmanaged=false\ndhcp4.dhcp_server_identifier=192.0.2.1\n", nil, ""},
		{"NetworkManager with nonsense", parseDevice, "[dhcp4]\ndhcp4.expiry=soon\n", nil, "dhcp4.expiry"},

		{"dhclient, the newest of each interface", parseDhclient, `default-duid "\000\"{";
# a comment with a } brace
lease {
  interface "eth0";
  fixed-address 192.0.2.9;
  option dhcp-server-identifier 192.0.2.66;
  option domain-name "a; } b";
  expire 4 2023/11/14 22:13:20; # a comment
}
lease {
  interface "eth1";
  option dhcp-server-identifier 192.0.2.2;
  expire never;
}
lease6 {
  interface "eth0";
  ia-na aa:bb { starts 1; iaaddr 2001:db8::1 { max-life 5; } }
  option dhcp6.server-id 0:1;
}
lease {
  interface "eth0";
  option dhcp-server-identifier 192.0.2.1;
  on commit { execute("x"); }
  expire epoch 1700000100;
}
lease {
  interface "eth0";
  option dhcp-server-identifier 192.0.2.77;
`, []lease{{server, time.Unix(1_700_000_100, 0)}, {server: other}}, ""},
		{"dhclient by the calendar", parseDhclient, "lease{interface \"e\";option dhcp-server-identifier 192.0.2.1;expire 2 2023/11/14 22:13:20;}", []lease{{server, written.UTC()}}, ""},
		{"dhclient by BOOTP", parseDhclient, "lease { bootp; interface \"e\"; }", nil, ""},
		{"dhcpd's own file", parseDhclient, "lease 192.0.2.9 { ends 2 2023/11/14 22:13:20; option dhcp-server-identifier 192.0.2.1; }\nserver-duid \"x\";\n", nil, ""},
		{"dhclient with a bad time", parseDhclient, "lease { expire 2 2023/13/14 22:13:20; }", nil, "expire 2"},
		{"dhclient with a bad address", parseDhclient, "lease { option dhcp-server-identifier 0.0.0.0; }", nil, "0.0.0.0 is not"},
		{"dhclient with a brace too many", parseDhclient, "lease { } }", nil, "without its {"},
		{"dhclient with half a string", parseDhclient, "lease { interface \"eth0; }", nil, "without its end"},

		{"dhcpcd", parseDhcpcd, string(ack(options(ackType, []byte{0, 51, 4, 0, 0, 0, 100}, serverID), nil, nil)), []lease{{server, written.Add(100 * time.Second)}}, ""},
		{"dhcpcd without end", parseDhcpcd, string(ack(options(ackType, serverID, []byte{51, 4, 255, 255, 255, 255}), nil, nil)), []lease{{server: server}}, ""},
		{"dhcpcd with padding behind", parseDhcpcd, string(ack(append(options(ackType, serverID), 0, 0, 54), nil, nil)), []lease{{server: server}}, ""},
		{"dhcpcd in two pieces", parseDhcpcd, string(ack(options(ackType, []byte{54, 1, 192, 54, 3, 0, 2, 1}), nil, nil)), []lease{{server: server}}, ""},
		{"dhcpcd in the boot file", parseDhcpcd, string(ack(options(ackType, []byte{52, 1, 1}), nil, options(serverID))), []lease{{server: server}}, ""},
		{"dhcpcd in the server's name", parseDhcpcd, string(ack(options(ackType, []byte{52, 1, 3}), options(serverID), options())), []lease{{server: server}}, ""},
		{"dhcpcd by BOOTP", parseDhcpcd, string(ack(options(), nil, nil)), nil, ""},
		{"dhcpcd, empty", parseDhcpcd, "", nil, "0 bytes"},
		{"dhcpcd, a request", parseDhcpcd, string(change(ack(options(ackType, serverID), nil, nil), 0, 1)), nil, "not a reply"},
		{"dhcpcd, another cookie", parseDhcpcd, string(change(ack(options(ackType, serverID), nil, nil), magicCookie, 0)), nil, "magic cookie"},
		{"dhcpcd, an offer", parseDhcpcd, string(ack(options([]byte{53, 1, 2}, serverID), nil, nil)), nil, "no DHCPACK"},
		{"dhcpcd without a type", parseDhcpcd, string(ack(options(serverID), nil, nil)), nil, "no DHCPACK"},
		{"dhcpcd, no end", parseDhcpcd, string(ack(slices.Concat(ackType, serverID), nil, nil)), nil, "no end"},
		{"dhcpcd, an option cut off", parseDhcpcd, string(ack(slices.Concat(ackType, serverID[:5]), nil, nil)), nil, "54 is cut off"},
		{"dhcpcd, an option without length", parseDhcpcd, string(ack(slices.Concat(ackType, serverID[:1]), nil, nil)), nil, "54 is cut off"},
		{"dhcpcd, a long server", parseDhcpcd, string(ack(options(ackType, serverID, serverID), nil, nil)), nil, "8 bytes"},
		{"dhcpcd, a short time", parseDhcpcd, string(ack(options(ackType, serverID, []byte{51, 1, 1}), nil, nil)), nil, "1 bytes"},
		{"dhcpcd, a bad overload", parseDhcpcd, string(ack(options(ackType, serverID, []byte{52, 1, 4}), nil, nil)), nil, "overload"},
		{"dhcpcd, an overload without options", parseDhcpcd, string(ack(options(ackType, serverID, []byte{52, 1, 1}), nil, nil)), nil, "boot file"},
		{"dhcpcd, every address", parseDhcpcd, string(ack(options(ackType, []byte{54, 4, 255, 255, 255, 255}), nil, nil)), nil, "255.255.255.255 is not"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := tt.parse([]byte(tt.content), written)
			if tt.err != "" {
				if err == nil || !strings.Contains(err.Error(), tt.err) {
					t.Fatalf("error %v, want %q", err, tt.err)
				}
				return
			}
			same := func(a, b lease) bool { return a.server == b.server && a.expiry.Equal(b.expiry) }
			if err != nil || !slices.EqualFunc(got, tt.want, same) {
				t.Errorf("%v, %v, want %v", got, err, tt.want)
			}
		})
	}
}

func TestValid(t *testing.T) {
	at := func(s int64) time.Time { return written.Add(time.Duration(s) * time.Second) }
	a := addresses("192.0.2.1 192.0.2.2 192.0.2.3 192.0.2.4")
	servers, expiry := valid([]lease{{a[3], at(20)}, {a[0], time.Time{}}, {a[1], at(10)}, {a[2], at(0)}, {a[0], at(-1)}, {a[1], at(30)}}, written)
	if !slices.Equal(servers, addresses("192.0.2.1 192.0.2.2 192.0.2.4")) || !expiry.Equal(at(10)) {
		t.Errorf("%v until %v", servers, expiry)
	}
	if servers, expiry := valid(nil, written); len(servers) != 0 || !expiry.IsZero() {
		t.Errorf("%v until %v of no lease", servers, expiry)
	}
}

func FuzzParseLeases(f *testing.F) {
	f.Add([]byte("SERVER_ADDRESS=192.0.2.1\n"))
	f.Add([]byte("[dhcp4]\ndhcp4.dhcp_server_identifier=192.0.2.1\n"))
	f.Add([]byte("lease { interface \"e\"; option dhcp-server-identifier 192.0.2.1; x { } expire never; }"))
	f.Add(ack(options(ackType, serverID, []byte{52, 1, 1}), nil, options()))
	f.Fuzz(func(t *testing.T, content []byte) {
		for _, parse := range []parser{parseNetworkd, parseDevice, parseDhclient, parseDhcpcd} {
			leases, err := parse(content, written)
			if err != nil {
				continue
			}
			for _, l := range leases {
				if clean, ok := unicast(l.server); !ok || clean != l.server || !l.server.Is4() {
					t.Errorf("the server %v", l.server)
				}
			}
		}
	})
}
