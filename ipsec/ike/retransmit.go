package ike

import "time"

// Schedule says when a request is sent again, and when to give up
// (RFC 7296 section 2.4).
type Schedule struct {
	First  time.Duration // the wait after the first sending
	Factor float64       // by which each wait is longer than the one before
	Most   time.Duration // the longest wait
	Sends  int           // how often the request is sent in all
}

// The schedules in use. Patient gives up after 31 s, and Quick, for a peer
// that is likely to be gone, after 4 s.
var (
	Patient = Schedule{First: 500 * time.Millisecond, Factor: 1.8, Most: 10 * time.Second, Sends: 7}
	Quick   = Schedule{First: 500 * time.Millisecond, Factor: 1.5, Most: 2 * time.Second, Sends: 4}
)

// Wait returns how long to wait for the answer after the n-th sending, the
// first of which has n = 1; ok is false when there was a sending too many.
func (s Schedule) Wait(n int) (d time.Duration, ok bool) {
	if n < 1 || n > s.Sends {
		return 0, false
	}
	d = s.First
	for range n - 1 {
		d = min(time.Duration(float64(d)*s.Factor), s.Most)
	}
	return d, true
}
