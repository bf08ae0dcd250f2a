package qemu

import (
	"context"
	"os"
	"testing"
	"time"
)

func TestMain(m *testing.M) {
	if Inside() {
		Main(m.Run)
		return
	}
	os.Exit(m.Run())
}

// must ends the test if a step fails that others need.
func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// within is a context that ends before the patience of the test does.
func within(t *testing.T, d time.Duration) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), d)
	t.Cleanup(cancel)
	return ctx
}

// await asks for a condition until it holds, and reports whether it did in
// time. It is for what sends no event.
func await(d time.Duration, holds func() bool) bool {
	deadline := time.After(d)
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for !holds() {
		select {
		case <-deadline:
			return false
		case <-tick.C:
		}
	}
	return true
}
