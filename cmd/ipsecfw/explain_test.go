package main

import (
	"bytes"
	"compress/gzip"
	"encoding/binary"
	"encoding/json"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
	"github.com/gopacket/gopacket/pcapgo"

	"github.com/ipsecfw/ipsecfw/cmd/ipsecfw/internal/api"
	"github.com/ipsecfw/ipsecfw/cmd/ipsecfw/internal/explain"
	"github.com/ipsecfw/ipsecfw/filter"
	"github.com/ipsecfw/ipsecfw/filter/packet"
)

// explainBase blocks from anywhere.
var explainBase = changes("10.4.0.0/16", "any")

// The daemon hears exactly what the command line says.
func TestExplainAsks(t *testing.T) {
	from, to := netip.MustParseAddr("198.18.7.7"), netip.MustParseAddr("198.18.7.8")
	base := explain.Flow{Direction: "inbound", From: from, To: to, Protocol: packet.TCP, FromPort: ephemeral, ToPort: 443, State: "new", Interface: "ppp7"}
	for _, tt := range []struct {
		name, args string
		change     func(*explain.Flow)
	}{
		{"tcp", "--in --to-port 443", func(*explain.Flow) {}},
		{"udp from a port in reply", "--out --protocol udp --to-port 443 --from-port 53 --state reply", func(f *explain.Flow) {
			f.Direction, f.Protocol, f.FromPort, f.State = "outbound", packet.UDP, 53, "reply"
		}},
		{"forwarded by number", "--forward --protocol 47", func(f *explain.Flow) { f.Direction, f.Protocol, f.FromPort, f.ToPort = "forward", 47, 0, 0 }},
		{"a message", "--in --icmp-type destination-unreachable --icmp-code 4", func(f *explain.Flow) {
			f.Protocol, f.FromPort, f.ToPort, f.ICMPType, f.ICMPCode = packet.ICMP, 0, 0, 3, 4
		}},
		{"a ping", "--in --protocol icmp", func(f *explain.Flow) { f.Protocol, f.FromPort, f.ToPort, f.ICMPType = packet.ICMP, 0, 0, 8 }},
		{"IKE of our own", "--out --protocol udp --from-port 500 --to-port 500", func(f *explain.Flow) {
			f.Direction, f.Protocol, f.FromPort, f.ToPort, f.Own = "outbound", packet.UDP, 500, 500, true
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			e := &fakeEngine{explains: explain.Explanation{Flow: "the flow", Packets: explain.Verdict{Action: "block"}, Answers: explain.Verdict{Action: "permit"}, SA: "c0ffee01"}}
			args := append([]string{"--socket", serveEngine(t, e), "explain", "--from", from.String(), "--to", to.String(), "--interface", "ppp7"}, strings.Fields(tt.args)...)
			code, stdout, stderr := ipsecfw(t, args...)
			if code != exitGood || stdout != e.explains.String() || stderr != "" {
				t.Errorf("exit code %d, output %q, errors %q", code, stdout, stderr)
			}
			want := base
			tt.change(&want)
			if len(e.explained) != 1 || e.explained[0] != want {
				t.Errorf("asked for %+v, want %+v", e.explained, want)
			}
			_, stdout, _ = ipsecfw(t, append(args, "-o", "json")...)
			var back explain.Explanation
			if err := json.Unmarshal([]byte(stdout), &back); err != nil || back.SA != "c0ffee01" {
				t.Errorf("-o json: %q, %v", stdout, err)
			}
		})
	}
}

// Me is an address of this host, and tells the direction.
func TestExplainMe(t *testing.T) {
	h, err := thisHost()
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct{ from, to, direction string }{{"me", "127.0.0.9", ""}, {"127.0.0.9", "me", ""}, {"me", "198.18.7.8", "outbound"}, {"198.18.7.8", "me", "inbound"}} {
		e := &fakeEngine{}
		code, _, stderr := ipsecfw(t, "--socket", serveEngine(t, e), "explain", "--from", tt.from, "--to", tt.to, "--to-port", "1")
		switch {
		case tt.direction == "": // both ends are this host's
			if code != exitUsage {
				t.Errorf("from %s to %s: exit code %d, errors %q", tt.from, tt.to, code, stderr)
			}
		case len(h.global) == 0: // a host without a network has no address to speak by
			if code != exitFailed || !strings.Contains(stderr, "this host has no address") {
				t.Errorf("from %s to %s: exit code %d, errors %q", tt.from, tt.to, code, stderr)
			}
		case code != exitGood || len(e.explained) != 1 || e.explained[0].Direction != tt.direction || h.local(e.explained[0].From) == h.local(e.explained[0].To):
			t.Errorf("from %s to %s: exit code %d, errors %q, asked for %+v", tt.from, tt.to, code, stderr, e.explained)
		}
	}
}

