package main

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/ipsecfw/ipsecfw/ipsec"
	"github.com/ipsecfw/ipsecfw/ipsec/ike"
	"github.com/ipsecfw/ipsecfw/ipsec/ike/ikev2"
)

// manager is the key exchange of a host, and a data path that only counts.
type manager struct {
	*ike.Manager
	rules   managerRules
	nextSPI atomic.Uint32
	// stands has nil for each first Child SA of an IKE SA, and else why there
	// is none. What nobody has room for is lost.
	stands  chan error
	rekeyed func() // is told of each Child SA that replaces another; or nil
}

// managerRules are the same for all peers.
type managerRules struct {
	policy ike.Policy
	child  ike.ChildPolicy
}

// newRules returns what two hosts agree on: all their packets to each other,
// by AES-256-GCM.
func newRules(policy ike.Policy) managerRules {
	all := []ipsec.TrafficSelector{ipsec.SelectPrefix(netip.MustParsePrefix("10.0.0.0/8"), 0, 0, 0xffff)}
	return managerRules{policy, ike.ChildPolicy{
		Name: "all", Mode: ipsec.Transport, Local: all, Remote: all, Auth: policy.Auth,
		Proposals: []ipsec.Proposal{{Protocol: ipsec.ProtoESP, Transforms: []ipsec.Transform{
			{Type: ipsec.TypeEncr, ID: ipsec.EncrAESGCM16, KeyBits: 256}, {Type: ipsec.TypeESN, ID: ipsec.ESNNo},
		}}},
	}}
}

// Peer implements ike.Policies.
func (r managerRules) Peer(_, _ netip.Addr) (ike.Policy, bool) { return r.policy, true }

// Child implements ike.Policies.
func (r managerRules) Child(_, _ netip.Addr, _, _ []ipsec.TrafficSelector, _ bool) []ike.ChildPolicy {
	return []ike.ChildPolicy{r.child}
}

// newManager makes a manager for so many IKE SAs, which Run runs.
func newManager(t ike.Transport, r managerRules, n int, keys func(ike.Secrets)) *manager {
	m := &manager{rules: r, stands: make(chan error, n)}
	m.Manager = ike.NewManager(ike.ManagerConfig{
		Policies: r, Transport: t, DataPath: m, KeyLog: keys,
		Initiator: func(c ike.MachineConfig) ike.Machine { return ikev2.NewInitiator(c) },
		Responder: func(c ike.MachineConfig) ike.Machine { return ikev2.NewResponder(c) },
	})
	return m
}

// begin begins an IKE SA.
func (m *manager) begin(local, remote netip.Addr) {
	one := func(a netip.Addr) ipsec.TrafficSelector {
		return ipsec.SelectPrefix(netip.PrefixFrom(a, a.BitLen()), 0, 0, 0xffff)
	}
	m.Acquire(local, remote, m.rules.child, one(local), one(remote))
}

func (m *manager) tell(err error) {
	select {
	case m.stands <- err:
	default:
	}
}

// NewSPI implements ike.DataPath.
func (m *manager) NewSPI() ipsec.SPI { return ipsec.SPI(0x1000 + m.nextSPI.Add(1)) }

// Install implements ike.DataPath.
func (m *manager) Install(c ike.InstallChild) error {
	switch {
	case c.Rekeyed == 0:
		m.tell(nil)
	case m.rekeyed != nil:
		m.rekeyed()
	}
	return nil
}

// Move implements ike.DataPath.
func (*manager) Move(ipsec.SPI, netip.AddrPort, netip.AddrPort) {}

// Remove implements ike.DataPath.
func (*manager) Remove(ipsec.SPI, string, bool) {}

// Failed implements ike.DataPath.
func (m *manager) Failed(_ string, remote netip.Addr, err error) {
	m.tell(fmt.Errorf("no IKE SA with %s: %w", remote, err))
}

// Traffic implements ike.DataPath.
func (*manager) Traffic(ipsec.SPI) (received, sent uint64) { return 0, 0 }

// start runs the manager until ctx ends, as one of a group.
func (m *manager) start(ctx context.Context, group *sync.WaitGroup) {
	group.Go(func() { m.Run(ctx) })
}

// underWay is how many IKE SAs are begun at a time. It keeps both ends busy,
// and is too few for either implementation to ask for a cookie.
const underWay = 16

// establish begins n IKE SAs and waits until they stand at both ends, of which
// it hears by channels.
func establish(ctx context.Context, n int, begin func(i int) error, here, there <-chan error) error {
	begun, ours, theirs := 0, 0, 0
	for ours < n || theirs < n {
		for ; begun < n && begun-ours < underWay; begun++ {
			if err := begin(begun); err != nil {
				return err
			}
		}
		var err error
		ok := true
		select {
		case err, ok = <-here:
			ours++
		case err, ok = <-there:
			theirs++
		case <-ctx.Done():
			err = fmt.Errorf("%d of %d IKE SAs stand where they were begun, and %d at the other end: %w", ours, n, theirs, ctx.Err())
		}
		if err != nil {
			return err
		}
		if !ok {
			return errors.New("an end of the IKE SAs is gone")
		}
	}
	return nil
}

// initiatorAddress returns one of the addresses that begin IKE SAs, each of
// which has one with the responder: many of one peer would be bounded.
func initiatorAddress(i int) netip.Addr {
	return netip.AddrFrom4([4]byte{10, 64 + byte(i>>16), byte(i >> 8), byte(i)})
}

// responderAddress is where they are answered.
var responderAddress = netip.AddrFrom4([4]byte{10, 1, 0, 2})

// initiators is the prefix of these addresses.
const initiators = "10.64.0.0/10"

// cpuTime returns what this process has used of the processors.
func cpuTime() (time.Duration, error) {
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
		return 0, fmt.Errorf("getrusage: %w", err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano()), nil
}
