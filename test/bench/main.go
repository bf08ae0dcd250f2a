// Command bench measures what a large policy costs: packets through the host's
// own hooks, check and apply as commands, the daemon's memory, the engine's own
// lookup; and beside it the same filters as plain rules of nft. It measures the
// key exchange, too: how fast IKE SAs are made, beside those of strongSwan, and
// what many of them cost. It needs root, takes minutes, and prints one table
// with what is wanted.
//
// Everything is measured several times, what is compared by turns, and medians
// count. On a machine that does other work the times say little; ratios of
// what was measured by turns say more.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"time"
)

// config says what is measured.
type config struct {
	only        string // the part that is measured; empty for all
	program     string // path of ipsecfw
	few, many   int    // filters
	repetitions int
	duration    time.Duration // of each measurement of packets
	lookups     int           // of each measurement of the engine's lookup
	handshakes  int           // IKE SAs of each measurement of how fast they are made
	ikeSAs      int           // that nobody uses
	rest        time.Duration // for which nobody uses them
	profile     string        // file for a CPU profile of the stages; may be empty
	progress    func(string)
}

// What is wanted of 100,000 filters, in seconds, and of their packets a second
// against those of 10.
const (
	checkWithin   = 2
	applyWithin   = 5
	changeWithin  = 0.5
	wantedOfRatio = 0.9
	wantedAllocs  = 0
)

// What is wanted of the key exchange: of its handshakes against those of
// charon, of 10,000 IKE SAs that nobody uses, and of their rekeying. Where two
// ends draw lots for who comes first, the first seconds have twice the mean.
const (
	wantedOfCharon  = 1
	wantedKiB       = 16 // for each end
	wantedAtRest    = 25 // % of a CPU for both ends
	wantedOfBusiest = 6
)

func main() {
	c := config{few: 10, lookups: 2_000_000, progress: func(s string) { fmt.Fprintln(os.Stderr, s) }}
	flag.StringVar(&c.program, "program", "", "`PATH` of ipsecfw; it is built when there is none")
	flag.IntVar(&c.many, "filters", 100_000, "`NUMBER` of filters of the large policy, up to a million")
	flag.IntVar(&c.repetitions, "repetitions", 9, "`NUMBER` of times that each thing is measured")
	flag.DurationVar(&c.duration, "duration", time.Second, "`TIME` for which packets are sent and counted")
	flag.StringVar(&c.profile, "profile", "", "`FILE` for a CPU profile of the stages of check and apply")
	flag.StringVar(&c.only, "only", "", "`PART` to measure, filters or ike; both when there is none")
	flag.IntVar(&c.handshakes, "handshakes", ofOne, "`NUMBER` of IKE SAs that are made at a time, up to what a host begins at once")
	flag.IntVar(&c.ikeSAs, "ike-sas", 10_000, "`NUMBER` of IKE SAs whose cost is measured, up to a million")
	flag.DurationVar(&c.rest, "rest", time.Minute, "`TIME` for which the CPU of IKE SAs at rest is measured")
	output := flag.String("json", "", "`FILE` for the numbers, in JSON")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	r, err := run(ctx, c)
	if err == nil {
		err = r.print(os.Stdout)
	}
	if err == nil && *output != "" {
		err = r.write(*output)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(2)
	}
	if r.failed() > 0 {
		os.Exit(1)
	}
}

// run measures everything, or what is asked for.
func run(ctx context.Context, c config) (r *report, err error) {
	switch {
	case c.few < 10 || c.many < c.few || c.many > 1_000_000 || c.repetitions < 1:
		return nil, errors.New("the policies have from 10 to a million filters, and are measured at least once")
	case c.handshakes < 1 || c.handshakes > ofOne || c.ikeSAs < 1 || c.ikeSAs > 1_000_000:
		return nil, fmt.Errorf("from 1 to %d IKE SAs are made at a time, and from 1 to a million are kept", ofOne)
	}
	dir, err := os.MkdirTemp("", "ipsecfw-bench")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	r = newReport(c.many)
	known := c.only == ""
	for _, part := range []struct {
		name    string
		measure func(context.Context, config, string, *report) error
	}{{"filters", filters}, {"ike", keyExchange}} {
		if c.only != "" && c.only != part.name {
			continue
		}
		known = true
		if err := part.measure(ctx, c, dir, r); err != nil {
			return nil, err
		}
	}
	if !known {
		return nil, fmt.Errorf("there is no part %q: filters and ike are", c.only)
	}
	return r, nil
}

// filters measures what a large policy costs.
func filters(ctx context.Context, c config, dir string, r *report) (err error) {
	if c.program == "" {
		c.program = filepath.Join(dir, "ipsecfw")
		c.progress("building ipsecfw")
		build := exec.CommandContext(ctx, "go", "build", "-o", c.program, "github.com/ipsecfw/ipsecfw/cmd/ipsecfw")
		if out, err := build.CombinedOutput(); err != nil {
			return fmt.Errorf("building ipsecfw: %w\n%s", err, out)
		}
	}
	s, err := newSite(c.program, dir)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.close()) }()
	hosts, err := s.targets(c)
	if err != nil {
		return err
	}
	for _, step := range []struct {
		name    string
		measure func(context.Context, config, *site, *targets, *report) error
	}{
		{"check and apply", commands},
		{"plain rules", plain},
		{"packets", packets},
		{"lookups", lookups},
		{"stages", stages},
	} {
		c.progress(step.name)
		if err := step.measure(ctx, c, s, hosts, r); err != nil {
			return fmt.Errorf("%s: %w", step.name, err)
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
	}
	return nil
}

// keyExchange measures IKE.
func keyExchange(ctx context.Context, c config, dir string, r *report) error {
	for _, step := range []struct {
		name    string
		measure func(context.Context, config, string, *report) error
	}{
		{"handshakes", handshakes},
		{"IKE SAs at rest", thousands},
		{"rekeys in virtual time", rekeys},
	} {
		c.progress(step.name)
		if err := step.measure(ctx, c, dir, r); err != nil {
			return fmt.Errorf("%s: %w", step.name, err)
		}
	}
	return nil
}

// targets are the hosts that are compared.
type targets struct {
	open      *target // without a policy
	few, many *target
	plain     *target // with rules of nft
}

func (s *site) targets(c config) (*targets, error) {
	var t targets
	for n, x := range []struct {
		to      **target
		name    string
		filters int
	}{{&t.open, "open", 0}, {&t.few, "few", c.few}, {&t.many, "many", c.many}, {&t.plain, "plain", c.many}} {
		var err error
		if *x.to, err = s.target(x.name, n, x.filters); err != nil {
			return nil, err
		}
	}
	return &t, nil
}
