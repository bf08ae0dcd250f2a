package daemon

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/ipsecfw/ipsecfw/filter"
	"github.com/ipsecfw/ipsecfw/rules"

	"github.com/ipsecfw/ipsecfw/filter/nft"
	"github.com/ipsecfw/ipsecfw/ipsec"
	"github.com/ipsecfw/ipsecfw/ipsec/ike"
	"github.com/ipsecfw/ipsecfw/ipsec/ike/ikev2"
	"github.com/ipsecfw/ipsecfw/ipsec/ike/udp"
	"github.com/ipsecfw/ipsecfw/ipsec/ipsock"
	"github.com/ipsecfw/ipsecfw/nfq"
)

// What the daemon takes of the host's names. Marks and table are numbers that
// nothing else is likely to use; there is one daemon in a network namespace.
const (
	device     = "ipsecfw0"
	inMark     = 0x49500001
	outMark    = 0x49500002
	routeTable = 4950
	queue      = 4950
	tcpQueue   = 4951
	arrivals   = 4952 // the queue of AH and of ICMP errors about our packets
	logGroup   = 4950 // of NFLOG
	protoESP   = 50
)

// features is what the kernel's nftables has. The kernel is asked once.
var features = sync.OnceValue(nft.Probe)

const loopback = "lo"

// broadcasts returns the broadcast addresses of the host's networks, for a
// kernel that does not tell which they are.
func broadcasts() []netip.Addr {
	if features().FIB {
		return nil
	}
	addrs, err := net.InterfaceAddrs()
	if err != nil {
		return nil
	}
	var out []netip.Addr
	for _, a := range addrs {
		if p, err := netip.ParsePrefix(a.String()); err == nil && p.Addr().Is4() && p.Bits() < 31 {
			out = append(out, filter.Subnet(p).Last())
		}
	}
	return out
}

// keepaliveEvery is the interval of NAT keepalives (RFC 3948 section 4).
const keepaliveEvery = 20 * time.Second

// plant is what runs while a policy is in force: the device, the queues, the
// sockets, the key exchange. It is made whole or not at all.
type plant struct {
	joint
	begun   chan struct{} // closed when nftables has the rules
	stopped chan struct{} // closed by stop
	cancel  context.CancelFunc
	running sync.WaitGroup
	closers []func() error
}

// start makes a plant for a policy. Packets come to it when nftables has the
// rules; what peers say by IKE in the meantime waits until begin. A part that
// fails later is told to fatal.
func start(p *policy, m *memory, keys *keyLog, log *slog.Logger, fatal func(error)) (*plant, error) {
	ctx, cancel := context.WithCancel(context.Background())
	pl := &plant{
		joint: joint{memory: m, keys: keys, soft: softSAs{peers: map[netip.Addr]softSA{}}, doubted: make(chan struct{}, 1), aged: make(chan ipsec.SPI, 256), log: log},
		begun: make(chan struct{}), stopped: make(chan struct{}), cancel: cancel,
	}
	pl.policy.Store(p)
	if err := pl.open(ctx, p, fatal); err != nil {
		return nil, errors.Join(err, pl.stop())
	}
	return pl, nil
}

// begin is called once nftables has the rules, which a Child SA may change.
func (pl *plant) begin(rs nft.Ruleset) {
	pl.ruleset.Store(&rs)
	close(pl.begun)
}

func (pl *plant) onStop(f func() error) { pl.closers = append(pl.closers, f) }

