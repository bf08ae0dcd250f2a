package surroundings

import (
	"bytes"
	"errors"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestLearn(t *testing.T) {
	silent := errors.New("silent")
	ok := func(s string, ttl time.Duration) answer { return answer{addrs: addresses(s), ttl: ttl} }
	failed := answer{err: silent}
	tests := []struct {
		name     string
		before   string
		failures int
		found    found
		want     string
		wait     time.Duration
		err      error
	}{
		{"both families", "192.0.2.9", 3, found{ok("192.0.2.1", 40*time.Second), ok("2001:db8::1", 30*time.Second)}, "192.0.2.1 2001:db8::1", 30 * time.Second, nil},
		{"a short TTL", "", 0, found{ok("192.0.2.1", 0), ok("", 24*time.Hour)}, "192.0.2.1", 5 * time.Second, nil},
		{"a long TTL", "", 0, found{ok("192.0.2.1", 24*time.Hour), ok("", 24*time.Hour)}, "192.0.2.1", time.Hour, nil},
		{"a family that goes", "192.0.2.1 2001:db8::1", 0, found{ok("", time.Minute), ok("2001:db8::2", time.Minute)}, "2001:db8::2", time.Minute, nil},
		{"a family that fails", "192.0.2.1 2001:db8::1", 0, found{ok("192.0.2.2", time.Minute), failed}, "192.0.2.2 2001:db8::1", 5 * time.Second, silent},
		{"a family that fails for long", "192.0.2.1 2001:db8::1", 20, found{ok("192.0.2.2", time.Minute), failed}, "192.0.2.2 2001:db8::1", time.Minute, silent},
		{"both fail", "192.0.2.1", 1, found{failed, failed}, "192.0.2.1", 10 * time.Second, silent},
		{"both fail for long", "192.0.2.1", 1000, found{failed, failed}, "192.0.2.1", 5 * time.Minute, silent},
		{"no such name", "192.0.2.1", 0, found{{err: ErrNoSuchName}, {err: ErrNoSuchName}}, "192.0.2.1", 5 * time.Second, ErrNoSuchName},
		{"no address any more", "192.0.2.1", 0, found{ok("", time.Hour), ok("", time.Hour)}, "192.0.2.1", 5 * time.Second, ErrNoAddress},
		{"never an address", "", 0, found{ok("", time.Hour), failed}, "", 5 * time.Second, silent},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			n := name{failures: tt.failures}
			n.remember(addresses(tt.before))
			err := n.learn(tt.found, written, usual)
			if !errors.Is(err, tt.err) || (err == nil) != (n.failures == 0) {
				t.Errorf("error %v, want %v; %d failures", err, tt.err, n.failures)
			}
			if got := n.addresses("a.example", slog.New(slog.DiscardHandler)); !slices.Equal(got, addresses(tt.want)) {
				t.Errorf("addresses %v, want %s", got, tt.want)
			}
			if got := n.due.Sub(written); got != tt.wait {
				t.Errorf("asks again in %v, want %v", got, tt.wait)
			}
		})
	}
}

func TestTooManyAddresses(t *testing.T) {
	var many []netip.Addr
	for i := range 200 {
		many = append(many, netip.AddrFrom4([4]byte{192, 0, 2, byte(200 - i)}))
	}
	var log bytes.Buffer
	var n name
	n.remember(many)
	for range 2 {
		got := n.addresses("a.example", slog.New(slog.NewTextHandler(&log, nil)))
		if len(got) != maxAddress || got[0] != netip.MustParseAddr("192.0.2.1") || got[63] != netip.MustParseAddr("192.0.2.64") {
			t.Errorf("kept are %v", got)
		}
	}
	if s := log.String(); strings.Count(s, "too many") != 1 || !strings.Contains(s, "a.example") || !strings.Contains(s, "addresses=200") {
		t.Errorf("logged: %s", s)
	}
}
