package ikev2

import (
	"encoding/binary"
	"testing"
	"time"

	"github.com/ipsecfw/ipsecfw/ipsec/ike"
	"github.com/ipsecfw/ipsecfw/ipsec/ike/iketest"
	"github.com/ipsecfw/ipsecfw/ipsec/ike/wire"
)

// renewals gives an event to a machine, and returns what it wants renewed. It
// speaks to nobody.
func renewals(t *testing.T, m *SA, now time.Time, ev ike.Event) (out []ike.Renew, closing bool) {
	t.Helper()
	effects, err := m.Handle(now, ev)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range effects {
		if r, ok := e.(ike.Renew); ok {
			out = append(out, r)
		}
	}
	return out, m.State() != Established
}

// life ticks a machine alone, whose peer is thought to live, until it ends.
func life(t *testing.T, m *SA, now time.Time, d time.Duration) (renewed []ike.Renew, at []time.Time, ended time.Time) {
	t.Helper()
	end := now.Add(d)
	for {
		next, ok := m.Deadline()
		if !ok || next.After(end) {
			return renewed, at, ended
		}
		m.heard = next // the peer speaks all the time
		r, closing := renewals(t, m, next, ike.Tick{})
		for range r {
			at = append(at, next)
		}
		renewed = append(renewed, r...)
		if closing {
			return renewed, at, next
		}
	}
}

// TestReauth has the times at which the peers authenticate anew: the one who
// began the IKE SA makes another before its end, and each of them ends it then.
func TestReauth(t *testing.T) {
	hour := func(h *iketest.Host) { h.Policy.Reauth = time.Hour }
	for _, tt := range []struct {
		name        string
		change      func(h *iketest.Host)
		set         func(a *SA) // behind its back, when it is established
		renew       bool
		least, most time.Duration // when it is renewed
		end         time.Duration
	}{
		{"by policy", hour, nil, true, 51 * time.Minute, 57*time.Minute + 30*time.Second, time.Hour},
		{"never", nil, nil, false, 0, 0, 0},
		{"AUTH_LIFETIME comes sooner", hour, func(a *SA) { a.setAuthLifetime(10 * time.Minute) }, true, 8*time.Minute + 30*time.Second, 9*time.Minute + 30*time.Second, 10 * time.Minute},
		{"AUTH_LIFETIME comes later", hour, func(a *SA) { a.setAuthLifetime(2 * time.Hour) }, true, 51 * time.Minute, 57*time.Minute + 30*time.Second, time.Hour},
		{"AUTH_LIFETIME of nothing", hour, func(a *SA) { a.peer.Since = a.now.Add(-time.Hour); a.setAuthLifetime(0) }, true, 0, 0, time.Minute},
		{"AUTH_LIFETIME of nothing from the beginning", hour, func(a *SA) { a.setAuthLifetime(0) }, true, time.Minute, time.Minute, 2 * time.Minute},
		{"certificate ends", nil, func(a *SA) { a.proof.Until = a.now.Add(30 * 24 * time.Hour); a.scheduleReauth() }, true, 30*24*time.Hour - 10*time.Minute, 30*24*time.Hour - 9*time.Minute, 30 * 24 * time.Hour},
		{"certificate ends at once", nil, func(a *SA) { a.proof.Until = a.now.Add(20 * time.Second); a.scheduleReauth() }, false, 0, 0, 20 * time.Second},
	} {
		t.Run(tt.name, func(t *testing.T) {
			change := tt.change
			if change == nil {
				change = func(*iketest.Host) {}
			}
			s := newSteps(t, change)
			a, now := s.machine(s.a), s.machine(s.a).peer.Since
			a.now = now
			if tt.set != nil {
				tt.set(a)
			}
			renewed, at, ended := life(t, a, now, 31*24*time.Hour)
			if tt.renew != (len(renewed) == 1) {
				t.Fatalf("renewed %d times", len(renewed))
			}
			if tt.renew {
				r := renewed[0]
				if d := at[0].Sub(now); d < tt.least || d > tt.most {
					t.Errorf("renewed after %s, want %s to %s", d, tt.least, tt.most)
				}
				if len(r.Children) != 1 || r.Children[0].Child.Name != "tunnel" || r.Children[0].Local != a.cfg.Policies.Child(a.local.Addr(), a.remote.Addr(), nil, nil, false)[0].Local[0] || !r.At.Equal(now.Add(tt.end)) || r.Reason == "" {
					t.Errorf("renew %+v", r)
				}
			}
			if tt.end == 0 && !ended.IsZero() || tt.end != 0 && ended.Sub(now) != tt.end {
				t.Errorf("ended after %s, want %s", ended.Sub(now), tt.end)
			}
		})
	}
}