func TestExplainFile(t *testing.T) {
	file := filepath.Join(t.TempDir(), "p.yaml")
	write(t, file, explainBase)
	code, stdout, stderr := ipsecfw(t, "explain", "--file", file, "--in", "--from", "10.1.2.3", "--to", "198.18.7.8", "--to-port", "5432")
	if want := "negotiate: by " + file + ":4:9: rule \"sql\""; code != exitGood || stderr != "" || !strings.Contains(stdout, want) {
		t.Errorf("exit code %d, output %q, errors %q, want %q", code, stdout, stderr, want)
	}
}

func TestHost(t *testing.T) {
	h, err := hostOf("10.2.0.1/24, 2001:db8::1,fe80::1")
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		from, to string
		want     filter.Direction
	}{
		{"10.2.0.1", "10.1.2.3", filter.Outbound}, {"10.1.2.3", "10.2.0.1", filter.Inbound}, {"10.1.2.3", "10.2.0.2", filter.Forward},
		{"10.2.0.7", "10.2.0.255", filter.Inbound}, {"10.2.0.7", "224.0.0.251", filter.Inbound}, {"10.2.0.7", "255.255.255.255", filter.Inbound},
		{"10.2.0.1", "10.2.0.255", filter.Outbound}, {"fe80::2", "ff02::1", filter.Inbound}, {"2001:db8::1", "2001:db8::2", filter.Outbound},
		{"127.0.0.1", "127.0.0.1", filter.Outbound},
	} {
		if got := h.direction(netip.MustParseAddr(tt.from), netip.MustParseAddr(tt.to)); got != tt.want {
			t.Errorf("from %s to %s: %s, want %s", tt.from, tt.to, got, tt.want)
		}
	}
	if _, err := hostOf("10.2.0.1, host"); err == nil {
		t.Error("a name passes for an address")
	}
}

// ipPacket returns a packet of a protocol with the first bytes of its upper
// layer.
func ipPacket(from, to string, protocol uint8, upper ...byte) []byte {
	src, dst := netip.MustParseAddr(from), netip.MustParseAddr(to)
	upper = append(upper, make([]byte, 40-len(upper))...)
	if src.Is4() {
		return append(packet.AppendIPv4Header(nil, src, dst, protocol, 0, 64, len(upper), true), upper...)
	}
	return append(packet.AppendIPv6Header(nil, src, dst, protocol, 0, 255, len(upper)), upper...)
}

func ports(from, to uint16) []byte {
	return binary.BigEndian.AppendUint16(binary.BigEndian.AppendUint16(nil, from), to)
}

// captured is the packets of the test's captures.
var captured = [][]byte{
	ipPacket("10.1.2.3", "10.2.0.1", packet.TCP, ports(50000, 5432)...),
	ipPacket("10.2.0.1", "10.1.2.3", packet.TCP, ports(5432, 50000)...),
	ipPacket("10.1.2.3", "10.2.0.1", packet.TCP, ports(50000, 5432)...),
	ipPacket("10.9.9.9", "10.2.0.1", packet.ICMP, 8, 0),
	ipPacket("fe80::1", "ff02::1:ff00:1", packet.ICMPv6, 135, 0),
	ipPacket("10.2.0.1", "10.1.2.3", packet.UDP, ports(500, 500)...),
	ipPacket("10.7.0.1", "10.8.0.1", packet.UDP, ports(1, 2)...),
}

const explainedCapture = `inbound tcp from 10.1.2.3:50000 to 10.2.0.1:5432: negotiate: by FILE:4:9: rule "sql", filter 1 of list "sql" (from 10.1.0.0/16 to me protocol tcp to-port 5432), weight 246400 (2 packets)
outbound tcp from 10.2.0.1:5432 to 10.1.2.3:50000: permit: no filter matches (1 packet)
inbound icmp from 10.9.9.9 to 10.2.0.1 echo-request: block: by FILE:5:10: rule "rest", filter 1 of list "rest" (from any to me), weight 131072 (1 packet)
inbound icmpv6 from fe80::1 to ff02::1:ff00:1 neighbor-solicitation: permit: no filter is asked, for this is multicast and broadcast (1 packet)
outbound udp from 10.2.0.1:500 to 10.1.2.3:500: permit: no filter is asked, for this is IKE, with which hosts agree on keys (1 packet)
forward udp from 10.7.0.1:1 to 10.8.0.1:2: permit: no filter matches (1 packet)
`

