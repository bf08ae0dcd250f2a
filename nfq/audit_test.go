package nfq

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"
	"time"
)

// An event is told at once, and then once a while with the number of those that
// were not; each kind for itself.
func TestAuditsAreRateLimited(t *testing.T) {
	var a audits
	now := time.Unix(1_000_000, 0)
	for _, x := range []struct {
		after time.Duration
		event event
		tell  bool
		quiet uint64
	}{
		{0, eventReplay, true, 0},
		{0, eventReplay, false, 0},
		{0, eventIntegrity, true, 0},
		{59 * time.Second, eventReplay, false, 0},
		{time.Second, eventReplay, true, 2},
		{time.Hour, eventReplay, true, 0},
		{0, eventIntegrity, true, 0},
	} {
		now = now.Add(x.after)
		if quiet, tell := a.happens(x.event, now); tell != x.tell || quiet != x.quiet {
			t.Errorf("event %d at %s: %v, %d before; want %v, %d", x.event, now, tell, quiet, x.tell, x.quiet)
		}
	}
	if n := a[eventReplay].all.Load(); n != 5 {
		t.Errorf("%d replays, want 5", n)
	}
}

// A flood costs the log a line, and the packet path no allocation.
func TestAuditFlood(t *testing.T) {
	var log bytes.Buffer
	now := time.Unix(1_000_000, 0)
	e := &Engine{cfg: Config{Log: slog.New(slog.NewTextHandler(&log, nil)), Now: func() time.Time { return now }}}
	header := make([]byte, 40)
	copy(header, []byte{0x60, 0x0a, 0xbc, 0xde})
	a := &arrival{protocol: protocolAH, header: header, buf: []byte{50, 4, 0, 0, 0xca, 0xfe, 0, 1, 0, 0, 0, 7}}
	if n := testing.AllocsPerRun(1000, func() { e.unknown(a) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
	now = now.Add(auditEvery * time.Second)
	e.unknown(a)
	lines := strings.Split(strings.TrimSpace(log.String()), "\n")
	if len(lines) != 2 || !strings.Contains(lines[1], "not-told-before=1000") {
		t.Fatalf("%d lines:\n%s", len(lines), log.String())
	}
	for _, want := range []string{"audit: a packet came for an SPI", "sa-protocol=AH", "spi=cafe0001", "sequence=7", "flow-label=703710", "peer=", "local="} {
		if !strings.Contains(lines[0], want) {
			t.Errorf("no %s in %s", want, lines[0])
		}
	}
	if got := e.Counters.InUnknownSPI.Load(); got != 1002 {
		t.Errorf("%d unknown SPIs counted", got)
	}
}
