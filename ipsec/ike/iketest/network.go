package iketest

import (
	"errors"
	"math/rand/v2"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/ipsecfw/ipsecfw/ipsec"
	"github.com/ipsecfw/ipsecfw/ipsec/ike"
)

// Network carries datagrams between Managers. Within a testing/synctest
// bubble its delays take no real time. It is safe for concurrent use.
type Network struct {
	mu     sync.Mutex
	faults Faults
	nat    *NAT
	rng    *rand.Rand
	hosts  map[netip.Addr]*ike.Manager
	sent   map[netip.Addr]int
}

// NewNetwork returns a network whose faults follow from the seed.
func NewNetwork(seed uint64, f Faults) *Network {
	return &Network{
		faults: f,
		rng:    rand.New(rand.NewPCG(seed, 0)),
		hosts:  make(map[netip.Addr]*ike.Manager),
		sent:   make(map[netip.Addr]int),
	}
}

// Attach gives a Manager an address, in place of whichever had it before. A
// nil Manager leaves the address dead.
func (n *Network) Attach(a netip.Addr, m *ike.Manager) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.hosts[a] = m
}

// SetFaults changes what happens to datagrams from now on.
func (n *Network) SetFaults(f Faults) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.faults = f
}

// SetNAT puts a translator between its inside host and all others.
func (n *Network) SetNAT(nat *NAT) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.nat = nat
}

// Sent returns how many datagrams an address has sent.
func (n *Network) Sent(a netip.Addr) int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.sent[a]
}

// Send implements ike.Transport.
func (n *Network) Send(local, remote netip.AddrPort, data []byte) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.sent[local.Addr()]++
	if n.nat != nil {
		var ok bool
		local = n.nat.out(local)
		if remote, ok = n.nat.in(remote); !ok {
			return nil
		}
	}
	for _, d := range n.faults.fate(n.rng) {
		data := n.faults.spoil(n.rng, slices.Clone(data))
		time.AfterFunc(d, func() {
			n.mu.Lock()
			m := n.hosts[remote.Addr()]
			n.mu.Unlock()
			if m != nil {
				m.HandleDatagram(remote, local, data)
			}
		})
	}
	return nil
}

// SAD is a data path that remembers. It is safe for concurrent use.
type SAD struct {
	mu       sync.Mutex
	next     ipsec.SPI
	refuse   bool
	alive    map[ipsec.SPI]ike.InstallChild
	removed  []ipsec.SPI
	failures []error
	traffic  map[ipsec.SPI][2]uint64 // received and sent
}

// NewSAD returns an empty data path whose SPIs begin at first.
func NewSAD(first ipsec.SPI) *SAD {
	return &SAD{next: first, alive: make(map[ipsec.SPI]ike.InstallChild), traffic: make(map[ipsec.SPI][2]uint64)}
}

// Refuse makes Install fail.
func (d *SAD) Refuse() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.refuse = true
}

// NewSPI implements ike.DataPath.
func (d *SAD) NewSPI() ipsec.SPI {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.next++
	return d.next
}

// Install implements ike.DataPath.
func (d *SAD) Install(c ike.InstallChild) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.refuse {
		return errors.New("this data path takes no SA")
	}
	d.alive[c.SA.InSPI] = c
	return nil
}

// Move implements ike.DataPath.
func (d *SAD) Move(in ipsec.SPI, local, remote netip.AddrPort) {
	d.mu.Lock()
	defer d.mu.Unlock()
	c, ok := d.alive[in]
	if !ok || !c.SA.UDPEncap {
		return
	}
	sa := *c.SA
	sa.LocalAddr, sa.RemoteAddr = local, remote
	c.SA = &sa
	d.alive[in] = c
}

// Remove implements ike.DataPath.
func (d *SAD) Remove(in ipsec.SPI, _ string, _ bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.alive, in)
	d.removed = append(d.removed, in)
}

// Failed implements ike.DataPath.
func (d *SAD) Failed(_ string, _ netip.Addr, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.failures = append(d.failures, err)
}

// Carried says how many packets a pair of SAs has received and sent, for
// Traffic to tell.
func (d *SAD) Carried(in ipsec.SPI, received, sent uint64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.traffic[in] = [2]uint64{received, sent}
}

// Traffic implements ike.DataPath.
func (d *SAD) Traffic(in ipsec.SPI) (received, sent uint64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	t := d.traffic[in]
	return t[0], t[1]
}

// Alive returns the SAs that are installed, by inbound SPI.
func (d *SAD) Alive() []*ipsec.ChildSA {
	d.mu.Lock()
	defer d.mu.Unlock()
	var out []*ipsec.ChildSA
	for _, c := range d.alive {
		out = append(out, c.SA)
	}
	slices.SortFunc(out, func(a, b *ipsec.ChildSA) int { return int(a.InSPI) - int(b.InSPI) })
	return out
}

// Removed returns the inbound SPIs that Remove was told, in order.
func (d *SAD) Removed() []ipsec.SPI {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.Clone(d.removed)
}

// Failures returns what Failed was told.
func (d *SAD) Failures() []error {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.Clone(d.failures)
}