// framed returns a packet behind the header of a link type.
func framed(link layers.LinkType, p []byte) []byte {
	kind := uint16(etherIPv4)
	if p[0]>>4 == 6 {
		kind = etherIPv6
	}
	be := binary.BigEndian
	switch link {
	case linkEthernet:
		return append(be.AppendUint16(make([]byte, 12), kind), p...)
	case linkCooked:
		b := be.AppendUint16(make([]byte, 14), kind)
		b[3] = 1 // Ethernet
		return append(b, p...)
	case linkCooked2:
		b := make([]byte, cooked2Len)
		be.PutUint16(b, kind)
		b[9] = 1
		return append(b, p...)
	case linkNull:
		return append([]byte{2, 0, 0, 0}, p...)
	case linkLoop:
		return append([]byte{0, 0, 0, 2}, p...)
	}
	return p
}

func pcap(t testing.TB, link layers.LinkType, snap int, frames ...[]byte) []byte {
	t.Helper()
	var b bytes.Buffer
	w := pcapgo.NewWriter(&b)
	if err := w.WriteFileHeader(65535, link); err != nil {
		t.Fatal(err)
	}
	for _, f := range frames {
		n := min(len(f), snap)
		if err := w.WritePacket(gopacket.CaptureInfo{Timestamp: time.Unix(1, 0), CaptureLength: n, Length: len(f)}, f[:n]); err != nil {
			t.Fatal(err)
		}
	}
	return b.Bytes()
}

