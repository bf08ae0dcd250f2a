package daemon

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/ipsecfw/ipsecfw/filter/nft"
	"github.com/ipsecfw/ipsecfw/rules"

	"golang.org/x/sys/unix"

	"github.com/ipsecfw/ipsecfw/filter"
	"github.com/ipsecfw/ipsecfw/filter/packet"
	"github.com/ipsecfw/ipsecfw/ipsec"
	"github.com/ipsecfw/ipsecfw/ipsec/ike"
	"github.com/ipsecfw/ipsecfw/ipsec/ike/udp"
	"github.com/ipsecfw/ipsecfw/ipsec/ipsock"
	"github.com/ipsecfw/ipsecfw/nfq"
)

// joint is where key exchange and data path meet: each sees the other through
// it.
type joint struct {
	policy   atomic.Pointer[policy]
	ruleset  atomic.Pointer[nft.Ruleset] // in force
	memory   *memory
	keys     *keyLog
	sets     sync.Mutex // held while what the kernel's sets of peers follow from changes, and while they do
	soft     softSAs
	failures failures
	engine   *nfq.Engine
	links    *nfq.Links
	manager  *ike.Manager
	sockets  *udp.Sockets
	raw      [2]*ipsock.Conn // ESP to this host: IPv4, IPv6; nil on a host without IPv6
	whole    [2]*ipsock.Conn // whole packets from it
	aged     chan ipsec.SPI  // inbound ones of SAs that are to be replaced, or have carried all that they may
	doubted  chan struct{}   // says that a path is narrower than was thought
	log      *slog.Logger
}

var (
	_ ike.DataPath = (*joint)(nil)
	_ nfq.Acquirer = (*joint)(nil)
	_ nfq.Wire     = (*joint)(nil)
)

// NewSPI implements ike.DataPath.
func (j *joint) NewSPI() ipsec.SPI {
	const reserved = 256 // RFC 4303 section 2.1
	for {
		var b [4]byte
		rand.Read(b[:])
		spi := ipsec.SPI(binary.BigEndian.Uint32(b[:]))
		if spi >= reserved && j.engine.Expect(spi) {
			return spi
		}
	}
}

// Install implements ike.DataPath.
func (j *joint) Install(c ike.InstallChild) error {
	sa := c.SA
	out, in, err := j.halves(sa)
	if err != nil {
		return err
	}
	path, err := j.engine.Path(sa.LocalAddr.Addr(), sa.RemoteAddr.Addr(), nfq.LinkMTU)
	if err != nil {
		return err
	}
	j.keys.child(sa)
	peer := sa.RemoteAddr.Addr()
	j.memory.secure(peer, j.policy.Load().softens())
	if err := j.putToWork(&nfq.SA{ChildSA: sa, Out: out, In: in, Path: path, Since: time.Now()}, c.Standby); err != nil {
		return err
	}
	// If we are the responder, the answer by which the peer gets its SA should
	// go before the packets that waited: not from this goroutine, then.
	if c.More {
		return nil
	}
	go j.engine.Release(sa.Policy, addressed(sa.Mode, peer))
	return nil
}

// putToWork gives an SA to the engine, and the kernel's sets what follows from
// it: its peer is not spoken to in clear any more, whatever the rule.
func (j *joint) putToWork(sa *nfq.SA, standby bool) error {
	j.sets.Lock()
	defer j.sets.Unlock()
	peer := sa.RemoteAddr.Addr()
	if sa.Policy == rules.DefaultResponseRule {
		// The kernel must know before the peer does: what is permitted in clear
		// else, is secured from now on.
		if err := nft.AddResponse(*j.ruleset.Load(), peer); err != nil {
			return err
		}
	}
	j.hardenLocked(peer, "the peer speaks IKE now")
	j.engine.Install(sa, standby)
	return nil
}

// Move implements ike.DataPath.
func (j *joint) Move(in ipsec.SPI, local, remote netip.AddrPort) {
	j.sets.Lock() // so that it is not removed meanwhile
	defer j.sets.Unlock()
	sad := j.engine.SAD()
	sa := sad.Inbound(in)
	if sa == nil {
		return
	}
	path, err := j.engine.Path(local.Addr(), remote.Addr(), nfq.LinkMTU)
	if err != nil {
		j.log.Warn("the MTU of the path to a peer that has moved is not known: that of its path before is assumed", "peer", remote, "error", err)
		path = sa.Path
	}
	if sa = sad.Move(in, local, remote, path); sa != nil {
		j.keys.child(sa.ChildSA)
	}
}

