package test

import (
	"testing"
	"time"
)

// A peer that dies under traffic is known as dead soon, with the settings that
// there are by default, and is spoken to again once it is back.
func TestDeadPeer(t *testing.T) {
	t.Parallel() // it waits most of the time
	p := newTunnelPeer(t)
	conn := p.connection()
	p.c.connect(t, conn)
	p.d.apply(t, tunnelPolicy(withPSK))
	pulse := startPulseFrom(t, p.server, serverInner, workstationInner+":7")
	pulse.beats(t, 10*time.Second)
	p.c.kill()
	died := time.Now()
	before := p.d.sas(t)
	if len(before) != 1 {
		t.Fatalf("the SAs are %+v", before)
	}
	eventually(t, 20*time.Second, "the dead peer's SAs go", func() bool {
		return p.d.says(t, "Child SA removed", "in="+before[0].InSPI)
	})
	t.Logf("the SAs were gone after %v", time.Since(died))

	p.c.start(t, p.workstation)
	back := time.Now()
	pulse.beats(t, 20*time.Second)
	t.Logf("the datagrams came back after %v", time.Since(back))
	agreeing(t, p)
}

// A peer that is there again before anybody has missed it: if it begins, its
// INITIAL_CONTACT ends the old SAs at once, and if it does not, silence does.
func TestPeerRestarts(t *testing.T) {
	t.Parallel()
	p := newTunnelPeer(t)
	p.c.connect(t, p.connection())
	p.d.apply(t, tunnelPolicy(withPSK))
	pulse := startPulseFrom(t, p.server, serverInner, workstationInner+":7")
	for _, begins := range []bool{true, false} {
		pulse.beats(t, 10*time.Second)
		// An IKE SA that the peer begins sooner might be one of two that both began at once.
		eventually(t, 10*time.Second, "the IKE SA has stood for a while", func() bool { return p.d.ikeSAs(t)[0].AgeSeconds > 3 })
		old := p.d.ikeSAs(t)
		p.c.kill()
		p.c.start(t, p.workstation)
		back := time.Now()
		patience := 20 * time.Second
		if begins {
			p.c.initiate(t, "inner")
			patience = 2 * time.Second
		}
		pulse.beats(t, patience)
		t.Logf("peer begins: %v: the datagrams came back after %v", begins, time.Since(back))
		agreeing(t, p)
		if now := p.d.ikeSAs(t); len(old) != 1 || len(now) != 1 || now[0].SPIi == old[0].SPIi {
			t.Errorf("the IKE SAs were %+v, and are %+v", old, now)
		}
	}
}

// agreeing fails the test unless both ends have one pair of SAs, and the same,
// whatever is on its way.
func agreeing(t *testing.T, p *tunnelPeer) {
	t.Helper()
	eventually(t, 5*time.Second, "both ends have one pair of SAs, and the same", func() bool {
		ours, theirs := p.d.sas(t), p.c.children(t)
		return len(ours) == 1 && len(theirs) == 1 && ours[0].InSPI == theirs[0]["spi-out"] && ours[0].OutSPI == theirs[0]["spi-in"]
	})
}