func (pl *plant) open(ctx context.Context, p *policy, fatal func(error)) error {
	tun, err := nfq.OpenTUN(device)
	if err != nil {
		return err
	}
	pl.onStop(tun.Close)
	pl.onStop(func() error { return nfq.Unroute(inMark, routeTable) })
	if err := nfq.Route(device, inMark, routeTable); err != nil {
		return err
	}
	if keys := nfq.Reflected(); len(keys) > 0 {
		pl.log.Warn("answers to secured packets are lost while these kernel parameters are on: set them to 0", "parameters", keys)
	}
	if pl.sockets, err = udp.Listen(outMark); err != nil {
		return err
	}
	pl.onStop(func() error { pl.sockets.Close(); return nil })
	for family, v6 := range []bool{false, true} {
		c, err := ipsock.ListenRaw(v6, protoESP, outMark)
		if v6 && ipsock.NoFamily(err) {
			continue
		}
		if err != nil {
			return err
		}
		pl.raw[family] = c
		pl.onStop(c.Close)
		if pl.whole[family], err = ipsock.ListenIP(v6, outMark); err != nil {
			return err
		}
		pl.onStop(pl.whole[family].Close)
	}
	if pl.links, err = nfq.NewLinks(); err != nil {
		return err
	}
	pl.engine = nfq.NewEngine(nfq.Config{
		Wire: pl, Acquirer: pl, Injector: tun, Host: pl.links, DefaultResponse: rules.DefaultResponseRule, Log: pl.log,
	})
	pl.engine.SetSPD(p.spd)
	managed := ike.ManagerConfig{
		Policies: p, Transport: pl.sockets, DataPath: pl, Log: pl.log,
		Initiator: func(c ike.MachineConfig) ike.Machine { return ikev2.NewInitiator(c) },
		Responder: func(c ike.MachineConfig) ike.Machine { return ikev2.NewResponder(c) },
	}
	if pl.keys != nil {
		managed.KeyLog = pl.keys.secrets
	}
	pl.manager = ike.NewManager(managed)
	run := func(f func() error) {
		pl.running.Go(func() {
			if err := f(); err != nil && ctx.Err() == nil {
				fatal(err)
			}
		})
	}
	run(func() error { return pl.links.Follow(ctx) })
	run(func() error { return pl.lifetimes(ctx) })
	run(func() error {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-pl.begun:
			return pl.manager.Run(ctx)
		}
	})
	run(func() error { return pl.paths(ctx) })
	for n, worker := range map[uint16]nfq.Worker{queue: pl.engine.NewOutbound(), tcpQueue: pl.engine.NewOutbound(), arrivals: pl.engine.NewArrivals()} {
		q, err := nfq.OpenQueue(n, n == tcpQueue, outMark, &pl.engine.Counters)
		if err != nil {
			return err
		}
		pl.onStop(q.Close)
		if err := q.Start(ctx, worker); err != nil {
			return err
		}
		run(func() error { return q.Wait(ctx) })
	}
	run(func() error {
		return pl.sockets.Run(ctx, pl.manager.HandleDatagram, func() udp.Receiver { return pl.engine.NewInbound(true) }, pl.manager.Unreachable)
	})
	for _, c := range pl.raw {
		if c != nil {
			run(func() error { return pl.receive(c) })
		}
	}
	run(func() error { return pl.keepalives(ctx) })
	return nil
}

// receive takes protocol 50 from a raw socket.
func (pl *plant) receive(c *ipsock.Conn) error {
	in := pl.engine.NewInbound(false)
	return ipsock.Each(c, func(b ipsock.Batch) {
		for i := range b {
			in.Receive(b[i].Buf, b[i].Offset, b[i].Local, b[i].Remote, b[i].TrafficClass, b[i].Link)
		}
		in.Flush()
	})
}

// keepalives keeps the mappings of the NAT that this host is behind.
func (pl *plant) keepalives(ctx context.Context) error {
	t := time.NewTicker(keepaliveEvery)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-t.C:
		}
		type ends struct{ local, remote netip.AddrPort }
		kept := map[ends]bool{}
		for _, sa := range pl.engine.SAD().All() {
			k := ends{sa.LocalAddr, sa.RemoteAddr}
			if !sa.BehindNAT || kept[k] {
				continue
			}
			kept[k] = true
			if err := pl.sockets.Keepalive(sa.LocalAddr, sa.RemoteAddr); err != nil && !errors.Is(err, net.ErrClosed) {
				pl.log.Debug("NAT keepalive not sent", "remote", sa.RemoteAddr, "error", err)
			}
		}
	}
}

// swap puts another policy in force; nftables has it already. SAs that it
// wants as they are live on, the others are deleted.
func (pl *plant) swap(p *policy) {
	old := pl.policy.Swap(p)
	pl.engine.SetSPD(p.spd)
	pl.manager.SetPolicies(p)
	for _, sa := range pl.engine.SAD().All() {
		if !old.same(p, sa.Policy) || !p.wants(sa) {
			pl.manager.DeleteChild(sa.InSPI)
			pl.Remove(sa.InSPI, "the policy changed", false)
		}
	}
	for rule := range old.rules {
		if !old.same(p, rule) {
			pl.engine.Abandon(rule, netip.Addr{})
		}
	}
	for peer, x := range pl.soft.all() {
		if n := p.rules[x.rule]; n == nil || !n.AllowUnsecured {
			pl.harden(peer, "the policy changed")
		}
	}
}

// stop tells the peers, and takes down what open made. The kernel drops what
// is still queued.
func (pl *plant) stop() error {
	if pl.engine != nil {
		pl.engine.SetSPD(nil) // what comes from now on has nowhere to go
	}
	select {
	case <-pl.begun:
		ctx, cancel := context.WithTimeout(context.Background(), farewell)
		if err := pl.manager.CloseAll(ctx); err != nil {
			pl.log.Debug("not every peer confirmed that its SAs are deleted", "error", err)
		}
		cancel()
	default: // no peer has an SA
	}
	pl.cancel()
	close(pl.stopped)
	var errs []error
	for _, f := range pl.closers {
		if err := f(); err != nil && !errors.Is(err, net.ErrClosed) {
			errs = append(errs, err)
		}
	}
	pl.running.Wait()
	if pl.engine != nil {
		for _, sa := range pl.engine.SAD().All() {
			pl.engine.SAD().Remove(sa.InSPI)
		}
	}
	return errors.Join(errs...)
}
