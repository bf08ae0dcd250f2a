package ike

import (
	"testing"
	"time"
)

func TestSchedule(t *testing.T) {
	for _, tt := range []struct {
		name     string
		s        Schedule
		min, max time.Duration // of all waits together
	}{
		{"patient", Patient, 25 * time.Second, 35 * time.Second},
		{"quick", Quick, 3 * time.Second, 5 * time.Second},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var sum, last time.Duration
			for n := 1; n <= tt.s.Sends; n++ {
				d, ok := tt.s.Wait(n)
				if !ok || d < last || d > tt.s.Most {
					t.Errorf("wait %d is %s, %v, after %s", n, d, ok, last)
				}
				sum += d
				last = d
			}
			if _, ok := tt.s.Wait(tt.s.Sends + 1); ok {
				t.Error("one sending too many is allowed")
			}
			if _, ok := tt.s.Wait(0); ok {
				t.Error("a wait before the first sending")
			}
			if sum < tt.min || sum > tt.max {
				t.Errorf("gives up after %s, want %s to %s", sum, tt.min, tt.max)
			}
		})
	}
}
