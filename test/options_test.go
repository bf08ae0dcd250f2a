package test

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"

	"github.com/ipsecfw/ipsecfw/test/lab"
)

// Packets that are rejected and not dropped: their sender hears of it at once,
// by a TCP reset or an ICMP error, whoever it is.
func TestReject(t *testing.T) {
	s, f, ds := peers(t)
	w := f.parties["work"].host
	dg := startDaemon(t, s.gateway)
	for _, a := range []string{server4 + ":22", "[" + server6 + "]:22", server4 + ":23"} {
		listenSwaps(t, s.server, a)
	}
	listenSwaps(t, w, workstation4+":22")
	listenEcho(t, s.server, server4+":9")
	listenEcho(t, s.server, "["+server6+"]:9")
	listenEcho(t, w, workstation4+":9")
	for _, a := range []string{server4 + ":22", "[" + server6 + "]:22", server4 + ":23"} {
		must(t, transfer(w, "", a, 1))
	}
	const policy = `version: 1
name: reject
filter-lists:
  last:
%s  in:
    - {from: any, to: %[2]s, protocol: tcp, to-port: %[3]d}
    - {from: any, to: %[2]s, protocol: udp, to-port: 9}
  out:
    - {from: %[2]s, to: any, protocol: tcp, to-port: 22}
    - {from: %[2]s, to: any, protocol: udp, to-port: 9}
filter-actions:
  refuse: {block: {reject: true}}
rules:
  - {name: last, filter-list: last, action: permit}
  - {name: in, filter-list: in, action: refuse%[4]s}
  - {name: out, filter-list: out, action: refuse%[4]s}
`
	ds.apply(t, fmt.Sprintf(policy, f.lastFilters(), "me", 22, ""))
	dg.apply(t, fmt.Sprintf(policy, f.lastFilters(), "10.9.0.0/24", 23, ", path: forward"))
	for _, tt := range []struct {
		name        string
		from        *lab.Host
		network, to string
		errors      []error
	}{
		{"TCP in", w, "tcp", server4 + ":22", []error{syscall.ECONNREFUSED}},
		{"TCP in, IPv6", w, "tcp", "[" + server6 + "]:22", []error{syscall.ECONNREFUSED}},
		{"TCP out", s.server, "tcp", workstation4 + ":22", []error{syscall.ECONNREFUSED}},
		{"TCP passing by", w, "tcp", server4 + ":23", []error{syscall.ECONNREFUSED}},
		{"UDP in, IPv6", w, "udp", "[" + server6 + "]:9", []error{syscall.EACCES}},
		{"UDP out", s.server, "udp", workstation4 + ":9", []error{syscall.EHOSTUNREACH, syscall.EPERM}},
		{"UDP passing by", w, "udp", server4 + ":9", []error{syscall.EHOSTUNREACH}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			start := time.Now()
			err := ask(t, tt.from, tt.network, tt.to)
			if !slices.ContainsFunc(tt.errors, func(want error) bool { return errors.Is(err, want) }) {
				t.Errorf("%s to %s: error %v, want one of %v", tt.network, tt.to, err, tt.errors)
			}
			if d := time.Since(start); d > time.Second {
				t.Errorf("it took %v", d)
			}
		})
	}
	ds.untroubled(t)
	dg.untroubled(t)
}

// ask connects, sends a word and waits for its echo, within two seconds.
func ask(t *testing.T, h *lab.Host, network, to string) error {
	t.Helper()
	c, err := h.Dial(within(t, 2*time.Second), network, to)
	if err != nil {
		return err
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(2 * time.Second))
	if _, err := c.Write([]byte("word")); err != nil {
		return err
	}
	_, err = c.Read(make([]byte, 16))
	return err
}

// A stateful filter lets a connection begin from one side only.
func TestStateful(t *testing.T) {
	_, f, d := peers(t)
	w := f.parties["work"].host
	row := fieldRow{filters: []string{
		"from: me, to: any, protocol: udp, to-port: 9, stateful: true",
		"from: me, to: any, protocol: tcp, to-port: 8443, stateful: true",
		"from: any, to: me, protocol: icmp, icmp-type: echo-request, stateful: true",
	}}
	d.apply(t, row.policy(f, "permit", "block"))
	f.expect(t, nil, []string{"work me udp 9 1000", "work6 me6 udp 9 1000", "other me udp 9 1000"})
	f.expect(t,
		[]string{"me work udp 1000 9", "work me udp 9 1000", "me6 work6 udp 1000 9", "work6 me6 udp 9 1000", "work me icmp 8 0", "me work icmp 0 0"},
		[]string{"work me udp 9 1001", "other me udp 9 1000", "me work icmp 8 0", "me other icmp 0 0", "work me udp 1000 9", "work me tcp 8443 1000"})
	listenSwaps(t, w, workstation4+":8443")
	must(t, transfer(d.host, "", workstation4+":8443", megabyte))
	d.untroubled(t)
}

// What passes of a filter with a limit is its burst, while the rate adds
// nothing to it.
func TestLimit(t *testing.T) {
	_, f, d := peers(t)
	row := fieldRow{filters: []string{
		"from: any, to: me, protocol: udp, to-port: 9, limit: {rate: 1/hour, burst: 7}",
		"from: any, to: me, protocol: 253, limit: 1/minute",
	}}
	d.apply(t, row.policy(f, "permit", "block"))
	for _, tt := range []struct {
		probe string
		want  int
	}{{"work me udp %d 9", 7}, {"work6 me6 253 0 %d", 5}} {
		var probes []string
		for i := range 30 {
			probes = append(probes, fmt.Sprintf(tt.probe, 100+i))
		}
		passed := 0
		for _, came := range f.fly(t, probes...) {
			if came {
				passed++
			}
		}
		if passed != tt.want {
			t.Errorf("%d of 30 packets %q come, want %d", passed, tt.probe, tt.want)
		}
	}
	d.untroubled(t)
}

