package main

import (
	"context"
	"fmt"
	"os"
	"runtime/pprof"
	"time"

	"github.com/ipsecfw/ipsecfw/filter"
	"github.com/ipsecfw/ipsecfw/filter/nft"
	"github.com/ipsecfw/ipsecfw/filter/space"
	"github.com/ipsecfw/ipsecfw/rules"
)

// stages measures what check and apply are made of, in this process.
func stages(ctx context.Context, c config, s *site, t *targets, r *report) error {
	if c.profile != "" {
		f, err := os.Create(c.profile)
		if err != nil {
			return err
		}
		defer f.Close()
		if err := pprof.StartCPUProfile(f); err != nil {
			return err
		}
		defer pprof.StopCPUProfile()
	}
	h, err := s.net.Host("stages")
	if err != nil {
		return err
	}
	files := [][]byte{t.many.policy.ruleFile(), changed(t.many.policy).ruleFile()}
	features := nft.Features{}
	if err := h.Do(func() error { features = nft.Probe(); return nil }); err != nil {
		return err
	}
	cfg := nft.Config{Interface: "ipsecfw0", InMark: 1, OutMark: 2, Queue: 1, TCPQueue: 2, LogGroup: 1, Features: features}
	var names []string
	times := map[string][]float64{}
	var inForce nft.Ruleset
	for n := range c.repetitions + 1 {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		var (
			file    *rules.File
			entries []filter.Entry
			spd     *filter.SPD
			set     *space.Policy
			rs      nft.Ruleset
		)
		steps := []struct {
			name string
			do   func() error
		}{
			{"rules.Parse", func() (err error) { file, err = rules.Parse("bench.yaml", files[n%2]); return err }},
			{"rules.File.Entries", func() error { entries = file.Entries(rules.Addresses{}); return nil }},
			{"filter.New", func() (err error) {
				spd, err = filter.New(entries, filter.Settings{Exemptions: file.Exemptions})
				return err
			}},
			{"space.Compile", func() error { set = space.Compile(spd); return nil }},
			{"space.Conflicts", func() error {
				_, err := space.Conflicts(set, func(e *filter.Entry) filter.Action { return e.Action })
				return err
			}},
			{"space.Policy.Dead", func() error { _, err := set.Dead(); return err }},
			{"nft.Compile", func() error { rs = nft.Compile(spd, cfg); return nil }},
			{"nft.Apply", func() error { return h.Do(func() error { return nft.Apply(rs) }) }},
		}
		if n > 0 {
			steps[len(steps)-1].name = "nft.Update, one changed line"
			steps[len(steps)-1].do = func() error { return h.Do(func() error { return nft.Update(inForce, rs) }) }
		}
		for _, step := range steps {
			start := time.Now()
			if err := step.do(); err != nil {
				return fmt.Errorf("%s: %w", step.name, err)
			}
			if times[step.name] == nil {
				names = append(names, step.name)
			}
			times[step.name] = append(times[step.name], time.Since(start).Seconds()*1000)
		}
		inForce = rs
	}
	for _, name := range names {
		r.add(fmt.Sprintf("%s, %d filters", name, c.many), "ms", nil, times[name]...)
	}
	return nil
}
