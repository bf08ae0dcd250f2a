package test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ipsecfw/ipsecfw/test/lab"
)

// The hosts of a perimeter network and of what it stands between, after the
// figure "Filtering Packets by Using IPSec" of "What Is IPSec?" (Microsoft,
// Windows Server 2003, 2003). Each host has a cable to the router.
var figureHosts = []struct{ name, addr string }{
	{"internal", "10.30.1.10"},
	{"perimeter", "10.20.1.10"},
	{"sql", "10.30.2.20"},
	{"web", "10.20.2.80"},
	{"management", "10.40.1.5"},
	{"internet", "198.51.100.9"},
}

// What the figure's administrators decided, one policy for each host, and one
// for the router, which is the firewall to the Internet.
var figurePolicies = map[string]string{
	// The internal network blocks all traffic from the perimeter network.
	"internal": `
filter-lists:
  perimeter: [{from: 10.20.0.0/16, to: me}]
rules:
  - {name: perimeter, filter-list: perimeter, action: block}
`,
	// The SQL server, which is part of it, makes an exception.
	"sql": `
filter-lists:
  perimeter: [{from: 10.20.0.0/16, to: me}]
  queries: [{from: 10.20.2.80, to: me, protocol: tcp, to-port: 1433}]
rules:
  - {name: perimeter, filter-list: perimeter, action: block}
  - {name: queries, filter-list: queries, action: permit}
`,
	// The perimeter network blocks all traffic to the internal network.
	"perimeter": `
filter-lists:
  internal: [{from: me, to: 10.30.0.0/16}]
rules:
  - {name: internal, filter-list: internal, action: block}
`,
	// The web application server makes an exception for its queries, and blocks
	// all traffic from the Internet but for the web.
	"web": `
address-sets:
  ours: [10.20.0.0/16, 10.40.0.0/16]
filter-lists:
  internal: [{from: me, to: 10.30.0.0/16}]
  queries: [{from: me, to: 10.30.2.20, protocol: tcp, to-port: 1433}]
  internet: [{from: any, to: me}]
  ours: [{from: {set: ours}, to: me}]
  web:
    - {from: any, to: me, protocol: tcp, to-port: 80}
    - {from: any, to: me, protocol: tcp, to-port: 443}
rules:
  - {name: internal, filter-list: internal, action: block}
  - {name: queries, filter-list: queries, action: permit}
  - {name: internet, filter-list: internet, action: block}
  - {name: ours, filter-list: ours, action: permit}
  - {name: web, filter-list: web, action: permit}
`,
	// All traffic to the management computer is blocked, and its own to the
	// perimeter network is allowed.
	"management": `
filter-lists:
  all: [{from: any, to: me}]
  perimeter: [{from: me, to: 10.20.0.0/16, stateful: true}]
rules:
  - {name: all, filter-list: all, action: block}
  - {name: perimeter, filter-list: perimeter, action: permit}
`,
	"router": `
address-sets:
  inside: [10.30.0.0/16, 10.40.0.0/16]
filter-lists:
  from-internet: [{from: 198.51.100.0/24, to: {set: inside}}]
  to-internet: [{from: {set: inside}, to: 198.51.100.0/24, stateful: true}]
rules:
  - {name: from-internet, filter-list: from-internet, action: block, path: forward}
  - {name: to-internet, filter-list: to-internet, action: permit, path: forward}
`,
}

// figurePorts are tried from every host to every other one.
var figurePorts = []int{22, 80, 443, 1433}

// figureTable says which ports a host (at the left) reaches of another.
const figureTable = `
from        internal  perimeter  sql    web     management  internet
internal    -         none       all    none    none        all
perimeter   none      -          none   all     none        all
sql         all       none       -      none    none        all
web         none      all        1433   -       none        none
management  none      all        none   all     -           none
internet    none      all        none   80,443  none        -
`

// figureExpected reads the table: the ports by "FROM TO".
func figureExpected(t *testing.T) map[string][]int {
	t.Helper()
	lines := strings.Split(strings.TrimSpace(figureTable), "\n")
	heads := strings.Fields(lines[0])
	out := map[string][]int{}
	for _, line := range lines[1:] {
		cells := strings.Fields(line)
		for i, cell := range cells[1:] {
			way := cells[0] + " " + heads[i+1]
			switch cell {
			case "all":
				out[way] = figurePorts
			case "-", "none":
			default:
				for _, p := range strings.Split(cell, ",") {
					n, err := strconv.Atoi(p)
					must(t, err)
					out[way] = append(out[way], n)
				}
			}
		}
	}
	return out
}

// count accepts and answers connections until the test ends, and counts them.
func count(t *testing.T, h *lab.Host, address string, n *atomic.Int64) {
	t.Helper()
	l, err := h.Listen("tcp", address)
	must(t, err)
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			n.Add(1)
			go func() {
				defer c.Close()
				io.Copy(c, c)
			}()
		}
	}()
}

