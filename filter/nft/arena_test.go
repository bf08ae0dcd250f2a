package nft

import (
	"encoding/binary"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/netip"
	"os"
	"slices"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/ipsecfw/ipsecfw/filter"
	"github.com/ipsecfw/ipsecfw/filter/packet"
)

// arena is a host whose interfaces end in the test: two LANs, two
// point-to-point links, and the engine's device.
type arena struct {
	t          *testing.T
	r          *rand.Rand
	links      map[uint32]filter.Interface // by index
	taps       []tap
	raw        map[bool]int // raw sockets: of IPv6, or not
	marked     map[bool]int // the same with the engine's mark
	log        *logReader
	local      []netip.Addr
	broadcasts map[netip.Addr]bool
	recent     []probe // what has been sent under the policy
	nextID     uint32
}

type tap struct {
	fd       int
	ethernet []byte // the header's two addresses; nil for a link without
}

// Addresses end in 0 to 15, and are in one of two subnets. The first two of
// each are the host's.
func address4(r *rand.Rand) netip.Addr {
	return netip.AddrFrom4([4]byte{10, 0, byte(r.IntN(2)), byte(r.IntN(16))})
}

func address6(r *rand.Rand) netip.Addr {
	return netip.AddrFrom16([16]byte{0xfd, 14: byte(r.IntN(2)), 15: byte(r.IntN(16))})
}

func (a *arena) address(v6 bool) netip.Addr {
	if v6 {
		return address6(a.r)
	}
	return address4(a.r)
}

func newArena(t *testing.T) *arena {
	namespace(t)
	a := &arena{
		t: t, r: rand.New(rand.NewPCG(2003, 4301)), links: map[uint32]filter.Interface{},
		raw: map[bool]int{}, marked: map[bool]int{}, broadcasts: map[netip.Addr]bool{}, nextID: 0xabc00000,
	}
	for path, value := range map[string]string{
		"ipv4/conf/all/rp_filter": "0", "ipv4/conf/default/rp_filter": "0", "ipv4/ip_forward": "1",
		"ipv4/conf/all/accept_redirects": "0", "ipv4/conf/default/accept_redirects": "0",
		"ipv6/conf/all/forwarding": "1", "ipv6/conf/default/accept_dad": "0",
		"ipv6/conf/default/accept_ra": "0", "ipv6/conf/all/accept_redirects": "0", "ipv6/conf/default/accept_redirects": "0",
	} {
		must(t, os.WriteFile("/proc/sys/net/"+path, []byte(value), 0))
	}
	for i, name := range []string{"lan0", "ppp0", "lan1", "ppp1"} {
		remote := name[:3] == "ppp"
		a.inhabit(a.open(name, remote), remote, i)
	}
	a.open(testConfig.Interface, true)
	lo, err := netlink.LinkByName("lo")
	must(t, err)
	must(t, netlink.LinkSetUp(lo))
	routes, err := netlink.RouteListFiltered(unix.AF_INET, &netlink.Route{Table: unix.RT_TABLE_LOCAL, Type: unix.RTN_BROADCAST}, netlink.RT_FILTER_TABLE|netlink.RT_FILTER_TYPE)
	must(t, err)
	for _, r := range routes {
		b, ok := netip.AddrFromSlice(r.Dst.IP.To4())
		if ok {
			a.broadcasts[b] = true
		}
	}
	for _, v6 := range []bool{false, true} {
		family := unix.AF_INET
		if v6 {
			family = unix.AF_INET6
		}
		for _, m := range []struct {
			at   map[bool]int
			mark uint32
		}{{a.raw, 0}, {a.marked, testConfig.OutMark}} {
			fd, err := unix.Socket(family, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.IPPROTO_RAW)
			must(t, err)
			t.Cleanup(func() { unix.Close(fd) })
			must(t, unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_BROADCAST, 1))
			must(t, unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_MARK, int(m.mark)))
			m.at[v6] = fd
		}
	}
	a.log = newLogReader(t, verdictGroup)
	return a
}

// open makes an interface that ends in the test.
func (a *arena) open(name string, remote bool) netlink.Link {
	t := a.t
	fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_CLOEXEC, 0)
	must(t, err)
	t.Cleanup(func() { unix.Close(fd) })
	req, err := unix.NewIfreq(name)
	must(t, err)
	flags := uint16(unix.IFF_NO_PI | unix.IFF_TAP)
	if remote {
		flags = unix.IFF_NO_PI | unix.IFF_TUN
	}
	req.SetUint16(flags)
	must(t, unix.IoctlIfreq(fd, unix.TUNSETIFF, req))
	l, err := netlink.LinkByName(name)
	must(t, err)
	must(t, netlink.LinkSetUp(l))
	a.links[uint32(l.Attrs().Index)] = filter.Interface{Name: name, Remote: remote}
	x := tap{fd: fd}
	if !remote {
		x.ethernet = append(slices.Clone(l.Attrs().HardwareAddr), 2, 0, 0, 0, 0, 1)
	}
	a.taps = append(a.taps, x)
	return l
}

