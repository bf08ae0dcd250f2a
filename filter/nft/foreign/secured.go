package foreign

import (
	"golang.org/x/sys/unix"

	"github.com/ipsecfw/ipsecfw/filter"
)

// Engine is the device by which packets that were secured come into the host's
// stack, and the mark that they have.
type Engine struct {
	Device Interface
	Mark   uint32
}

// Needs returns warnings of what IKE and ESP need with a peer that is not known
// otherwise, as Warnings does with the peers of a policy.
func Needs(t Tables, h Host) []Warning {
	w := warner{tables: t, host: h, left: maxWork}
	for _, v6 := range []bool{false, true} {
		w.needs(v6, documentation[v6][0])
	}
	return w.warnings
}

// Secured tries samples, as Warnings does, of each filter that negotiates: what
// it secures leaves the host, or comes to be passed on, in clear as other
// tables see it, and comes in by the engine's device.
func Secured(s *filter.SPD, t Tables, h Host, e Engine) []Warning {
	w := warner{spd: s, tables: t, host: h, engine: e, left: maxWork}
	w.filters(filter.Negotiate)
	return w.warnings
}

// Translations returns a warning for each filter that negotiates of whose
// forwarded packets a sample is given another source on its way out by the
// interface of the default route. The engine sees packets after that, with an
// address that its SA is not for.
func Translations(s *filter.SPD, t Tables, h Host) []Warning {
	w := warner{spd: s, tables: t, host: h, left: maxWork}
	seen := map[Where]bool{}
	for n, e := range s.Entries() {
		if n > maxFilters || len(w.warnings) >= maxWarnings {
			break
		}
		if e.Action != filter.Negotiate {
			continue
		}
		for _, mirror := range []bool{false, true} {
			half, ok := e.Half(filter.Forward, mirror)
			if !ok {
				continue
			}
			for _, v6 := range []bool{false, true} {
				p, ok := w.sample(e, &half, filter.Forward, mirror, v6)
				if !ok {
					continue
				}
				p.State = filter.StateNew // only such packets are translated
				p.Out = w.link(half.Connection)
				if at := t.translates(p); at != (Where{}) && !seen[at] {
					seen[at] = true
					w.warnings = append(w.warnings, Warning{Name: e.Name, List: e.List, Index: e.Index, Translated: true, Direction: filter.Forward, Probe: p, Where: at})
				}
			}
		}
	}
	return w.warnings
}

// translates returns the place that surely gives a forwarded probe another
// source as it leaves; zero for none.
func (t Tables) translates(p Probe) Where {
	steps := maxSteps
	j := newJudge(filter.Forward, p, &steps)
	t.walk(j, unix.NF_INET_POST_ROUTING)
	return j.masked
}

// arrives reports whether a packet of a peer that was secured is dropped on its
// way from the device. Of one that is passed on it is not known by which
// interface it leaves: it must be dropped before all of them.
func (w *warner) arrives(d filter.Direction, p Probe) (Probe, Where, bool) {
	p.In, p.Mark = w.engine.Device, w.engine.Mark
	if d == filter.Inbound {
		v, at := w.judge(d, p)
		return p, at, v == Drops
	}
	ways := w.host.Interfaces[:min(len(w.host.Interfaces), maxInterfaces)]
	var at Where
	for _, p.Out = range ways {
		v, where := w.judge(d, p)
		if v != Drops {
			return p, where, false
		}
		at = where
	}
	return p, at, at != Where{}
}
