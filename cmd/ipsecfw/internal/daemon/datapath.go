package daemon

import (
	"crypto/rand"
	"encoding/binary"
	"fmt"
	"log/slog"
	"net"
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
	"github.com/ipsecfw/ipsecfw/ipsec/esp"
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
	raw      [2]*ipsock.Conn // IPv4, IPv6; nil on a host without IPv6
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
	out, err := esp.NewOutbound(esp.Params{SPI: sa.OutSPI, Encr: sa.Encr, Integ: sa.Integ, ESN: sa.ESN, Keys: sa.OutKeys})
	if err != nil {
		return err
	}
	in, err := esp.NewInbound(esp.Params{SPI: sa.InSPI, Encr: sa.Encr, Integ: sa.Integ, ESN: sa.ESN, Keys: sa.InKeys})
	if err != nil {
		return err
	}
	mtu, err := pathMTU(sa.LocalAddr.Addr(), sa.RemoteAddr.Addr())
	if err != nil {
		return err
	}
	j.keys.child(sa)
	peer := sa.RemoteAddr.Addr()
	j.memory.secure(peer, j.policy.Load().softens())
	if err := j.putToWork(&nfq.SA{ChildSA: sa, Out: out, In: in, PathMTU: mtu, Since: time.Now()}, c.Standby); err != nil {
		return err
	}
	// If we are the responder, the answer by which the peer gets its SA should
	// go before the packets that waited: not from this goroutine, then.
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

// maxMTU is the longest IPv4 packet, in bytes; a loopback device claims more.
const maxMTU = 65535

// pathMTU returns what the kernel knows of the path to an address, in bytes.
func pathMTU(local, remote netip.Addr) (int, error) {
	c, err := net.DialUDP("udp", net.UDPAddrFromAddrPort(netip.AddrPortFrom(local, 0)), net.UDPAddrFromAddrPort(netip.AddrPortFrom(remote, udp.NATPort)))
	if err != nil {
		return 0, fmt.Errorf("find the path to %s: %w", remote, err)
	}
	defer c.Close()
	level, name := unix.IPPROTO_IP, unix.IP_MTU
	if remote.Is6() {
		level, name = unix.IPPROTO_IPV6, unix.IPV6_MTU
	}
	rc, err := c.SyscallConn()
	if err != nil {
		return 0, fmt.Errorf("find the path to %s: %w", remote, err)
	}
	mtu := 0
	if e := rc.Control(func(fd uintptr) { mtu, err = unix.GetsockoptInt(int(fd), level, name) }); e != nil {
		err = e
	}
	if err != nil {
		return 0, fmt.Errorf("find the MTU of the path to %s: %w", remote, err)
	}
	return min(mtu, maxMTU), nil
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
	mtu, err := pathMTU(local.Addr(), remote.Addr())
	if err != nil {
		j.log.Warn("the MTU of the path to a peer that has moved is not known: that of its path before is assumed", "peer", remote, "error", err)
		mtu = sa.PathMTU
	}
	if sa = sad.Move(in, local, remote, mtu); sa != nil {
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
	if x, ok := sa.In.(*esp.Inbound); ok {
		received = x.Counters().Packets
	}
	if x, ok := sa.Out.(*esp.Outbound); ok {
		sent = x.Counters().Packets
	}
	return received, sent
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

// SendESP implements nfq.Wire.
func (j *joint) SendESP(encap bool, local, remote netip.AddrPort, trafficClass uint8, b []byte, size int) error {
	if encap {
		return j.sockets.SendESP(local, remote, trafficClass, b, size)
	}
	c := j.raw[0]
	if remote.Addr().Is6() {
		c = j.raw[1]
	}
	if c == nil {
		return fmt.Errorf("send ESP to %s: this host has no IPv6", remote)
	}
	return c.Write(local, remote, trafficClass, b, size)
}
