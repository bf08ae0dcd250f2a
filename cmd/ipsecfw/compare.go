package main

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"

	"github.com/ipsecfw/ipsecfw/filter"
	"github.com/ipsecfw/ipsecfw/filter/space"
)

// fate is what becomes of packets, as far as two policies are told apart by it.
// What is logged is no matter of it, nor what rules are called.
type fate struct {
	action     filter.Action
	options    filter.Options
	negotiates string // the aspects
}

// String writes the fate in words, without what is negotiated.
func (f fate) String() string {
	out := f.action.String()
	switch l := f.options.Limit; {
	case f.options.Reject:
		out += " with reject"
	case l != (filter.Limit{}):
		out += fmt.Sprintf(" at most %d/%s, %d at once", l.Packets, l.Per, l.Burst)
	}
	return out
}

// difference is what is another under a new policy.
type difference struct {
	Settings []changedAspect `json:"settings,omitempty"` // beside the filters
	Packets  []changedFate   `json:"packets"`
}

// changedFate is packets whose fate is another.
type changedFate struct {
	Direction   string          `json:"direction"`
	From        string          `json:"from"`
	To          string          `json:"to"`
	Negotiation []changedAspect `json:"negotiation,omitempty"` // what is negotiated otherwise
	Packets     []string        `json:"packets"`
	Example     string          `json:"example"`
}

func (d difference) none() bool { return len(d.Settings)+len(d.Packets) == 0 }

// maxLines bounds the lines by which the packets of one change are described.
const maxLines = 50

// compare finds out what is another under the policy next.
func compare(old, next policy) (difference, error) {
	d := difference{Packets: []changedFate{}}
	if old.settings() != nil {
		d.Settings = changed(settled(old), settled(next))
	}
	policies := [...]policy{space.Old: old, space.New: next}
	means := map[string]aspects{}    // by their text
	var meaning [2]map[string]string // the text, by rule
	var compiled [2]*space.Policy
	var errs [2]error
	var work sync.WaitGroup
	for v, p := range policies {
		work.Go(func() {
			s, err := p.spd()
			if errs[v] = err; err == nil {
				compiled[v] = space.Compile(s)
			}
		})
		meaning[v] = map[string]string{}
		for name, n := range p.negotiations() {
			a := negotiated(n)
			meaning[v][name], means[a.String()] = a.String(), a
		}
	}
	work.Wait()
	if err := errors.Join(errs[:]...); err != nil {
		return d, err
	}
	found, err := space.Diff(compiled[space.Old], compiled[space.New], func(v space.Version, x filter.Decision) fate {
		f := fate{action: x.Action}
		if e := x.Entry; e != nil {
			f.options = e.Options
			f.options.Log = false
			if e.Action == filter.Negotiate {
				f.negotiates = meaning[v][e.Name]
			}
		}
		return f
	})
	for _, c := range found {
		x := changedFate{
			Direction: c.Direction.String(), From: c.From.String(), To: c.To.String(),
			Packets: c.Packets.Describe(maxLines), Example: c.Sample.String(),
		}
		switch from, to := c.From.negotiates, c.To.negotiates; {
		case to == "" && from != "":
			x.From += " (" + from + ")"
		case from == "" && to != "":
			x.To += " (" + to + ")"
		default:
			x.Negotiation = changed(means[from], means[to])
		}
		d.Packets = append(d.Packets, x)
	}
	if err != nil {
		return d, fmt.Errorf("compare the policies: %w", err)
	}
	return d, nil
}

// print writes the difference for people; nothing where there is none.
func (d difference) print(w io.Writer) error {
	var b strings.Builder
	for _, x := range d.Settings {
		fmt.Fprintf(&b, "%s\n", x)
	}
	for _, x := range d.Packets {
		fmt.Fprintf(&b, "%s: %s → %s\n", x.Direction, x.From, x.To)
		for _, n := range x.Negotiation {
			fmt.Fprintf(&b, "  %s\n", n)
		}
		for _, p := range x.Packets {
			fmt.Fprintf(&b, "  %s\n", strings.TrimPrefix(p, x.Direction+" "))
		}
		fmt.Fprintf(&b, "  for example %s\n", x.Example)
	}
	_, err := io.WriteString(w, b.String())
	return err
}
