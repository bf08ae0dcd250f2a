package ike_test

import (
	"errors"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ipsecfw/ipsecfw/ipsec/ike"
	"github.com/ipsecfw/ipsecfw/ipsec/ike/iketest"
	"github.com/ipsecfw/ipsecfw/ipsec/ike/wire"
)

func impatient(peer netip.Addr, patience time.Duration) rules {
	r := psk(peer)
	r.patience = patience
	return r
}

// TestManagerPatience has a peer that runs no IKE: all flows learn that at the
// same moment, and again at once while the next attempt has to wait.
func TestManagerPatience(t *testing.T) {
	for _, tt := range []struct {
		name     string
		patience time.Duration
		fails    time.Duration // when
		sends    int           // in that time
	}{
		{"three seconds", 3 * time.Second, 3 * time.Second, 3},
		{"less than the first wait", 100 * time.Millisecond, 100 * time.Millisecond, 1},
		{"none of its own", 0, 30633 * time.Millisecond, ike.Patient.Sends},
		{"more than the schedule", time.Hour, 30633 * time.Millisecond, ike.Patient.Sends},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				net := iketest.NewNetwork(1, iketest.Faults{})
				a := start(t, net, addrA, impatient(addrB, tt.patience))
				a.acquire(addrB, "all")
				a.acquire(addrB, "other")
				pass(tt.fails - 10*time.Millisecond)
				if fs := a.sad.Failures(); len(fs) != 0 {
					t.Fatalf("failed too early: %v", fs)
				}
				pass(20 * time.Millisecond)
				fs := a.sad.Failures()
				if len(fs) != 2 || !errors.Is(fs[0], ike.ErrNoIKE) || !errors.Is(fs[1], ike.ErrNoIKE) || !errors.Is(fs[0], ike.ErrNoAnswer) {
					t.Fatalf("failures %v, want ErrNoIKE for both rules", fs)
				}
				if n := net.Sent(addrA); n != tt.sends {
					t.Errorf("%d messages, want %d", n, tt.sends)
				}
				a.acquire(addrB, "all")
				pass(500 * time.Millisecond)
				if fs := a.sad.Failures(); len(fs) != 3 || !errors.Is(fs[2], ike.ErrNoIKE) {
					t.Errorf("failures %v, want the last one told again", fs)
				}
				pass(500 * time.Millisecond)
				if n := net.Sent(addrA); n != tt.sends {
					t.Errorf("%d messages: the next attempt did not wait", n)
				}
				a.acquire(addrB, "all")
				pass(50 * time.Millisecond)
				if n := net.Sent(addrA); n != tt.sends+1 {
					t.Errorf("%d messages: no other attempt after a second", n)
				}
			})
		})
	}
}

// answering is a network with an end at B that answers as a test says.
type answering struct {
	*iketest.Network
	m      **ike.Manager
	answer func(h wire.Header, ps []wire.Payload) []wire.Payload // nil for silence
}

func (n answering) Send(local, remote netip.AddrPort, data []byte) error {
	h, ps, err := wire.Decode(data)
	if err != nil {
		return err
	}
	if out := n.answer(h, ps); out != nil {
		h.Response, h.Initiator = true, false
		if data, err = wire.Encode(h, out); err != nil {
			return err
		}
		(*n.m).HandleDatagram(local, remote, data)
	}
	return nil
}