// TestReauthResponder has a responder whose peer does not authenticate anew: it
// has been told, and in the end the IKE SA is closed (RFC 4478 section 3).
func TestReauthResponder(t *testing.T) {
	s := newSteps(t, func(h *iketest.Host) {
		if h.Addr.String() == "10.0.0.2" {
			h.Policy.Reauth = time.Hour
		}
	})
	a, b := s.machine(s.a), s.machine(s.b)
	if d := a.reauth.end.Sub(a.peer.Since); d != time.Hour || !a.peer.Renew.Equal(a.reauth.end) {
		t.Errorf("a was told of %s, %s", d, a.peer.Renew)
	}
	renewed, _, ended := life(t, b, s.sim.Now, 2*time.Hour)
	if len(renewed) != 0 || ended.Sub(b.peer.Since) != time.Hour {
		t.Errorf("renewed %d times, ended after %s", len(renewed), ended.Sub(b.peer.Since))
	}
}

// TestAuthLifetimeLater has a responder that changes its mind, which only a
// responder may.
//
//	                          <-- HDR, SK {N(AUTH_LIFETIME)}
//	HDR, SK {} -->
func TestAuthLifetimeLater(t *testing.T) {
	for _, tt := range []struct {
		name string
		by   func(s *steps) (says, hears *iketest.Host)
		want bool
	}{
		{"by the responder", func(s *steps) (*iketest.Host, *iketest.Host) { return s.b, s.a }, true},
		{"by the initiator", func(s *steps) (*iketest.Host, *iketest.Host) { return s.a, s.b }, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := newSteps(t)
			says, hears := tt.by(s)
			s.ask(says, wire.Informational, &wire.Notify{Kind: wire.AuthLifetime, Data: binary.BigEndian.AppendUint32(nil, 600)})
			s.exchange(says, "INFORMATIONAL {N(AUTH_LIFETIME)}", emptyResp)
			s.settled(1)
			m := s.machine(hears)
			if got := m.reauth.end.Equal(s.sim.Now.Add(10 * time.Minute)); got != tt.want {
				t.Errorf("ends %s", m.reauth.end)
			}
			if told := len(hears.Changed) == 1 && hears.Changed[0].Peer.Renew.Equal(m.reauth.end); told != tt.want {
				t.Errorf("changed %+v", hears.Changed)
			}
		})
	}
}

// TestRenewOnce has several reasons to authenticate anew.
func TestRenewOnce(t *testing.T) {
	s := newSteps(t, func(h *iketest.Host) { h.Policy.Reauth = time.Hour })
	a := s.machine(s.a)
	a.now = s.sim.Now
	a.renewAuth("one", time.Time{})
	a.renewAuth("another", time.Time{})
	n := 0
	for _, e := range a.effects {
		if r, ok := e.(ike.Renew); ok {
			n++
			if r.Reason != "one" || !r.At.Equal(s.sim.Now.Add(maxLead)) {
				t.Errorf("%+v", r)
			}
		}
	}
	a.setAuthLifetime(time.Minute)
	if renewed, _, ended := life(t, a, s.sim.Now, time.Hour); n != 1 || len(renewed) != 0 || ended.Sub(s.sim.Now) != time.Minute {
		t.Errorf("renewed %d and %d times, ended after %s", n, len(renewed), ended.Sub(s.sim.Now))
	}
}