func pcapng(t testing.TB, frames map[layers.LinkType][][]byte) []byte {
	t.Helper()
	var b bytes.Buffer
	var w *pcapgo.NgWriter
	for _, link := range []layers.LinkType{linkEthernet, linkRaw} {
		i := pcapgo.NgInterface{Name: map[layers.LinkType]string{linkEthernet: "eth0", linkRaw: "ppp0"}[link], LinkType: link, SnapLength: 65535}
		index, err := 0, error(nil)
		if w == nil {
			w, err = pcapgo.NewNgWriterInterface(&b, i, pcapgo.DefaultNgWriterOptions)
		} else {
			index, err = w.AddInterface(i)
		}
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range frames[link] {
			if err := w.WritePacket(gopacket.CaptureInfo{Timestamp: time.Unix(1, 0), CaptureLength: len(f), Length: len(f), InterfaceIndex: index}, f); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := w.Flush(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func TestExplainCapture(t *testing.T) {
	all := func(link layers.LinkType) (out [][]byte) {
		for _, p := range captured {
			out = append(out, framed(link, p))
		}
		return out
	}
	tag := func(f []byte) []byte {
		return bytes.Join([][]byte{f[:12], {0x81, 0, 0, 7}, f[12:]}, nil)
	}
	var tagged [][]byte
	for _, f := range all(linkEthernet) {
		tagged = append(tagged, tag(tag(f)))
	}
	arp := append(make([]byte, 12), 8, 6, 0, 0)
	packed := &bytes.Buffer{}
	z := gzip.NewWriter(packed)
	if _, err := z.Write(pcap(t, linkEthernet, 65535, all(linkEthernet)...)); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name   string
		file   []byte
		stderr string
	}{
		{"Ethernet", pcap(t, linkEthernet, 65535, all(linkEthernet)...), ""},
		{"Ethernet with tags", pcap(t, linkEthernet, 65535, tagged...), ""},
		{"cooked", pcap(t, linkCooked, 65535, all(linkCooked)...), ""},
		{"cooked, version 2", pcap(t, linkCooked2, 65535, all(linkCooked2)...), ""},
		{"null", pcap(t, linkNull, 65535, all(linkNull)...), ""},
		{"loop", pcap(t, linkLoop, 65535, all(linkLoop)...), ""},
		{"the first bytes only", pcap(t, linkEthernet, 60, all(linkEthernet)...), ""},
		{"packed", packed.Bytes(), ""},
		{"what is left out", pcap(t, linkEthernet, 65535, append(all(linkEthernet), arp, arp[:5], append(framed(linkEthernet, captured[0])[:14], 0x45))...),
			"FILE.pcap: left out: 2 packets that are no IP, 1 packet that are malformed\n"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "p.yaml")
			write(t, file, explainBase)
			write(t, file+".pcap", string(tt.file))
			code, stdout, stderr := ipsecfw(t, "explain", "--file", file, "--pcap", file+".pcap", "--local", "10.2.0.1/24")
			if want := strings.ReplaceAll(explainedCapture, "FILE", file); code != exitGood || stdout != want || stderr != strings.ReplaceAll(tt.stderr, "FILE", file) {
				t.Errorf("exit code %d, errors %q, got\n%s\nwant\n%s", code, stderr, stdout, want)
			}
		})
	}
}

// A capture tells by which interface a packet came; filters may ask.
func TestExplainCaptureByInterface(t *testing.T) {
	file := filepath.Join(t.TempDir(), "p.yaml")
	write(t, file, strings.Replace(explainBase, "filter-list: rest", "connection: remote, filter-list: rest", 1))
	ping := ipPacket("10.9.9.9", "10.2.0.1", packet.ICMP, 8, 0)
	write(t, file+".pcapng", string(pcapng(t, map[layers.LinkType][][]byte{linkEthernet: {framed(linkEthernet, ping)}, linkRaw: {ping}})))
	code, stdout, stderr := ipsecfw(t, "explain", "--file", file, "--pcap", file+".pcapng", "--local", "10.2.0.1", "-o", "json")
	var got []explainedFlow
	if err := json.Unmarshal([]byte(stdout), &got); err != nil || code != exitGood || stderr != "" {
		t.Fatalf("exit code %d, errors %q, %v", code, stderr, err)
	}
	if len(got) != 2 || got[0].Packets.Action != "permit" || got[1].Packets.Action != "block" || got[0].Captured != 1 || !strings.HasSuffix(got[1].Flow, "by ppp0") {
		t.Errorf("got %s", stdout)
	}
}

func TestExplainCaptureByPolicyInForce(t *testing.T) {
	file := filepath.Join(t.TempDir(), "c.pcap")
	write(t, file, string(pcap(t, linkRaw, 65535, captured[0])))
	e := &fakeEngine{inForce: api.InForce{Files: []api.File{{Name: "/etc/p.yaml", Source: explainBase}}}}
	socket := serveEngine(t, e)
	code, stdout, stderr := ipsecfw(t, "--socket", socket, "explain", "--pcap", file, "--local", "10.2.0.1")
	if want := "inbound tcp from 10.1.2.3:50000 to 10.2.0.1:5432: negotiate: by /etc/p.yaml:4:9:"; code != exitGood || stderr != "" || !strings.HasPrefix(stdout, want) {
		t.Errorf("exit code %d, output %q, errors %q", code, stdout, stderr)
	}
	e.inForce = api.InForce{}
	if code, _, stderr := ipsecfw(t, "--socket", socket, "explain", "--pcap", file); code != exitFailed || stderr != "ipsecfw: no policy is in force: explain a rule file with --file\n" {
		t.Errorf("exit code %d, errors %q", code, stderr)
	}
}

func TestBadCaptures(t *testing.T) {
	good := pcap(t, linkEthernet, 65535, framed(linkEthernet, ipPacket("198.18.7.7", "198.18.7.8", packet.TCP, 0, 1, 0, 2)))
	for _, tt := range []struct {
		name string
		file []byte
		code int
		want string
	}{
		{"nothing", nil, exitFailed, "the file is too short for a capture"},
		{"something else", []byte("version: 1\n"), exitFailed, "read the header of the capture"},
		{"cut off", good[:len(good)-1], exitFailed, "packet 1: unexpected EOF"},
		{"another link", pcap(t, 105, 65535, make([]byte, 60)), exitFailed, "packet 1: the link type 105 is not known"},
		{"another host's", good, exitUsage, "no packet of the capture is this host's own"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "p.yaml")
			write(t, file, explainBase)
			write(t, file+".pcap", string(tt.file))
			code, stdout, stderr := ipsecfw(t, "explain", "--file", file, "--pcap", file+".pcap")
			if code != tt.code || stdout != "" || !strings.Contains(stderr, tt.want) {
				t.Errorf("exit code %d, output %q, errors %q, want %q", code, stdout, stderr, tt.want)
			}
		})
	}
}

func FuzzCapture(f *testing.F) {
	for _, link := range []layers.LinkType{linkEthernet, linkRaw, linkCooked, linkCooked2, linkNull} {
		f.Add(pcap(f, link, 65535, framed(link, captured[0])))
	}
	f.Add(pcap(f, linkRaw, 65535, ipPacket("10.7.0.1", "10.7.0.1", 47), ipPacket("10.2.0.1", "10.2.0.1", packet.TCP, 0, 1, 0, 1)))
	f.Add(pcapng(f, map[layers.LinkType][][]byte{linkRaw: captured[:2]}))
	path := filepath.Join(f.TempDir(), "c.pcap")
	f.Fuzz(func(t *testing.T, b []byte) {
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
		h, err := hostOf("10.2.0.1")
		if err != nil {
			t.Fatal(err)
		}
		g := &gatherer{host: h, at: map[explain.Flow]int{}}
		_ = each(path, g.add) // a bad capture is refused
		for _, x := range g.flows {
			if err := x.Check(); err != nil {
				t.Errorf("%+v: %v", x, err)
			}
		}
	})
}