// reaches reports whether a connection comes about and answers a word.
func reaches(h *lab.Host, address string, d time.Duration) bool {
	ctx, cancel := context.WithTimeout(context.Background(), d)
	defer cancel()
	c, err := h.Dial(ctx, "tcp", address)
	if err != nil {
		return false
	}
	defer c.Close()
	deadline, _ := ctx.Deadline()
	c.SetDeadline(deadline)
	if _, err := c.Write([]byte("word")); err != nil {
		return false
	}
	_, err = io.ReadFull(c, make([]byte, 4))
	return err == nil
}

// explained reports whether a host's explain lets a TCP connection and its
// answers pass. A host without a policy does.
func explained(t *testing.T, d *daemon, from, to string, port int, way string) bool {
	t.Helper()
	if d == nil {
		return true
	}
	out, err := d.run("explain", "--from", from, "--to", to, "--protocol", "tcp", "--from-port", "40000", "--to-port", strconv.Itoa(port), way, "-o", "json")
	must(t, err)
	var e struct {
		Packets, Answers struct{ Action string }
	}
	if err := json.Unmarshal(out, &e); err != nil {
		t.Fatalf("explain: %v\n%s", err, out)
	}
	return e.Packets.Action == "permit" && e.Answers.Action == "permit"
}

// The figure's six hosts with their policies: every host tries every port of
// every other one.
func TestFigure(t *testing.T) {
	s := newGateway(t)
	hosts := map[string]*lab.Host{"router": s.gateway}
	accepted := map[string]*atomic.Int64{}
	for i, x := range figureHosts {
		network := x.addr[:strings.LastIndex(x.addr, ".")]
		h := s.host(t, x.name, "to"+strconv.Itoa(i), []string{x.addr + "/24"}, []string{network + ".1/24"})
		hosts[x.name] = h
		for _, port := range figurePorts {
			key := fmt.Sprintf("%s %d", x.name, port)
			accepted[key] = new(atomic.Int64)
			count(t, h, net.JoinHostPort(x.addr, strconv.Itoa(port)), accepted[key])
		}
	}
	for _, from := range figureHosts { // without policies there is no need of any
		for _, to := range figureHosts {
			if from != to && !reaches(hosts[from.name], to.addr+":22", 10*time.Second) {
				t.Fatalf("without policies %s does not reach %s", from.name, to.name)
			}
		}
	}
	for _, n := range accepted {
		n.Store(0)
	}
	daemons := map[string]*daemon{}
	for name, policy := range figurePolicies {
		d := startDaemon(t, hosts[name])
		daemons[name] = d
		d.apply(t, "version: 1\nname: "+name+policy)
		t.Cleanup(func() { d.untroubled(t) })
	}

	expected := figureExpected(t)
	for _, from := range figureHosts {
		for _, to := range figureHosts {
			for _, port := range []int{443, 1433} {
				if from == to {
					continue
				}
				// The sender, the router and the receiver each have a say.
				passes := explained(t, daemons[from.name], from.addr, to.addr, port, "--out") &&
					explained(t, daemons["router"], from.addr, to.addr, port, "--forward") &&
					explained(t, daemons[to.name], from.addr, to.addr, port, "--in")
				if want := slices.Contains(expected[from.name+" "+to.name], port); passes != want {
					t.Errorf("explain says that %s reaches port %d of %s: %v, and the table %v", from.name, port, to.name, passes, want)
				}
			}
		}
	}
	permitted, refusedOnes := map[string]int64{}, 0
	var tries sync.WaitGroup
	var reached, unreached atomic.Int64
	for _, from := range figureHosts {
		for _, to := range figureHosts {
			if from == to {
				continue
			}
			for _, port := range figurePorts {
				want := slices.Contains(expected[from.name+" "+to.name], port)
				d := time.Second
				if want {
					permitted[fmt.Sprintf("%s %d", to.name, port)]++
					d = 20 * time.Second
				} else {
					refusedOnes++
				}
				tries.Go(func() {
					got := reaches(hosts[from.name], net.JoinHostPort(to.addr, strconv.Itoa(port)), d)
					if got != want {
						t.Errorf("%s reaches port %d of %s: %v, want %v", from.name, port, to.name, got, want)
					}
					if got {
						reached.Add(1)
					} else {
						unreached.Add(1)
					}
				})
			}
		}
	}
	tries.Wait()
	for key, n := range accepted {
		if got := n.Load(); got != permitted[key] {
			t.Errorf("%s accepted %d connections, want %d", key, got, permitted[key])
		}
	}
	const allTries = 6 * 5 * 4
	if got := reached.Load() + unreached.Load(); got != allTries || int(unreached.Load()) != refusedOnes {
		t.Errorf("%d tries of %d, %d refused of %d", got, allTries, unreached.Load(), refusedOnes)
	}
	t.Logf("%d connections, %d refused", reached.Load(), unreached.Load())
}
