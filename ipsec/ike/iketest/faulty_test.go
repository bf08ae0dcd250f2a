package iketest_test

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"github.com/ipsecfw/ipsecfw/ipsec"
	"github.com/ipsecfw/ipsecfw/ipsec/ike"
	"github.com/ipsecfw/ipsecfw/ipsec/ike/iketest"
	"github.com/ipsecfw/ipsecfw/ipsec/ike/wire"
)

// faulty is a machine with a fault.
type faulty struct {
	ike.Machine
	effects  func(ike.Effect) ike.Effect // nil for none in its place
	deadline func(time.Time, bool) (time.Time, bool)
}

func (f *faulty) Handle(now time.Time, ev ike.Event) ([]ike.Effect, error) {
	effects, err := f.Machine.Handle(now, ev)
	var out []ike.Effect
	for _, e := range effects {
		if f.effects != nil {
			e = f.effects(e)
		}
		if e != nil {
			out = append(out, e)
		}
	}
	return out, err
}

func (f *faulty) Deadline() (time.Time, bool) {
	at, ok := f.Machine.Deadline()
	if f.deadline != nil {
		return f.deadline(at, ok)
	}
	return at, ok
}

// drop loses one kind of effect.
func drop[E ike.Effect](e ike.Effect) ike.Effect {
	if _, ok := e.(E); ok {
		return nil
	}
	return e
}

// protected calls f with the messages in SK payloads that are sent.
func protected(e ike.Effect, f func(h wire.Header, data []byte)) ike.Effect {
	s, ok := e.(ike.Send)
	if !ok {
		return e
	}
	s.Data = bytes.Clone(s.Data)
	if h, err := wire.ParseHeader(s.Data); err == nil && h.FirstPayload == wire.TypeEncrypted {
		f(h, s.Data)
	}
	return s
}

// TestFaults has machines with faults, each of which some seed must find.
func TestFaults(t *testing.T) {
	for _, tt := range []struct {
		name, want string
		fault      func() faulty
	}{
		{"another message when it is sent again", "two messages with the number", func() faulty {
			n := byte(0)
			return faulty{effects: func(e ike.Effect) ike.Effect {
				return protected(e, func(_ wire.Header, data []byte) { n++; data[len(data)-1] ^= n })
			}}
		}},
		{"the IV of the message before", "twice with one key", func() faulty {
			return faulty{effects: func(e ike.Effect) ike.Effect {
				return protected(e, func(_ wire.Header, data []byte) { clear(data[32:40]) })
			}}
		}},
		{"more requests than the window has room for", "to a window of", func() faulty {
			return faulty{effects: func(e ike.Effect) ike.Effect {
				return protected(e, func(h wire.Header, data []byte) {
					if !h.Response && h.MessageID > 1 {
						data[21] = 1
					}
				})
			}}
		}},
		{"the same keys for all Child SAs", "have the same key", func() faulty {
			return faulty{effects: func(e ike.Effect) ike.Effect {
				if i, ok := e.(ike.InstallChild); ok {
					sa := *i.SA
					sa.InKeys.Encr, sa.OutKeys.Encr = bytes.Repeat([]byte{1}, 36), bytes.Repeat([]byte{1}, 36)
					i.SA = &sa
					return i
				}
				return e
			}}
		}},
		{"other keys at each end", "does not open", func() faulty {
			return faulty{effects: func(e ike.Effect) ike.Effect {
				if i, ok := e.(ike.InstallChild); ok {
					i.SA.InKeys.Encr[0] ^= 1
				}
				return e
			}}
		}},
		{"a Child SA that is not removed", "outlives its IKE SA", func() faulty { return faulty{effects: drop[ike.RemoveChild]} }},
		{"a Child SA that is not installed", "nothing arrives", func() faulty { return faulty{effects: drop[ike.InstallChild]} }},
		{"a Child SA for another rule", "do not agree", func() faulty {
			return faulty{effects: func(e ike.Effect) ike.Effect {
				if i, ok := e.(ike.InstallChild); ok && !i.Standby {
					i.SA.Remote = append(i.SA.Remote, ipsec.TrafficSelector{})
				}
				return e
			}}
		}},
		{"an end that is not told", "left at the end", func() faulty { return faulty{effects: drop[ike.Closed]} }},
		{"a deadline that does not move", "steps without end", func() faulty {
			return faulty{deadline: func(at time.Time, ok bool) (time.Time, bool) { return time.Time{}, ok }}
		}},
		{"no deadline", "left at the end", func() faulty {
			return faulty{deadline: func(at time.Time, _ bool) (time.Time, bool) { return at, false }}
		}},
		{"a panic", "panic: of mine", func() faulty {
			return faulty{effects: func(e ike.Effect) ike.Effect { panic("of mine") }}
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			broken := func(build func(ike.MachineConfig) ike.Machine) func(ike.MachineConfig) ike.Machine {
				return func(c ike.MachineConfig) ike.Machine {
					f := tt.fault()
					f.Machine = build(c)
					return &f
				}
			}
			m := iketest.Machines{Initiator: broken(machines.Initiator), Responder: broken(machines.Responder)}
			for s := range uint64(20) {
				if err := iketest.Run(s, m, nil); err != nil && strings.Contains(err.Error(), tt.want) {
					return
				}
			}
			t.Errorf("no seed says %q", tt.want)
		})
	}
}