// inhabit gives an interface addresses of the host's, and routes to those of
// which the last two bits are n.
func (a *arena) inhabit(l netlink.Link, remote bool, n int) {
	t, index := a.t, l.Attrs().Index
	assign := func(s string) {
		p := netip.MustParsePrefix(s)
		addr, err := netlink.ParseAddr(s)
		must(t, err)
		must(t, netlink.AddrAdd(l, addr))
		a.local = append(a.local, p.Addr())
	}
	if !remote {
		assign(fmt.Sprintf("10.0.%d.%d/28", n/2, n/2))
		assign(fmt.Sprintf("10.0.%d.%d/28", 1-n/2, 8+n/2))
		assign(fmt.Sprintf("fd00::%x%02x/128", n/2, n/2))
		assign(fmt.Sprintf("fd00::%x%02x/128", 1-n/2, 8+n/2))
	}
	for _, format := range []string{"10.0.%d.%d/32", "fd00::%x%02x/128"} {
		for net := range 2 {
			for host := n; host < 16; host += 4 {
				dst, err := netlink.ParseIPNet(fmt.Sprintf(format, net, host))
				must(t, err)
				must(t, netlink.RouteAdd(&netlink.Route{LinkIndex: index, Dst: dst, Scope: netlink.SCOPE_LINK}))
				if !remote {
					must(t, netlink.NeighSet(&netlink.Neigh{LinkIndex: index, IP: dst.IP, State: netlink.NUD_PERMANENT, HardwareAddr: []byte{2, 0, 0, 0, 0, 1}}))
				}
			}
		}
	}
	if n == 0 {
		all, err := netlink.ParseIPNet("224.0.0.0/4")
		must(t, err)
		must(t, netlink.RouteAdd(&netlink.Route{LinkIndex: index, Dst: all, Scope: netlink.SCOPE_LINK}))
	}
}

// probe is a packet with a mark of its own in its last bytes.
type probe struct {
	direction  filter.Direction
	src, dst   netip.Addr
	protocol   uint8
	head       []byte // of the upper-layer header: ports, or type and code
	hops       uint8
	extensions bool // IPv6: behind hop-by-hop and destination options
	fragments  bool
	own        bool // of the engine
	via        int  // the interface by which it comes
	flags      byte // TCP
}

func (a *arena) one(of ...uint16) uint16 { return of[a.r.IntN(len(of))] }

func (a *arena) port() uint16 {
	if a.r.IntN(8) == 0 {
		return a.one(53, 67, 68, 88, 500, 4500, 546, 547)
	}
	return uint16(a.r.IntN(24))
}

func (a *arena) isLocal(x netip.Addr) bool { return slices.Contains(a.local, x) }

// end returns an address of the host, or one that is not the host's.
func (a *arena) end(v6, local bool) netip.Addr {
	for {
		if x := a.address(v6); a.isLocal(x) == local && !a.broadcasts[x] {
			return x
		}
	}
}