// listed is a filter as "list filters -o json" shows it.
type listed struct {
	Rule    string `json:"rule"`
	Index   int    `json:"index"`
	Packets uint64 `json:"packets"`
	Bytes   uint64 `json:"bytes"`
}

// counted returns packets and bytes of each filter by rule and place.
func (d *daemon) counted(t *testing.T) map[string][2]uint64 {
	t.Helper()
	out, err := d.run("list", "filters", "-o", "json")
	must(t, err)
	var filters []listed
	must(t, json.Unmarshal(out, &filters))
	all := map[string][2]uint64{}
	for _, x := range filters {
		all[fmt.Sprintf("%s %d", x.Rule, x.Index)] = [2]uint64{x.Packets, x.Bytes}
	}
	return all
}

// Each filter counts what it decides on, permitted or not.
func TestCounters(t *testing.T) {
	_, f, d := peers(t)
	row := fieldRow{filters: []string{"from: [10.1.1.10, 10.1.2.66], to: me, protocol: udp, to-port: 9", "from: me, to: any, protocol: tcp, to-port: 9"}}
	const udp, syn, reset = 20 + 8 + 8, 20 + 20 + 8, 20 + 20
	for _, tt := range []struct {
		action string
		want   map[string][2]uint64
	}{
		{"permit", map[string][2]uint64{"tested 1": {3, 3 * udp}, "tested 2": {2, syn + reset}}},
		{"block", map[string][2]uint64{"tested 1": {3, 3 * udp}, "tested 2": {1, syn}}},
	} {
		d.apply(t, row.policy(f, tt.action, ""))
		before := d.counted(t)
		f.fly(t, "work me udp 1 9", "other me udp 2 9", "me work udp 9 1", "me work tcp 1 9", "work me udp 1 8", "work me gre")
		after := d.counted(t)
		for name, want := range tt.want {
			if got := [2]uint64{after[name][0] - before[name][0], after[name][1] - before[name][1]}; got != want {
				t.Errorf("with %s filter %s counts %d packets of %d bytes, want %d of %d", tt.action, name, got[0], got[1], want[0], want[1])
			}
		}
	}
	d.untroubled(t)
}

// nflog reads what the kernel logs in a host, in our group of NFLOG.
func nflog(t *testing.T, h *lab.Host) *netlink.Conn {
	t.Helper()
	const (
		config                    = unix.NFNL_SUBSYS_ULOG<<8 | 1
		command, mode, threshold  = 1, 2, 5
		bind, copyPacket, largest = 1, 2, 0xffff
		group                     = 4950
	)
	var c *netlink.Conn
	must(t, h.Do(func() (err error) {
		c, err = netlink.Dial(unix.NETLINK_NETFILTER, nil)
		return err
	}))
	t.Cleanup(func() { c.Close() })
	e := binary.BigEndian
	for _, attribute := range []netlink.Attribute{
		{Type: command, Data: []byte{bind}},
		{Type: mode, Data: append(e.AppendUint32(nil, largest), copyPacket, 0)},
		{Type: threshold, Data: e.AppendUint32(nil, 1)},
	} {
		b, err := netlink.MarshalAttributes([]netlink.Attribute{attribute})
		must(t, err)
		_, err = c.Execute(netlink.Message{
			Header: netlink.Header{Type: config, Flags: netlink.Request | netlink.Acknowledge},
			Data:   append(e.AppendUint16([]byte{unix.AF_UNSPEC, 0}, group), b...),
		})
		must(t, err)
	}
	must(t, c.SetReadDeadline(time.Now().Add(10*time.Second)))
	return c
}

// Packets of a filter with "log" are in the log under the name of their rule,
// whether they pass or not; those of others are not.
func TestLog(t *testing.T) {
	s, f, d := peers(t)
	log := nflog(t, s.server)
	row := fieldRow{filters: []string{"from: 10.1.1.10, to: me, protocol: udp, to-port: 9, log: true", "from: me, to: 10.1.1.10, protocol: udp, to-port: 10, log: true"}}
	for _, action := range []string{"permit", "block"} {
		d.apply(t, row.policy(f, action, ""))
		f.fly(t, "other me udp 1 9", "work me udp 1 8", "work me udp 1 9", "me work udp 1 10")
		var lines []string
		for len(lines) < 2 {
			messages, err := log.Receive()
			must(t, err)
			for _, m := range messages {
				attributes, err := netlink.UnmarshalAttributes(m.Data[4:])
				must(t, err)
				var prefix string
				var packet []byte
				for _, a := range attributes {
					switch a.Type {
					case 9: // NFULA_PAYLOAD
						packet = a.Data
					case 10: // NFULA_PREFIX
						prefix = string(bytes.TrimRight(a.Data, "\x00"))
					}
				}
				if len(packet) < 24 {
					t.Fatalf("%d bytes of a packet in the log", len(packet))
				}
				lines = append(lines, fmt.Sprintf("%s: %d.%d.%d.%d to port %d", prefix, packet[12], packet[13], packet[14], packet[15], binary.BigEndian.Uint16(packet[22:])))
			}
		}
		want := "tested: 10.1.1.10 to port 9\ntested: 10.9.0.10 to port 10"
		if got := strings.Join(lines, "\n"); got != want {
			t.Errorf("with %s the log has\n%s\nwant\n%s", action, got, want)
		}
	}
	d.untroubled(t)
}
