package ike

import (
	"net/netip"
	"testing"
	"time"

	"github.com/ipsecfw/ipsecfw/ipsec"
)

// scripted is a machine whose events a test sees, and whose effects it makes.
type scripted struct {
	closer
	cfg      MachineConfig
	acquires []string
}

func (s *scripted) Handle(now time.Time, ev Event) ([]Effect, error) {
	if a, ok := ev.(Acquire); ok {
		s.acquires = append(s.acquires, a.Child.Name)
		return []Effect{Send{Local: s.cfg.Local, Remote: s.cfg.Remote, Data: make([]byte, 100)}}, nil
	}
	return s.closer.Handle(now, ev)
}

// renewing is a Manager with an IKE SA that stands and has two Child SAs.
type renewing struct {
	*flooded
	old  *entry
	made []*scripted
}

func newRenewing(t *testing.T) *renewing {
	r := &renewing{flooded: newFlooded()}
	r.cfg.Initiator = func(c MachineConfig) Machine {
		m := &scripted{cfg: c}
		r.made = append(r.made, m)
		return m
	}
	r.want("one", peer(1))
	r.empty()
	r.old = r.entry(t)
	r.up(r.old, 1)
	for i, rule := range []string{"one", "two"} {
		r.child(r.old, rule, ipsec.SPI(0x1000+i))
	}
	return r
}

// up establishes an entry. Its peer sits behind a NAT.
func (r *renewing) up(e *entry, n int) {
	r.carryOut(e, Established{Peer: PeerInfo{
		Local: netip.AddrPortFrom(here, 4500), Remote: netip.AddrPortFrom(peer(1), 20000), RemoteID: "b", SPIi: uint64(n), Since: r.now,
	}})
}

func (r *renewing) child(e *entry, rule string, in ipsec.SPI) {
	r.carryOut(e, InstallChild{SA: &ipsec.ChildSA{Policy: rule, InSPI: in}})
}

func (r *renewing) renewal(at time.Duration) Renew {
	x := Renew{Reason: "AUTH_LIFETIME", At: r.now.Add(at)}
	for _, rule := range []string{"one", "two"} {
		x.Children = append(x.Children, Acquire{Child: ChildPolicy{Name: rule}})
	}
	return x
}

func (r *renewing) alive(e *entry) bool { _, ok := r.entries[e]; return ok }

// linger lets pass what an IKE SA stays for that was renewed.
func (r *renewing) linger() {
	r.now = r.now.Add(lingering)
	r.ring()
}

// next is the entry of the machine that was made last.
func (r *renewing) next(t *testing.T) *entry {
	t.Helper()
	for e := range r.entries {
		if e.machine == Machine(r.made[len(r.made)-1]) {
			return e
		}
	}
	t.Fatal("the last machine is gone")
	return nil
}

// The new IKE SA asks for all Child SAs of the old one, where the peer is to be
// found now, and the old one goes when they stand, and not before.
func TestManagerRenew(t *testing.T) {
	r := newRenewing(t)
	r.old.info.Remote = netip.AddrPortFrom(peer(9), 20000) // its NAT got another address
	r.carryOut(r.old, r.renewal(time.Minute))
	r.carryOut(r.old, r.renewal(time.Minute)) // which is on its way
	if len(r.made) != 2 {
		t.Fatalf("%d machines, want 2", len(r.made))
	}
	m, n := r.made[1], r.next(t)
	if len(m.acquires) != 2 || m.acquires[0] != "one" || m.acquires[1] != "two" {
		t.Errorf("asked for %q", m.acquires)
	}
	if m.cfg.Remote != r.old.info.Remote || m.cfg.Local.Port() != 4500 || m.cfg.FirstContact() {
		t.Errorf("asked from %s at %s", m.cfg.Local, m.cfg.Remote)
	}
	if m.cfg.Ends != (Ends{here, peer(1)}) {
		t.Errorf("rules are chosen by %v", m.cfg.Ends)
	}
	if r.entryFor(here, peer(1)) != r.old {
		t.Error("what packets need waits for an IKE SA that does not stand yet")
	}
	r.up(n, 2)
	r.child(n, "one", 0x2000)
	if !r.alive(r.old) {
		t.Fatal("the old IKE SA went before all was there")
	}
	r.child(n, "two", 0x2001)
	if !r.alive(r.old) {
		t.Error("the old IKE SA went while packets may be under way")
	}
	r.linger()
	if r.alive(r.old) || !r.alive(n) || r.byIn[0x2001] != n || r.byIn[0x1000] != nil {
		t.Error("the old IKE SA should be gone, and the new one stand")
	}
	if len(r.failures) != 0 || len(r.PostMortemsNow()) != 0 {
		t.Errorf("failures %v", r.failures)
	}
}

// PostMortemsNow is PostMortems for a test that steps the Manager by hand.
func (f *flooded) PostMortemsNow() []PostMortem {
	return f.buried.of(func(*PostMortem) bool { return true })
}

// What the peer grants no more does not keep the old IKE SA.
func TestManagerRenewPartly(t *testing.T) {
	r := newRenewing(t)
	r.carryOut(r.old, r.renewal(time.Minute))
	n := r.next(t)
	r.up(n, 2)
	r.child(n, "one", 0x2000)
	r.carryOut(n, Failed{Policy: "two", Why: ErrSelectors})
	r.linger()
	if r.alive(r.old) || !r.alive(n) {
		t.Error("the old IKE SA should be gone")
	}
	if p := r.PostMortemsNow(); len(p) != 1 || p[0].Cause != CauseSelectors {
		t.Errorf("post-mortems %+v", p)
	}
}

// An attempt that fails is repeated after pauses that grow, until it is too
// late. The old IKE SA stays.
func TestManagerRenewAgain(t *testing.T) {
	r := newRenewing(t)
	r.carryOut(r.old, r.renewal(20*time.Second))
	began := r.now
	var at []time.Duration
	for len(r.made) < 20 {
		n := r.next(t)
		r.carryOut(n, Failed{Whole: true, Policy: "one", Why: ErrNoAnswer})
		r.carryOut(n, Closed{Reason: "no answer"})
		if !r.alive(r.old) || len(r.entries) != 1 {
			t.Fatalf("%d IKE SAs, want the old one", len(r.entries))
		}
		wait := r.clock.wait(r.now)
		if wait >= time.Hour {
			break
		}
		r.now = r.now.Add(wait)
		r.ring()
		at = append(at, r.now.Sub(began))
	}
	if len(at) != 4 || at[0] != time.Second || at[1] != 3*time.Second || at[2] != 7*time.Second || at[3] != 15*time.Second {
		t.Errorf("attempts after %v", at)
	}
	if r.halfOpen+r.begun != 0 {
		t.Errorf("%d are still counted", r.begun)
	}
}

// An IKE SA that ends while it is being renewed leaves the new one alone.
func TestManagerRenewEnds(t *testing.T) {
	r := newRenewing(t)
	r.carryOut(r.old, r.renewal(time.Minute))
	n := r.next(t)
	r.carryOut(r.old, Closed{Reason: "its time was over"})
	r.up(n, 2)
	r.child(n, "one", 0x2000)
	r.child(n, "two", 0x2001)
	if !r.alive(n) || len(r.entries) != 1 || len(r.byIn) != 2 {
		t.Errorf("%d IKE SAs", len(r.entries))
	}
}
