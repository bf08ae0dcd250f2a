package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"time"
)

// commands puts the policies in force, and measures the commands that do it by
// the clock, and the daemon's memory. The many filters come in force in place
// of none, and then with one of them changed.
func commands(ctx context.Context, c config, s *site, t *targets, r *report) error {
	few, err := s.start(t.few.Host)
	if err != nil {
		return err
	}
	if _, err := few.apply("policy.yaml", t.few.policy.ruleFile()); err != nil {
		return err
	}
	many, err := s.start(t.many.Host)
	if err != nil {
		return err
	}
	idle, _, err := many.memory()
	if err != nil {
		return err
	}
	file, changedFile := t.many.policy.ruleFile(), changed(t.many.policy).ruleFile()
	var check, apply, change, resident []float64
	for range c.repetitions {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if _, err := many.run("unapply"); err != nil {
			return err
		}
		for _, step := range []struct {
			seconds *[]float64
			command string
			content []byte
		}{{&check, "check", file}, {&apply, "apply", file}, {&change, "apply", changedFile}, {&change, "apply", file}} {
			if err := os.WriteFile(many.path("policy.yaml"), step.content, 0o600); err != nil {
				return err
			}
			seconds, err := many.run(step.command, many.path("policy.yaml"))
			if err != nil {
				return err
			}
			*step.seconds = append(*step.seconds, seconds)
		}
		now, _, err := many.memory()
		if err != nil {
			return err
		}
		resident = append(resident, now)
	}
	_, most, err := many.memory()
	if err != nil {
		return err
	}
	r.add(fmt.Sprintf("ipsecfw check, %d filters", c.many), "s", atMost(checkWithin), check...)
	r.add(fmt.Sprintf("ipsecfw apply, %d filters in place of none", c.many), "s", atMost(applyWithin), apply...)
	r.add(fmt.Sprintf("ipsecfw apply, one changed line in %d", c.many), "s", atMost(changeWithin), change...)
	r.add("the daemon's memory without a policy (VmRSS)", "MiB", nil, idle)
	r.add(fmt.Sprintf("the daemon's memory with %d filters (VmRSS)", c.many), "MiB", nil, resident...)
	r.add("the daemon's memory at most (VmHWM)", "MiB", nil, most)
	return nil
}

func changed(p policy) *policy {
	p.changed = true
	return &p
}

// apply puts a rule file in force and returns the seconds that it took.
func (d *daemon) apply(name string, content []byte) (float64, error) {
	if err := os.WriteFile(d.path(name), content, 0o600); err != nil {
		return 0, err
	}
	return d.run("apply", d.path(name))
}

// plainFor bounds the time for which plain rules are loaded again and again.
const plainFor = 30 * time.Second

// plain loads the filters as rules of nft.
func plain(ctx context.Context, c config, s *site, t *targets, r *report) error {
	path := filepath.Join(s.dir, "plain.nft")
	if err := os.WriteFile(path, t.plain.policy.plainRules(), 0o600); err != nil {
		return err
	}
	var load []float64
	for start := time.Now(); len(load) == 0 || len(load) < c.repetitions && time.Since(start) < plainFor; {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		seconds, err := timed(t.plain.Command("nft", "-f", path))
		if err != nil {
			return err
		}
		load = append(load, seconds)
	}
	r.add(fmt.Sprintf("nft -f, %d plain rules", c.many), "s", nil, load...)
	return nil
}

// packets measures the way through the hooks of hosts that have policies, by
// turns.
func packets(ctx context.Context, c config, s *site, t *targets, r *report) error {
	ways := []struct {
		name    string
		measure func(*site, time.Duration) (float64, error)
		rates   []float64
	}{
		{name: "in, no policy", measure: t.open.in},
		{name: fmt.Sprintf("in, %d filters", c.few), measure: t.few.in},
		{name: fmt.Sprintf("in, %d filters", c.many), measure: t.many.in},
		{name: "out, no policy", measure: t.open.out},
		{name: fmt.Sprintf("out, %d filters", c.few), measure: t.few.out},
		{name: fmt.Sprintf("out, %d filters", c.many), measure: t.many.out},
		{name: fmt.Sprintf("in, %d plain rules, the middle one decides", c.many), measure: t.plain.in},
		{name: fmt.Sprintf("in, %d plain rules, the last one decides", c.many), measure: t.plain.inLast},
	}
	for range c.repetitions {
		for i := range ways {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			rate, err := ways[i].measure(s, c.duration)
			if err != nil {
				return fmt.Errorf("%s: %w", ways[i].name, err)
			}
			ways[i].rates = append(ways[i].rates, rate)
		}
	}
	for _, w := range ways {
		r.add("UDP "+w.name, "packets/s", nil, w.rates...)
	}
	ratio := func(over, under int, wanted *bound) {
		r.add(fmt.Sprintf("UDP %s, against %s", ways[over].name, ways[under].name), "ratio", wanted, ratios(ways[over].rates, ways[under].rates)...)
	}
	ratio(2, 1, atLeast(wantedOfRatio))
	ratio(5, 4, atLeast(wantedOfRatio))
	ratio(2, 0, nil)
	ratio(6, 2, nil)
	return nil
}
