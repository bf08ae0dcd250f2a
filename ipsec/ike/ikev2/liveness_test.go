package ikev2

import (
	"testing"
	"time"

	"github.com/ipsecfw/ipsecfw/ipsec"
	"github.com/ipsecfw/ipsecfw/ipsec/ike"
)

// counters is the packets of a data path that a test makes up.
type counters struct{ received, sent uint64 }

func (c *counters) of(ipsec.SPI) (received, sent uint64) { return c.received, c.sent }

// watched returns a pair whose a looks at packets, after the beginning.
func watched(t *testing.T) (p *pair, m *SA, c *counters) {
	t.Helper()
	p, c = newPair(), new(counters)
	p.b.Policy.Liveness = 24 * time.Hour
	cfg := p.a.Config(p.b.Addr)
	cfg.Traffic = c.of
	m = NewInitiator(cfg)
	p.acquire(t, m, tunnel())
	p.Run(time.Second)
	if len(p.a.Alive()) != 1 {
		t.Fatalf("not connected: %v", p.a.Failed)
	}
	return p, m, c
}

// flow lets packets come and go once a second.
func (p *pair) flow(c *counters, seconds int, received, sent uint64) {
	for range seconds {
		c.received += received
		c.sent += sent
		p.Run(time.Second)
	}
}

func TestTraffic(t *testing.T) {
	for _, tt := range []struct {
		name           string
		received, sent uint64
		least, most    int // questions in a minute
	}{
		{"both ways", 1, 1, 0, 0},
		{"only what comes", 1, 0, 0, 0},
		{"nothing", 0, 0, 1, 2},
		{"only what leaves", 0, 1, 5, 12},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p, _, c := watched(t)
			before := len(p.a.Sent)
			p.flow(c, 60, tt.received, tt.sent)
			if n := len(p.a.Sent) - before; n < tt.least || n > tt.most {
				t.Errorf("%d questions in a minute, want %d to %d", n, tt.least, tt.most)
			}
			if len(p.a.Alive()) != 1 {
				t.Error("a lost its SA")
			}
		})
	}
}

// TestDeadPeer has the peer die, whatever had been said before. The time is
// that after the first packet that is not answered.
func TestDeadPeer(t *testing.T) {
	for _, tt := range []struct {
		name        string
		before      func(p *pair, c *counters)
		sent        uint64
		least, most time.Duration
	}{
		{"under traffic", func(p *pair, c *counters) { p.flow(c, 40, 3, 2) }, 5, 9 * time.Second, 15 * time.Second},
		{"traffic begins anew", func(p *pair, _ *counters) { p.Run(10 * time.Minute) }, 1, 9 * time.Second, 15 * time.Second},
		{"while it is asked for want of traffic", func(p *pair, c *counters) {
			p.Faults.Loss = 1
			p.Run(35 * time.Second)
		}, 1, 4 * time.Second, 15 * time.Second},
		{"without traffic", func(*pair, *counters) {}, 0, 55 * time.Second, 65 * time.Second},
	} {
		t.Run(tt.name, func(t *testing.T) {
			for phase := range time.Duration(7) {
				p, _, c := watched(t)
				p.Run(phase * 900 * time.Millisecond)
				tt.before(p, c)
				if len(p.a.Machines) != 1 {
					t.Fatal("dead before its time")
				}
				p.Faults.Loss = 1
				dead := p.Now
				for len(p.a.Machines) > 0 && p.Now.Sub(dead) < 2*time.Minute {
					p.flow(c, 1, 0, tt.sent)
				}
				if d := p.Now.Sub(dead); d < tt.least || d > tt.most || len(p.a.Alive()) != 0 {
					t.Errorf("phase %d: known after %s, want %s to %s", phase, d, tt.least, tt.most)
				}
			}
		})
	}
}

// TestLooks has a machine at rest look at packets now and then, and not more.
func TestLooks(t *testing.T) {
	p, m, _ := watched(t)
	looks := 0
	m.cfg.Traffic = func(ipsec.SPI) (uint64, uint64) { looks++; return 0, 0 }
	p.Run(time.Hour)
	if looks < 700 || looks > 730 {
		t.Errorf("%d looks in an hour, want one in 5 s", looks)
	}
	if err := p.a.Do(m, ike.DeleteChild{InSPI: p.a.Alive()[0]}); err != nil {
		t.Fatal(err)
	}
	looks = 0
	p.Run(time.Hour)
	if looks != 0 {
		t.Errorf("%d looks without a Child SA", looks)
	}
}
