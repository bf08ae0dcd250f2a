package main

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"path/filepath"
	"runtime"
	"sync"
	"time"

	"github.com/ipsecfw/ipsecfw/ipsec"
	"github.com/ipsecfw/ipsecfw/ipsec/ike"
	"github.com/ipsecfw/ipsecfw/ipsec/ike/udp"
	"github.com/ipsecfw/ipsecfw/test/lab"
)

// pairOfHosts are joined by a cable. One of them has many addresses.
type pairOfHosts struct{ initiator, responder *lab.Host }

func newPairOfHosts(n *lab.Net, name string, addresses int) (*pairOfHosts, error) {
	initiator, err := n.Host(name + "1")
	if err != nil {
		return nil, err
	}
	responder, err := n.Host(name + "2")
	if err != nil {
		return nil, err
	}
	const gateway = "10.1.0.1"
	if err := n.Link(initiator, responder, "eth0", "eth0", []string{gateway + "/24"}, []string{responderAddress.String() + "/24"}); err != nil {
		return nil, err
	}
	for i := range addresses {
		if err := initiator.Address("lo", initiatorAddress(i).String()+"/32"); err != nil {
			return nil, err
		}
	}
	return &pairOfHosts{initiator, responder}, responder.Route(initiators, gateway)
}

// The algorithms that both implementations have.
const charonProposal = "aes256gcm16-prfsha256-x25519"

var proposal = []ipsec.Proposal{{Protocol: ipsec.ProtoIKE, Transforms: []ipsec.Transform{
	{Type: ipsec.TypeEncr, ID: ipsec.EncrAESGCM16, KeyBits: 256},
	{Type: ipsec.TypePRF, ID: ipsec.PRFHMACSHA256},
	{Type: ipsec.TypeGroup, ID: ipsec.GroupX25519},
}}}

// measured is what IKE SAs took.
type measured struct {
	perSecond float64
	cpu       float64 // milliseconds for each, at both ends
}

// measure measures the making of n IKE SAs, by those whose use of the
// processors is told.
func measure(n int, used func() (time.Duration, error), do func() error) (measured, error) {
	before, err := used()
	if err != nil {
		return measured{}, err
	}
	start := time.Now()
	if err := do(); err != nil {
		return measured{}, err
	}
	elapsed := time.Since(start)
	after, err := used()
	cpu := (after - before).Seconds() * 1000
	return measured{float64(n) / elapsed.Seconds(), cpu / float64(n)}, err
}

// ours makes n IKE SAs between two hosts whose key exchange is that of ipsecfw,
// in this process, with the sockets that a daemon has. Each IKE SA has a Child
// SA.
func ours(ctx context.Context, p *pairOfHosts, n int, initiator, responder ike.Policy) (made measured, err error) {
	ctx, stop := context.WithCancel(ctx)
	var group sync.WaitGroup
	defer group.Wait()
	defer stop()
	end := func(h *lab.Host, policy ike.Policy) (m *manager, err error) {
		err = h.Do(func() error {
			sockets, err := udp.Listen(0)
			if err != nil {
				return err
			}
			m = newManager(sockets, newRules(policy), n, nil)
			m.start(ctx, &group)
			group.Go(func() {
				sockets.Run(ctx, m.HandleDatagram, func() udp.Receiver { return noESP{} }, m.Unreachable)
			})
			return nil
		})
		return m, err
	}
	a, err := end(p.initiator, initiator)
	if err != nil {
		return made, err
	}
	b, err := end(p.responder, responder)
	if err != nil {
		return made, err
	}
	runtime.GC() // the garbage of others is not to be paid for here
	return measure(n, cpuTime, func() error {
		return establish(ctx, n, func(i int) error {
			a.begin(initiatorAddress(i), responderAddress)
			return nil
		}, a.stands, b.stands)
	})
}

// handshakesWithin bounds each measurement.
const handshakesWithin = 2 * time.Minute

// handshakes compares how fast IKE SAs are made.
func handshakes(ctx context.Context, c config, dir string, r *report) (err error) {
	n, err := lab.New("ipsecfw-bench")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, n.Close()) }()
	hosts, err := newPairOfHosts(n, "ours", c.handshakes)
	if err != nil {
		return err
	}
	strangers, err := newPairOfHosts(n, "charon", c.handshakes)
	if err != nil {
		return err
	}
	signed, err := newCertificates()
	if err != nil {
		return err
	}
	for _, x := range []struct {
		by          *authentication
		postQuantum bool // with the algorithms of the default, too, which charon does not have
	}{{newSecret(), true}, {signed, false}} {
		if err := compare(ctx, c, filepath.Join(dir, x.by.name), hosts, strangers, x.by, x.postQuantum, r); err != nil {
			return fmt.Errorf("by %s: %w", x.by.name, err)
		}
	}
	return nil
}

// compare measures by turns.
func compare(ctx context.Context, c config, dir string, hosts, strangers *pairOfHosts, by *authentication, postQuantum bool, r *report) (err error) {
	theirs, err := startCharons(strangers, dir, c.handshakes)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, theirs.end()) }()
	if err := theirs.configure(by); err != nil {
		return err
	}
	make := func(proposals []ipsec.Proposal) func(context.Context) (measured, error) {
		return func(ctx context.Context) (measured, error) {
			initiator, responder := by.policies(proposals)
			return ours(ctx, hosts, c.handshakes, initiator, responder)
		}
	}
	ways := []struct {
		name      string
		make      func(context.Context) (measured, error)
		rate, cpu []float64
	}{
		{name: "charon", make: func(ctx context.Context) (measured, error) { return theirs.handshakes(ctx, c.handshakes) }},
		{name: "ipsecfw", make: make(proposal)},
	}
	if postQuantum {
		ways = append(ways, ways[1])
		ways[2].name, ways[2].make = "ipsecfw with ML-KEM-768 after X25519", make(ike.DefaultProposals())
	}
	for range c.repetitions {
		for i := range ways {
			once, stop := context.WithTimeout(ctx, handshakesWithin)
			m, err := ways[i].make(once)
			stop()
			if err != nil {
				return fmt.Errorf("%s: %w", ways[i].name, err)
			}
			ways[i].rate, ways[i].cpu = append(ways[i].rate, m.perSecond), append(ways[i].cpu, m.cpu)
		}
	}
	for _, w := range ways {
		r.add(fmt.Sprintf("handshakes by %s, both ends %s", by.name, w.name), "handshakes/s", nil, w.rate...)
		r.add(fmt.Sprintf("CPU of a handshake by %s, both ends %s", by.name, w.name), "ms", nil, w.cpu...)
	}
	ratio := func(what string, over, under []float64, wanted *bound) {
		r.add(fmt.Sprintf(what, by.name), "ratio", wanted, ratios(over, under)...)
	}
	ratio("handshakes by %s, ipsecfw against charon", ways[1].rate, ways[0].rate, atLeast(wantedOfCharon))
	ratio("CPU of a handshake by %s, ipsecfw against charon", ways[1].cpu, ways[0].cpu, atMost(1/wantedOfCharon))
	if postQuantum {
		ratio("handshakes by %s, ipsecfw with ML-KEM-768 against charon without", ways[2].rate, ways[0].rate, nil)
	}
	return nil
}

// noESP is a data path's receiver where nobody sends ESP.
type noESP struct{}

// Receive implements udp.Receiver.
func (noESP) Receive([]byte, int, netip.AddrPort, netip.AddrPort, uint8, int) {}

// Flush implements udp.Receiver.
func (noESP) Flush() {}
