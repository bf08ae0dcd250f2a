package test

import (
	"fmt"
	"net"
	"net/netip"
	"net/rpc"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ipsecfw/ipsecfw/filter/packet"
	"github.com/ipsecfw/ipsecfw/ipsec"
	"github.com/ipsecfw/ipsecfw/ipsec/esp"
	"github.com/ipsecfw/ipsecfw/test/lab"
)

// firewallModules are what the rules, the queues and the bridge want of the
// guest's kernel.
const firewallModules = "ipv6,bridge,nf_tables,nft_queue,nft_ct,nf_conntrack,nf_conntrack_bridge,nfnetlink_queue"

// guestPolicy has a port of the server for each action.
const guestPolicy = `version: 1
name: guest
filter-lists:
  permitted:
    - {from: me, to: 10.9.0.10, protocol: udp, to-port: 8080}
    - {from: me, to: "fd00:9::10", protocol: udp, to-port: 8080}
  secured:
    - {from: me, to: 10.9.0.10, protocol: udp, to-port: 8443}
    - {from: me, to: "fd00:9::10", protocol: udp, to-port: 8443}
  refused:
    - {from: me, to: 10.9.0.10, protocol: udp, to-port: 9999}
    - {from: me, to: "fd00:9::10", protocol: udp, to-port: 9999}
rules:
  - {name: permitted, filter-list: permitted, action: permit}
  - {name: secured, filter-list: secured, action: require-security, authentication: [{preshared-key: {file: psk}}]}
  - {name: refused, filter-list: refused, action: block}
`

// bridged turns rules for the tables ip and ip6 into rules for bridges, whose
// tables are the only ones that the guest's kernel has beside the statement
// queue. Hooks and expressions have the same names there; nft adds what tells
// IPv4 and IPv6 apart. The interface by which a packet of the host's own came
// has no name, and in nft's language no way to say so but its index.
var bridged = strings.NewReplacer(
	"table ip ipsecfw ", "table bridge ipsecfw ",
	"table ip6 ipsecfw ", "table bridge ipsecfw6 ",
	`iifname != ""`, "iif != 0",
)

// tracing is a table that follows what is sent to the three ports.
const tracing = `table bridge trace {
	chain output {
		type filter hook output priority -400; policy accept;
		udp dport { 8080, 8443, 9999 } meta nftrace set 1
	}
}
`

// The rules with nft's own statement queue, in a kernel that has it.
func TestNativeQueue(t *testing.T) {
	need(t, "nft", "ip")
	s := newSite(t)
	share := t.TempDir()
	guest := boot(t, s.net, s.gateway, "wks0", share, firewallModules)
	for _, command := range []string{"ip link add br0 type bridge", "ip link set vec0 master br0", "ip link set vec0 up"} {
		inGuest(t, guest, command)
	}
	s.connect(t, guest, "br0")
	before := inGuest(t, guest, "nft list ruleset")

	spd, err := parsePolicy(guestPolicy)
	must(t, err)
	ruleset := bridged.Replace(nativeRules(spd).String())
	for name, content := range map[string]string{"policy.nft": ruleset, "trace.nft": tracing} {
		must(t, os.WriteFile(filepath.Join(share, name), []byte(content), 0o600))
		inGuest(t, guest, "nft -f "+filepath.Join(share, name))
	}
	traces := filepath.Join(share, "traces")
	must(t, guest.Call("Guest.Start", Daemon{[]string{"stdbuf", "-oL", "nft", "monitor", "trace"}, nil, traces}, nil))
	wire := watchDatagrams(t, s.gateway, "wks0")
	families := []string{server4, server6}

	// Without a reader of the queue. Nothing says when nft begins to listen.
	for _, server := range families {
		eventually(t, patience, "nft shows a trace", func() bool {
			send(t, guest, server, 8443, "nobody reads the queue")
			return await(t, time.Second, func() bool { return len(traceOf(t, traces, server, 8443)) > 0 })
		})
		traced(t, traces, server, 8443, "secure", "queue")
	}
	must(t, guest.Call("Guest.Engine", guestPolicy, nil))
	for _, server := range families {
		send(t, guest, server, 9999, "blocked")
		traced(t, traces, server, 9999, "egress", "drop")
		send(t, guest, server, 8443, "secured")
		send(t, guest, server, 8080, "permitted")
		traced(t, traces, server, 8080, "egress", "accept")
		// The order is that of the sending but for what waits for an SA.
		wire.want(t, sighting{server, 8443, true, "secured"}, sighting{server, 8080, false, "permitted"})
	}
	var c EngineCounters
	must(t, guest.Call("Guest.EngineCounters", struct{}{}, &c))
	if c.Acquired != 2 || c.Packets["held"] != 2 || c.Packets["held-released"] != 2 || c.Packets["sealed"] != 2 {
		t.Errorf("the engine wanted %d SAs and counts %v; one packet of each family was to wait, and to leave", c.Acquired, c.Packets)
	}
	if n := queued(t, guest, guestQueue); n != 2 {
		t.Errorf("%d packets came to the queue, want one of each family", n)
	}

	for _, table := range []string{"ipsecfw", "ipsecfw6", "trace"} {
		inGuest(t, guest, "nft delete table bridge "+table)
	}
	if after := inGuest(t, guest, "nft list ruleset"); after != before {
		t.Errorf("before the policy and after it nftables has\n%s\nand\n%s", before, after)
	}
	for _, server := range families {
		send(t, guest, server, 9999, "as before")
		wire.want(t, sighting{server, 9999, false, "as before"})
	}
	wire.end(t)
}