func (a *arena) probe() probe {
	if n := len(a.recent); n > 0 && a.r.IntN(100) < 45 {
		p := a.recent[a.r.IntN(n)]
		if a.r.IntN(3) > 0 && !p.dst.IsMulticast() && !a.broadcasts[p.dst] {
			return a.answer(p)
		}
		p.flags = 0x10
		return p
	}
	v6 := a.r.IntN(2) == 0
	p := probe{direction: filter.Directions[a.r.IntN(3)], hops: 64, via: a.r.IntN(len(a.taps)), flags: byte(a.one(0x02, 0x02, 0x02, 0x10, 0x04, 0x12))}
	p.src, p.dst = a.end(v6, p.direction == filter.Outbound), a.end(v6, p.direction == filter.Inbound)
	if p.direction != filter.Forward && a.r.IntN(12) == 0 {
		switch {
		case v6:
			p.dst = netip.MustParseAddr("ff02::1")
		case a.r.IntN(3) == 0:
			p.dst = netip.MustParseAddr("224.0.0.1")
		case a.r.IntN(2) == 0:
			p.dst = netip.MustParseAddr("10.0.0.15")
		default:
			p.dst = netip.MustParseAddr("255.255.255.255")
		}
	}
	p.protocol = uint8(a.one(6, 6, 6, 17, 17, 17, 1, 58, 132, 136, 47, 89, 50, 46, 51))
	if v6 == (p.protocol == 1) && p.protocol == 1 || !v6 && p.protocol == 58 {
		if a.r.IntN(4) > 0 {
			p.protocol = map[bool]uint8{false: 1, true: 58}[v6]
		}
	}
	switch {
	case packet.HasPorts(p.protocol):
		p.head = binary.BigEndian.AppendUint16(binary.BigEndian.AppendUint16(nil, a.port()), a.port())
	case p.protocol == 1:
		p.head = []byte{byte(a.one(0, 3, 8, 8, 8, 11, 13, 17)), byte(a.r.IntN(3)), 0, 0}
	case p.protocol == 58:
		p.head = []byte{byte(a.one(1, 3, 128, 128, 128, 129, 130, 131, 132, 133, 134, 135, 136, 137, 143, 144)), byte(a.r.IntN(3)), 0, 0}
		if p.direction != filter.Forward {
			p.hops = byte(a.one(64, 255, 255, 1))
		}
	default:
		p.head = []byte{0, 0, byte(a.r.IntN(3)), byte(a.r.IntN(24))}
	}
	p.own = p.direction == filter.Outbound && a.r.IntN(6) == 0
	if p.own && p.protocol == packet.UDP && a.r.IntN(4) > 0 {
		binary.BigEndian.PutUint16(p.head, a.one(filter.IKEPort, filter.NATPort))
	}
	p.extensions = v6 && a.r.IntN(6) == 0
	p.fragments = a.r.IntN(8) == 0 && p.hops == 64
	return p
}

// answer returns what could be the answer to a packet.
func (a *arena) answer(p probe) probe {
	if p.own && p.protocol == packet.UDP && a.r.IntN(4) > 0 {
		return a.complaint(p)
	}
	p.src, p.dst = p.dst, p.src
	p.direction = map[filter.Direction]filter.Direction{filter.Inbound: filter.Outbound, filter.Outbound: filter.Inbound, filter.Forward: filter.Forward}[p.direction]
	p.own = false
	p.flags = byte(a.one(0x12, 0x12, 0x10, 0x04))
	p.head = slices.Clone(p.head)
	switch {
	case packet.HasPorts(p.protocol):
		p.head = append(p.head[2:4:4], p.head[:2]...)
	case p.protocol == 1 || p.protocol == 58:
		p.head[0] = filter.AnswerType(p.protocol, p.head[0])
	}
	return p
}

// complaint returns an ICMP error about a UDP packet of the host, or about one
// that it has not sent.
func (a *arena) complaint(p probe) probe {
	quoted := p
	if a.r.IntN(6) == 0 {
		quoted.head = binary.BigEndian.AppendUint16(slices.Clone(p.head[:2]), 9)
	}
	udp := append(slices.Clone(quoted.head), 0, 8, 0, 0)
	c := probe{direction: filter.Inbound, src: p.dst, dst: p.src, hops: 64, via: p.via}
	if p.src.Is4() {
		c.protocol = packet.ICMP
		c.head = append([]byte{byte(a.one(3, 3, 3, 11)), byte(a.r.IntN(5)), 0, 0, 0, 0, 0, 0}, header4(quoted, udp, 0, false, 0)...)
	} else {
		quoted.extensions = false
		c.protocol, c.extensions = packet.ICMPv6, p.extensions
		c.head = append([]byte{byte(a.one(1, 1, 2, 3)), byte(a.r.IntN(5)), 0, 0, 0, 0, 0, 0}, header6(quoted, udp, nil)...)
	}
	return c
}

// aboutIKE reports whether an ICMP error quotes a message of the engine's IKE.
func aboutIKE(p *packet.Packet, b []byte) bool {
	const header = 8
	if !p.HasICMP || len(b) < p.HeaderLen+header {
		return false
	}
	var q packet.Packet
	quoted := slices.Clone(b[p.HeaderLen+header:])
	if packet.Parse(quoted, &q) != nil || q.Protocol != packet.UDP || q.Is4() != p.Is4() {
		return false
	}
	return q.SrcPort == filter.IKEPort || q.SrcPort == filter.NATPort
}