// Remove implements ike.DataPath.
func (j *joint) Remove(in ipsec.SPI, _ string, late bool) {
	j.sets.Lock()
	defer j.sets.Unlock()
	remove := j.engine.SAD().Remove
	if late {
		remove = j.engine.SAD().Retire
	}
	sa := remove(in)
	if sa == nil || sa.Policy != rules.DefaultResponseRule {
		return
	}
	peer := sa.RemoteAddr.Addr()
	if slices.Contains(j.responding(), peer) {
		return
	}
	if err := nft.RemoveResponse(*j.ruleset.Load(), peer); err != nil {
		j.log.Error("packets to a peer are still held back, though it has no SA any more", "peer", peer, "error", err)
	}
}

// responding returns the peers that have SAs by the default response.
func (j *joint) responding() []netip.Addr {
	var out []netip.Addr
	for _, sa := range j.engine.SAD().All() {
		if sa.Policy == rules.DefaultResponseRule {
			out = append(out, sa.RemoteAddr.Addr())
		}
	}
	return out
}

// Traffic implements ike.DataPath.
func (j *joint) Traffic(in ipsec.SPI) (received, sent uint64) {
	sa := j.engine.SAD().Inbound(in)
	if sa == nil {
		return 0, 0
	}
	return sa.In.Counters().Packets, sa.Out.Counters().Packets
}

// Failed implements ike.DataPath. The Manager has logged why.
func (j *joint) Failed(rule string, remote netip.Addr, why error) {
	if j.soften(rule, remote, why) {
		return
	}
	j.failures.add(rule, remote, why)
	mode := ipsec.Tunnel
	if n := j.policy.Load().rules[rule]; n != nil {
		mode = n.Mode
	}
	j.engine.Abandon(rule, addressed(mode, remote))
}

// addressed is to whom packets under an SA with a peer are addressed: the zero
// address for anyone, as through a tunnel.
func addressed(mode ipsec.Mode, peer netip.Addr) netip.Addr {
	if mode == ipsec.Tunnel {
		return netip.Addr{}
	}
	return peer
}

// Acquire implements nfq.Acquirer.
func (j *joint) Acquire(d filter.Decision, p *packet.Packet) {
	child, local, remote, ok := j.policy.Load().wanted(d, p)
	if !ok {
		j.engine.Abandon(d.Entry.Name, p.Dst)
		return
	}
	pktLocal, pktRemote := packetSelectors(p)
	j.manager.Acquire(local, remote, child, pktLocal, pktRemote)
}

// UnknownSPI implements nfq.Acquirer.
func (j *joint) UnknownSPI(local, remote netip.AddrPort, spi ipsec.SPI) {
	j.manager.UnknownSPI(local, remote, spi)
}

// Moved implements nfq.Acquirer.
func (j *joint) Moved(in ipsec.SPI, local, remote netip.AddrPort) { j.manager.Moved(in, local, remote) }

// SendUDP implements nfq.Wire.
func (j *joint) SendUDP(o nfq.Outer, b []byte, size int) error {
	return j.narrower(j.sockets.SendESP(o.Local, o.Remote, o.TrafficClass, o.DF, b, size))
}

// SendIP implements nfq.Wire.
func (j *joint) SendIP(local, remote netip.Addr, b []byte, size int) error {
	c := j.whole[0]
	if remote.Is6() {
		c = j.whole[1]
	}
	if c == nil {
		return fmt.Errorf("send to %s: this host has no IPv6", remote)
	}
	return j.narrower(c.Write(netip.AddrPortFrom(local, 0), netip.AddrPortFrom(remote, 0), 0, b, size))
}

// narrower has the paths looked at again when the kernel finds a packet too large
// that was cut to its path.
func (j *joint) narrower(err error) error {
	if errors.Is(err, unix.EMSGSIZE) {
		select {
		case j.doubted <- struct{}{}:
		default: // it is known already
		}
	}
	return err
}

// refreshEvery is how often the paths are looked at again without a reason: what
// is learned of them lasts ten minutes.
const refreshEvery = time.Minute

// paths keeps what is known of the paths up to date.
func (j *joint) paths(ctx context.Context) error {
	t := time.NewTicker(refreshEvery)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-j.doubted:
		case <-j.links.Changed():
		case <-t.C:
		}
		j.engine.RefreshPaths(nfq.LinkMTU)
	}
}