func send(t *testing.T, guest *rpc.Client, server string, port int, contents string) {
	t.Helper()
	to := net.JoinHostPort(server, strconv.Itoa(port))
	must(t, guest.Call("Guest.Send", Datagram{to, []byte(contents)}, nil))
}

// queued is how many packets have come to a queue of the guest since somebody
// reads it.
func queued(t *testing.T, guest *rpc.Client, number int) uint64 {
	t.Helper()
	table := inGuest(t, guest, "cat /proc/net/netfilter/nfnetlink_queue")
	for line := range strings.Lines(table) {
		// Number, reader, waiting, mode, range, two counts of drops, last packet, 1.
		if f := strings.Fields(line); len(f) == 9 && f[0] == strconv.Itoa(number) {
			n, err := strconv.ParseUint(f[7], 10, 64)
			must(t, err)
			return n
		}
	}
	t.Fatalf("nobody reads the queue %d:\n%s", number, table)
	return 0
}

// sighting is a datagram of the guest on the wire.
type sighting struct {
	server   string
	port     uint16
	secured  bool // it was under ESP, and its ICV is good
	contents string
}

// datagrams are the datagrams of the guest on the wire.
type datagrams struct {
	capture *lab.Capture
	openers map[ipsec.SPI]*esp.Inbound

	mu   sync.Mutex
	seen map[sighting]bool
	odd  []string // ESP that does not open
}

func watchDatagrams(t *testing.T, h *lab.Host, ifname string) *datagrams {
	t.Helper()
	d := &datagrams{openers: map[ipsec.SPI]*esp.Inbound{}, seen: map[sighting]bool{}}
	for _, server := range []string{server4, server6} {
		spi := manualSPI(netip.MustParseAddr(server))
		in, err := esp.NewInbound(manualParams(spi))
		must(t, err)
		d.openers[spi] = in
	}
	var err error
	d.capture, err = h.Capture(ifname, func(b []byte, outgoing bool) {
		kind, p := lab.Classify(b)
		if outgoing || !p.Src.IsValid() || p.Dst.String() != server4 && p.Dst.String() != server6 {
			return
		}
		d.mu.Lock()
		defer d.mu.Unlock()
		upper := b[p.HeaderLen:p.Len]
		switch {
		case kind == lab.ESP:
			spi := ipsec.SPI(uint32(upper[0])<<24 | uint32(upper[1])<<16 | uint32(upper[2])<<8 | uint32(upper[3]))
			in := d.openers[spi]
			if in == nil {
				d.odd = append(d.odd, fmt.Sprintf("SPI %08x", spi))
				return
			}
			clear, next, err := in.Open(nil, upper)
			if err != nil || next != packet.UDP || len(clear) < 8 {
				d.odd = append(d.odd, fmt.Sprintf("next header %d, %v: %x", next, err, clear))
				return
			}
			port := uint16(clear[2])<<8 | uint16(clear[3])
			d.seen[sighting{p.Dst.String(), port, true, string(clear[8:])}] = true
		case p.Protocol == packet.UDP:
			d.seen[sighting{p.Dst.String(), p.DstPort, false, string(upper[8:])}] = true
		}
	})
	must(t, err)
	return d
}

// want waits until datagrams have been on the wire, and fails the test if
// others were since the last time.
func (d *datagrams) want(t *testing.T, all ...sighting) {
	t.Helper()
	var seen map[sighting]bool
	complete := await(t, 10*time.Second, func() bool {
		d.mu.Lock()
		defer d.mu.Unlock()
		seen = d.seen
		for _, x := range all {
			if !seen[x] {
				return false
			}
		}
		d.seen = map[sighting]bool{}
		return true
	})
	if !complete || len(seen) > len(all) {
		d.mu.Lock()
		defer d.mu.Unlock()
		t.Errorf("on the wire were %v, want %v", seen, all)
	}
}

// end ends the watch.
func (d *datagrams) end(t *testing.T) {
	t.Helper()
	if err := d.capture.Close(); err != nil {
		t.Error(err)
	}
	if len(d.seen) > 0 || len(d.odd) > 0 {
		t.Errorf("on the wire were besides %v and %v", d.seen, d.odd)
	}
}

var traceLine = regexp.MustCompile(`(?m)^trace id (\w+) bridge (?:trace output packet: .* ip6? daddr (\S+) .* udp dport (\d+) |(ipsecfw6?) (\w+) rule .*\(verdict (\w+))`)

// traced fails the test unless the trace of the last packet to a port of the
// server ends in a rule of a chain of ours that has the verdict.
func traced(t *testing.T, path, server string, port int, chain, verdict string) {
	t.Helper()
	want := []string{chain, verdict}
	var last []string
	if !await(t, 10*time.Second, func() bool {
		last = traceOf(t, path, server, port)
		return slices.Equal(last, want)
	}) {
		trace, _ := os.ReadFile(path)
		t.Errorf("the trace of the packet to port %d of %s ends with %q, want %q:\n%s", port, server, last, want, trace)
	}
}

// traceOf returns the last chain of ours, and its verdict, in the trace of the
// last packet to a port of the server; nothing if there is no trace.
func traceOf(t *testing.T, path, server string, port int) (last []string) {
	t.Helper()
	trace, err := os.ReadFile(path)
	must(t, err)
	table := "ipsecfw"
	if strings.Contains(server, ":") {
		table = "ipsecfw6"
	}
	id := ""
	for _, m := range traceLine.FindAllStringSubmatch(string(trace), -1) {
		switch {
		case m[2] == server && m[3] == strconv.Itoa(port):
			id, last = m[1], nil
		case m[1] == id && m[4] == table:
			last = m[5:]
		}
	}
	return last
}
