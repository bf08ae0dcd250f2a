package rules

import (
	"fmt"
	"strings"

	"github.com/ipsecfw/ipsecfw/filter"
)

// Bounds of a rate limit, in packets.
const (
	maxRate      = 1_000_000
	maxBurst     = 1_000_000
	defaultBurst = 5
)

const writeLimit = "limit: 10/second, or limit: {rate: 10/second, burst: 20}"

var rateUnits = map[string]filter.Unit{"second": filter.PerSecond, "minute": filter.PerMinute, "hour": filter.PerHour}

const ratePattern = `^[1-9][0-9]*/(second|minute|hour)$`

var limitKeys = table[filter.Limit]{
	{name: "rate", about: "packets in a second, minute or hour", write: "rate: 10/second", required: true,
		value: value[filter.Limit]{
			read:     func(r *reader, n *node, k keyed, l *filter.Limit) { r.readRate(n, k.name, l) },
			describe: func(*definitions) *schema { return pattern(ratePattern) },
		}},
	{name: "burst", about: "packets beyond the rate that pass at once; 5 if missing", write: "burst: 20",
		value: value[filter.Limit]{
			read: func(r *reader, n *node, k keyed, l *filter.Limit) {
				if v, ok := r.readNumber(n, k.name, 1, maxBurst); ok {
					l.Burst = uint32(v)
				}
			},
			describe: func(*definitions) *schema { return numbers(1, maxBurst) },
		}},
}

// limits is a rate of packets, or a mapping with a burst as well.
func limits[T any](of func(*T) *filter.Limit) value[T] {
	return value[T]{
		read: func(r *reader, n *node, k keyed, into *T) {
			l := of(into)
			l.Burst = defaultBurst
			if n.kind == mapping {
				limitKeys.read(r, n, quoted(k.name), l)
				return
			}
			r.readRate(n, k.name, l)
		},
		describe: func(d *definitions) *schema { return either(pattern(ratePattern), limitKeys.describe(d)) },
	}
}

func (r *reader) readRate(n *node, name string, into *filter.Limit) {
	const example = "10/second, 10/minute or 10/hour"
	s, ok := r.readScalar(n, name, name+": "+example)
	if !ok {
		return
	}
	count, unit, _ := strings.Cut(s, "/")
	v, err := number(count)
	per, known := rateUnits[unit]
	switch {
	case err != nil || !known:
		r.report(n.at, fmt.Sprintf("%q is no rate", s), "write packets in a span of time, as in "+example)
	case v < 1 || v > maxRate:
		r.report(n.at, fmt.Sprintf("the rate %q is out of bounds", s), fmt.Sprintf("write 1 to %d packets", maxRate))
	default:
		into.Packets, into.Per = uint32(v), per
	}
}

func printLimit(l filter.Limit) string {
	rate := fmt.Sprintf("%d/%s", l.Packets, l.Per)
	if l.Burst == defaultBurst {
		return rate
	}
	return fmt.Sprintf("{rate: %s, burst: %d}", rate, l.Burst)
}