// A peer that says anything speaks IKE, even if it says nothing of use and
// falls silent then.
func TestManagerSpeaksIKE(t *testing.T) {
	notify := func(k wire.NotifyType, data ...byte) []wire.Payload {
		return []wire.Payload{&wire.Notify{Kind: k, Data: data}}
	}
	for _, tt := range []struct {
		name   string
		answer []wire.Payload // to the first message only
		want   error
	}{
		{"a cookie", notify(wire.Cookie, 1, 2, 3), ike.ErrNoAnswer},
		{"another group", notify(wire.InvalidKEPayload, 0, byte(19)), ike.ErrNoAnswer},
		{"a group that was not offered", notify(wire.InvalidKEPayload, 0, 2), ike.ErrNoAnswer},
		{"a refusal", notify(wire.NoProposalChosen), ike.ErrNoProposal},
		{"an unknown error", notify(99), ike.ErrRefused},
		{"a status only", notify(wire.InitialContact), ike.ErrNoAnswer},
		{"a payload that is critical and unknown", []wire.Payload{&wire.Unknown{Kind: 200, Critical: true}}, ike.ErrNoAnswer},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var m *ike.Manager
				first := true
				net := answering{iketest.NewNetwork(1, iketest.Faults{}), &m, func(wire.Header, []wire.Payload) []wire.Payload {
					if !first {
						return nil
					}
					first = false
					return tt.answer
				}}
				a := start(t, net.Network, addrA, impatient(addrB, 3*time.Second), func(c *ike.ManagerConfig) { c.Transport = net })
				m = a.Manager
				a.acquire(addrB, "all")
				pass(40 * time.Second)
				fs := a.sad.Failures()
				if len(fs) != 1 || !errors.Is(fs[0], tt.want) || errors.Is(fs[0], ike.ErrNoIKE) {
					t.Errorf("failures %v, want %v, and not ErrNoIKE", fs, tt.want)
				}
			})
		})
	}
}

// A peer that falls silent after IKE_SA_INIT, or when an IKE SA stands, speaks
// IKE.
func TestManagerFallsSilent(t *testing.T) {
	for _, tt := range []struct {
		name string
		when time.Duration
	}{
		{"before it answers IKE_AUTH", 25 * time.Millisecond},
		{"with an IKE SA", time.Second},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				net := iketest.NewNetwork(1, iketest.Faults{Delay: 10 * time.Millisecond})
				a := start(t, net, addrA, impatient(addrB, 100*time.Millisecond))
				start(t, net, addrB, psk(addrA))
				a.acquire(addrB, "all")
				pass(tt.when)
				net.SetFaults(iketest.Faults{Loss: 1})
				a.acquire(addrB, "other")
				pass(time.Minute)
				fs := a.sad.Failures()
				if len(fs) == 0 {
					t.Fatal("nothing failed")
				}
				for _, err := range fs {
					if !errors.Is(err, ike.ErrNoAnswer) || errors.Is(err, ike.ErrNoIKE) {
						t.Errorf("failed with %v, want ErrNoAnswer, and not ErrNoIKE", err)
					}
				}
			})
		})
	}
}

// A peer that does not answer, but has begun an IKE SA of its own meanwhile,
// speaks IKE: what waits gets its Child SA there.
func TestManagerSilentPeerBegins(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		net := iketest.NewNetwork(1, iketest.Faults{Loss: 1})
		a, b := start(t, net, addrA, impatient(addrB, 3*time.Second)), start(t, net, addrB, psk(addrA))
		a.acquire(addrB, "other")
		pass(2 * time.Second)
		net.SetFaults(iketest.Faults{})
		b.acquire(addrA, "all")
		pass(100 * time.Millisecond)
		if shared(a, b) != 1 {
			t.Fatalf("b did not connect: %v", b.sad.Failures())
		}
		net.Attach(addrB, nil) // nor does b hear our last attempts
		pass(850 * time.Millisecond)
		net.Attach(addrB, b.Manager)
		pass(time.Second)
		if n := shared(a, b); n != 2 || len(a.sad.Failures()) != 0 {
			t.Errorf("%d Child SAs, want 2; failures %v", n, a.sad.Failures())
		}
	})
}

// A peer that could not be asked, as this host has no route to it, may speak
// IKE.
func TestManagerCannotAsk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		net := iketest.NewNetwork(1, iketest.Faults{})
		a := start(t, net, addrA, impatient(addrB, 3*time.Second), func(c *ike.ManagerConfig) { c.Transport = unreachable{} })
		a.acquire(addrB, "all")
		pass(4 * time.Second)
		if fs := a.sad.Failures(); len(fs) != 1 || !errors.Is(fs[0], ike.ErrNoAnswer) || errors.Is(fs[0], ike.ErrNoIKE) {
			t.Errorf("failures %v, want ErrNoAnswer, and not ErrNoIKE", fs)
		}
	})
}

// unreachable is the transport of a host without a network.
type unreachable struct{}

func (unreachable) Send(_, _ netip.AddrPort, _ []byte) error {
	return errors.New("network is unreachable")
}
