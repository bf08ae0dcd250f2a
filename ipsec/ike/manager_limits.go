package ike

import (
	"net/netip"
	"time"
)

// limits keep strangers from making us work, talk, or write logs, too much.
type limits struct {
	answers, unknown, warnings limiter
	begin                      bucket // IKE SAs that we begin
	failures                   bucket // lines in the log about those that failed
	full                       bucket // lines about what is refused for lack of room
	graves                     bucket // post-mortems of strangers
}

func newLimits() limits {
	return limits{
		answers: newLimiter(time.Second), unknown: newLimiter(time.Second), warnings: newLimiter(10 * time.Second),
		begin: bucket{rate: 200, most: 400}, failures: bucket{rate: 10, most: 100}, full: bucket{rate: 0.1, most: 1},
		graves: bucket{rate: 10, most: 100},
	}
}

// limiter allows one thing for each address in each interval.
type limiter struct {
	every time.Duration
	last  map[netip.Addr]time.Time
	swept time.Time // when last was rid of what is over
}

const maxLimited = 1024 // addresses that are remembered

func newLimiter(every time.Duration) limiter {
	return limiter{every: every, last: make(map[netip.Addr]time.Time)}
}

func (l *limiter) allow(a netip.Addr, now time.Time) bool {
	if t, ok := l.last[a]; ok && now.Sub(t) < l.every {
		return false
	}
	if len(l.last) >= maxLimited {
		if now.Sub(l.swept) < l.every { // a flood must not make us search each time
			return false
		}
		l.swept = now
		for x, t := range l.last {
			if now.Sub(t) >= l.every {
				delete(l.last, x)
			}
		}
		if len(l.last) >= maxLimited {
			return false
		}
	}
	l.last[a] = now
	return true
}

// bucket allows things at a rate, and some at once after a pause.
type bucket struct {
	rate float64 // for each second
	most float64 // at once
	used float64 // of most
	last time.Time
}

func (b *bucket) take(now time.Time) bool {
	if d := now.Sub(b.last); d > 0 {
		b.used = max(0, b.used-d.Seconds()*b.rate)
		b.last = now
	}
	if b.used+1 > b.most {
		return false
	}
	b.used++
	return true
}
