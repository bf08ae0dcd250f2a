package main

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/ipsecfw/ipsecfw/ipsec/ike"
	"github.com/ipsecfw/ipsecfw/ipsec/ike/iketest"
)

// ofOne is how many IKE SAs one host begins at once at most.
const ofOne = 400

// fleet is a gateway and some hosts that have many IKE SAs with it, each with a
// Child SA, on a network in memory.
type fleet struct {
	gateway *manager
	hosts   []*manager
	running sync.WaitGroup
	stop    context.CancelFunc
}

// newFleet makes n IKE SAs. The hooks, which may be nil, are told at both ends
// of the keys of each IKE SA, and of each Child SA that replaces another.
func newFleet(ctx context.Context, n int, policy ike.Policy, lifetime time.Duration, keys func(ike.Secrets), rekeyed func()) (*fleet, error) {
	rules := newRules(policy)
	rules.child.Lifetime = lifetime
	ctx, stop := context.WithCancel(ctx)
	f := &fleet{stop: stop}
	network := iketest.NewNetwork(1, iketest.Faults{})
	add := func(n int) *manager {
		m := newManager(network, rules, n, keys)
		m.rekeyed = rekeyed
		m.start(ctx, &f.running)
		return m
	}
	f.gateway = add(n)
	network.Attach(responderAddress, f.gateway.Manager)
	for first := 0; first < n; first += ofOne {
		size := min(ofOne, n-first)
		h := add(size)
		f.hosts = append(f.hosts, h)
		for i := first; i < first+size; i++ {
			network.Attach(initiatorAddress(i), h.Manager)
		}
		err := establish(ctx, size, func(i int) error {
			h.begin(initiatorAddress(first+i), responderAddress)
			return nil
		}, h.stands, f.gateway.stands)
		if err != nil {
			f.close()
			return nil, err
		}
	}
	return f, nil
}

func (f *fleet) close() {
	f.stop()
	f.running.Wait()
}

// stand counts the IKE SAs that have a Child SA, at the gateway and at the
// others. While it is replaced there are two.
func (f *fleet) stand() (gateway, hosts int) {
	count := func(m *manager) (n int) {
		for _, p := range m.Peers() {
			if len(p.Children) > 0 {
				n++
			}
		}
		return n
	}
	for _, h := range f.hosts {
		hosts += count(h)
	}
	return count(f.gateway), hosts
}

// cheap is a policy whose IKE SAs are the cheapest that hosts would have.
func cheap(lifetime time.Duration) ike.Policy {
	return ike.Policy{
		Proposals: proposal, Lifetime: lifetime,
		Auth: []ike.AuthMethod{ike.PresharedKey{Secret: []byte("correct horse battery staple")}},
	}
}

// thousands measures what many IKE SAs cost that nobody uses, by the clock.
func thousands(ctx context.Context, c config, _ string, r *report) error {
	empty := heap()
	f, err := newFleet(ctx, c.ikeSAs, cheap(ikeLifetime), childLifetime, nil, nil)
	if err != nil {
		return err
	}
	defer f.close()
	kib := float64(heap()-empty) / 1024 / float64(2*c.ikeSAs)
	r.add(fmt.Sprintf("memory of an IKE SA with its Child SA at one end, of %d", c.ikeSAs), "KiB", atMost(wantedKiB), kib)
	idle, err := cpuTime()
	if err != nil {
		return err
	}
	select {
	case <-time.After(c.rest):
	case <-ctx.Done():
		return ctx.Err()
	}
	after, err := cpuTime()
	if err != nil {
		return err
	}
	percent := 100 * (after - idle).Seconds() / c.rest.Seconds()
	r.add(fmt.Sprintf("CPU of %d IKE SAs at rest, both ends", c.ikeSAs), "% of one", atMost(wantedAtRest), percent)
	if a, b := f.stand(); a != c.ikeSAs || b != c.ikeSAs {
		return fmt.Errorf("of %d, %d and %d are left after %s", c.ikeSAs, a, b, c.rest)
	}
	return nil
}

// rekeys has the test do it that measures in virtual time, which there is in
// tests alone.
func rekeys(ctx context.Context, c config, dir string, r *report) error {
	path := filepath.Join(dir, "rows.json")
	test := exec.CommandContext(ctx, "go", "test", "-count=1", "-timeout=0", "-run=^TestRekeysAreSpread$",
		"github.com/ipsecfw/ipsecfw/test/bench", "-args", "-ike-sas="+strconv.Itoa(c.ikeSAs), "-rows="+path)
	if out, err := test.CombinedOutput(); err != nil {
		return fmt.Errorf("%w\n%s", err, out)
	}
	b, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	var rows []row
	if err := json.Unmarshal(b, &rows); err != nil {
		return err
	}
	r.Rows = append(r.Rows, rows...)
	return nil
}

// heap returns the bytes that are in use.
func heap() int64 {
	runtime.GC()
	runtime.GC() // what finalizers held
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// The lifetimes that rules have by default.
const (
	ikeLifetime   = 8 * time.Hour
	childLifetime = time.Hour
)

// rekeyTimes makes n IKE SAs in one instant, which is when the least spreads
// them, lets their lifetime pass, and returns when they were rekeyed, and when
// their first Child SAs were. It takes that time, which therefore should be
// virtual.
func rekeyTimes(ctx context.Context, n int) (ikeSAs, children []time.Duration, err error) {
	var mu sync.Mutex
	start := time.Now()
	seen := make(map[uint64]bool) // IKE SAs by the initiator's SPI; both ends tell of them
	policy := cheap(ikeLifetime)
	policy.Liveness = time.Hour // there is enough to do
	f, err := newFleet(ctx, n, policy, childLifetime, func(s ike.Secrets) {
		mu.Lock()
		defer mu.Unlock()
		if !seen[s.SPIi] {
			seen[s.SPIi] = true
			ikeSAs = append(ikeSAs, time.Since(start))
		}
	}, func() {
		mu.Lock()
		defer mu.Unlock()
		if at := time.Since(start); at < childLifetime {
			children = append(children, at)
		}
	})
	if err != nil {
		return nil, nil, err
	}
	defer f.close()
	time.Sleep(ikeLifetime - time.Since(start))
	if a, b := f.stand(); a != n || b != n {
		return nil, nil, fmt.Errorf("of %d IKE SAs, %d and %d are left", n, a, b)
	}
	mu.Lock()
	defer mu.Unlock()
	ikeSAs = ikeSAs[n:] // the first are no rekeys
	if len(ikeSAs) < n || len(children) < 2*n {
		return nil, nil, fmt.Errorf("of %d IKE SAs, %d were rekeyed, and %d of %d ends of Child SAs", n, len(ikeSAs), len(children), 2*n)
	}
	return ikeSAs, children, nil
}

// busiest returns how many of some times are in the second that has the most,
// against what it would have if the times were spread evenly over a tenth of
// the lifetime, which is what the jitter covers.
func busiest(times []time.Duration, lifetime time.Duration) float64 {
	seconds := make(map[time.Duration]int)
	for _, t := range times {
		seconds[t.Truncate(time.Second)]++
	}
	most := slices.Max(slices.Collect(maps.Values(seconds)))
	return float64(most) / (float64(len(times)) / (lifetime / 10).Seconds())
}