// encode returns the packet's fragments, most often one.
func (a *arena) encode(p probe) [][]byte {
	a.nextID++
	upper := slices.Clone(p.head)
	switch p.protocol {
	case packet.TCP:
		upper = append(upper, 0, 0, 0, 1, 0, 0, 0, 1, 5<<4, p.flags, 0x20, 0, 0, 0, 0, 0)
	case packet.UDP, packet.UDPLite:
		upper = append(upper, 0, 0, 0, 0)
	case packet.SCTP: // with a chunk INIT
		upper = append(upper, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 24, 0, 0, 0, 1, 0, 0, 0x20, 0, 0, 1, 0, 1, 0, 0, 0, 1)
	case 51:
		upper = []byte{17, 4, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1, 1, 2, 3, 4, 1, 2, 3, 4, 1, 2, 3, 4, 0, 53, 0, 53, 0, 12, 0, 0}
	}
	if p.fragments {
		upper = append(upper, make([]byte, 40)...)
	}
	upper = binary.BigEndian.AppendUint32(upper, a.nextID)
	if p.protocol == packet.UDP {
		binary.BigEndian.PutUint16(upper[4:], uint16(len(upper)))
	}
	whole := header4(p, upper, 0, false, uint16(a.nextID))
	if p.src.Is6() {
		whole = header6(p, upper, nil)
	}
	var parsed packet.Packet
	if err := packet.Parse(whole, &parsed); err != nil {
		panic(err)
	}
	packet.FinishChecksum(whole, &parsed)
	upper = whole[parsed.HeaderLen:]
	if !p.fragments {
		return [][]byte{whole}
	}
	const cut = 24
	if p.src.Is4() {
		return [][]byte{header4(p, upper[:cut], 0, true, uint16(a.nextID)), header4(p, upper[cut:], cut, false, uint16(a.nextID))}
	}
	fragment := func(offset uint16, more uint16) []byte {
		return binary.BigEndian.AppendUint32([]byte{p.protocol, 0, byte(offset >> 8), byte(offset | more)}, a.nextID)
	}
	return [][]byte{header6(p, upper[:cut], fragment(0, 1)), header6(p, upper[cut:], fragment(cut, 0))}
}

func header4(p probe, upper []byte, offset uint16, more bool, id uint16) []byte {
	b := make([]byte, 20, 20+len(upper))
	b[0], b[8], b[9] = 0x45, p.hops, p.protocol
	binary.BigEndian.PutUint16(b[2:], uint16(20+len(upper)))
	binary.BigEndian.PutUint16(b[4:], id)
	binary.BigEndian.PutUint16(b[6:], offset/8)
	if more {
		b[6] |= 0x20
	}
	copy(b[12:], p.src.AsSlice())
	copy(b[16:], p.dst.AsSlice())
	packet.FinishHeaderChecksum(b)
	return append(b, upper...)
}

func header6(p probe, upper, fragment []byte) []byte {
	next := p.protocol
	var extensions []byte
	if fragment != nil {
		extensions, next = fragment, 44
	}
	if p.extensions { // hop-by-hop with a router alert of MLD, and padding
		extensions = append([]byte{60, 0, 5, 2, 0, 0, 1, 0, next, 0, 1, 4, 0, 0, 0, 0}, extensions...)
		next = 0
	}
	b := make([]byte, 40, 40+len(extensions)+len(upper))
	b[0], b[6], b[7] = 0x60, next, p.hops
	binary.BigEndian.PutUint16(b[4:], uint16(len(extensions)+len(upper)))
	copy(b[8:], p.src.AsSlice())
	copy(b[24:], p.dst.AsSlice())
	return append(append(b, extensions...), upper...)
}

// send sends a packet: by an interface into the host, or from the host.
func (a *arena) send(p probe) {
	for _, b := range a.encode(p) {
		if p.direction == filter.Outbound {
			fd := a.raw[p.src.Is6()]
			if p.own {
				fd = a.marked[p.src.Is6()]
			}
			var to unix.Sockaddr = &unix.SockaddrInet4{Addr: [4]byte(p.dst.AsSlice())}
			if p.dst.Is6() {
				to6 := &unix.SockaddrInet6{Addr: p.dst.As16()}
				if p.dst.IsMulticast() {
					to6.ZoneId = uint32(slices.Min(slices.Collect(maps.Keys(a.links))))
				}
				to = to6
			}
			unix.Sendto(fd, b, 0, to) // what is dropped fails
			continue
		}
		x := a.taps[p.via]
		if x.ethernet != nil {
			kind := byte(0x08)
			if p.src.Is6() {
				kind = 0x86
			}
			frame := append(slices.Clone(x.ethernet), kind, 0x00)
			if p.src.Is6() {
				frame[13] = 0xdd
			}
			b = append(frame, b...)
		}
		_, err := unix.Write(x.fd, b)
		must(a.t, err)
	}
}
