package test

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/ipsecfw/ipsecfw/filter"
	"github.com/ipsecfw/ipsecfw/test/lab"
)

// field is where probes fly: hosts whose addresses have names. A probe is a
// single packet that a raw socket sends; raw sockets hear it behind the
// receiver's firewall. Whether it came is known without a wait: the one way
// that there is keeps the order, and a last packet, which every policy of the
// tests permits, comes after all others.
type field struct {
	parties map[string]*party
	ears    map[*lab.Host]*ear
	next    uint64 // number of the next probe
}

// party is an address of a host.
type party struct {
	host *lab.Host
	addr netip.Addr
	// device of the host by which probes go to multicast addresses.
	device string
}

// heardProtocols are those that ears hear.
var heardProtocols = []int{1, 6, 17, 46, 47, 58, 88, 132, 136, 253}

// The ports between which the last packet goes.
const lastFrom, lastTo = 40000, 40001

func newField(t *testing.T) *field {
	t.Helper()
	return &field{parties: map[string]*party{}, ears: map[*lab.Host]*ear{}, next: uint64(time.Now().UnixNano())}
}

// join gives addresses of a host names, and the host ears.
func (f *field) join(t *testing.T, h *lab.Host, device string, names map[string]string) {
	t.Helper()
	for name, addr := range names {
		f.parties[name] = &party{h, netip.MustParseAddr(addr), device}
	}
	if f.ears[h] == nil {
		f.ears[h] = newEar(t, h)
	}
}

// lastFilters are the filters that permit the last packets, for policies.
func (f *field) lastFilters() string {
	var v4, v6 []string
	for _, p := range f.parties {
		if p.addr.Is4() {
			v4 = append(v4, p.addr.String())
		} else {
			v6 = append(v6, strconv.Quote(p.addr.String()))
		}
	}
	var out strings.Builder
	for _, all := range []string{strings.Join(v4, ", "), strings.Join(v6, ", ")} {
		if all != "" {
			fmt.Fprintf(&out, "    - {from: [%s], to: [%s], protocol: udp, from-port: %d, to-port: %d}\n", all, all, lastFrom, lastTo)
		}
	}
	return out.String()
}

// probe is a packet. Groups of hosts have no name: their addresses stand for
// themselves.
type probe struct {
	from, to   *party
	protocol   int
	a, b       uint16 // ports, or type and code
	number     uint64
	writtenOut string
}

// parse reads a probe as tests write it: FROM TO PROTOCOL, then two ports or
// an ICMP type and code. A party "@ADDRESS" has no ears, and whoever hears it
// is named after it: "@224.0.0.1=peer".
func (f *field) parse(t *testing.T, text string) *probe {
	t.Helper()
	words := strings.Fields(text)
	p := &probe{writtenOut: text, number: f.next}
	f.next++
	if len(words) != 3 && len(words) != 5 {
		t.Fatalf("probe %q has %d words", text, len(words))
	}
	p.from = f.parties[words[0]]
	if group, hearer, ok := strings.Cut(words[1], "="); ok {
		addr, err := netip.ParseAddr(strings.TrimPrefix(group, "@"))
		must(t, err)
		p.to = &party{f.parties[hearer].host, addr, ""}
	} else {
		p.to = f.parties[words[1]]
	}
	if p.from == nil || p.to == nil {
		t.Fatalf("probe %q is of nobody", text)
	}
	if n, ok := filter.ProtocolNumber(words[2]); ok {
		p.protocol = int(n)
	} else {
		n, err := strconv.ParseUint(words[2], 10, 8)
		must(t, err)
		p.protocol = int(n)
	}
	for i, into := range []*uint16{&p.a, &p.b} {
		if len(words) == 5 {
			n, err := strconv.ParseUint(words[3+i], 10, 16)
			must(t, err)
			*into = uint16(n)
		}
	}
	return p
}

// payload is what follows the IP header. It ends with the probe's number.
func (p *probe) payload() []byte {
	var b []byte
	sumAt, pseudo := 0, true
	switch p.protocol {
	case 1, 58:
		b = []byte{byte(p.a), byte(p.b), 0, 0, 0, 7, 0, 1}
		sumAt, pseudo = 2, p.protocol == 58
	case 6: // a SYN
		b = make([]byte, 20)
		b[7], b[12], b[13], b[14] = 1, 5<<4, 2, 0xff
		sumAt = 16
	case 17, 136:
		b = make([]byte, 8)
		binary.BigEndian.PutUint16(b[4:], 16)
		sumAt = 6
	case 132: // the verification tag is 0: an INIT chunk comes
		b = make([]byte, 12)
		b = append(b, 1, 0, 0, 12)
	case 47:
		b = []byte{0, 0, 0x88, 0xb5}
	default:
		b = make([]byte, 8)
	}
	if p.protocol == 6 || p.protocol == 17 || p.protocol == 132 || p.protocol == 136 {
		binary.BigEndian.PutUint16(b, p.a)
		binary.BigEndian.PutUint16(b[2:], p.b)
	}
	b = binary.BigEndian.AppendUint64(b, p.number)
	if sumAt == 0 {
		return b
	}
	summed := b
	if pseudo {
		summed = append(append(p.from.addr.AsSlice(), p.to.addr.AsSlice()...), 0, byte(p.protocol), 0, byte(len(b)))
		summed = append(summed, b...)
	}
	sum := internetChecksum(summed)
	if sum == 0 && p.protocol == 17 { // which would say that there is none (RFC 768)
		sum = 0xffff
	}
	binary.BigEndian.PutUint16(b[sumAt:], sum)
	return b
}

// send sends a probe. That the sender's own firewall refuses it is no error.
func (p *probe) send() error {
	return p.from.host.Do(func() error {
		family := unix.AF_INET
		if p.to.addr.Is6() {
			family = unix.AF_INET6
		}
		fd, err := unix.Socket(family, unix.SOCK_RAW|unix.SOCK_CLOEXEC, p.protocol)
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		index := 0
		if p.to.addr.IsMulticast() {
			i, err := net.InterfaceByName(p.from.device)
			if err != nil {
				return err
			}
			index = i.Index
			if err := unix.BindToDevice(fd, p.from.device); err != nil {
				return err
			}
		}
		if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_BROADCAST, 1); err != nil {
			return err
		}
		if err := unix.Bind(fd, sockaddr(p.from.addr, 0)); err != nil {
			return fmt.Errorf("bind to %v: %w", p.from.addr, err)
		}
		err = unix.Sendto(fd, p.payload(), 0, sockaddr(p.to.addr, index))
		if errors.Is(err, unix.EPERM) {
			return nil
		}
		return err
	})
}

func sockaddr(a netip.Addr, index int) unix.Sockaddr {
	if a.Is4() {
		return &unix.SockaddrInet4{Addr: a.As4()}
	}
	return &unix.SockaddrInet6{Addr: a.As16(), ZoneId: uint32(index)}
}

// ear hears all packets that a host's firewall lets in.
type ear struct {
	host *lab.Host
	fds  []int
}

func newEar(t *testing.T, h *lab.Host) *ear {
	t.Helper()
	e := &ear{host: h}
	must(t, h.Do(func() error {
		for _, family := range []int{unix.AF_INET, unix.AF_INET6} {
			for _, protocol := range heardProtocols {
				if protocol == 1 && family == unix.AF_INET6 || protocol == 58 && family == unix.AF_INET {
					continue
				}
				fd, err := unix.Socket(family, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, protocol)
				if err != nil {
					return err
				}
				e.fds = append(e.fds, fd)
				if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 8<<20); err != nil {
					return err
				}
			}
		}
		return nil
	}))
	t.Cleanup(func() {
		for _, fd := range e.fds {
			unix.Close(fd)
		}
	})
	return e
}

// until returns the numbers of what came up to a last one.
func (e *ear) until(t *testing.T, last uint64) map[uint64]bool {
	t.Helper()
	heard := map[uint64]bool{}
	buf := make([]byte, 1<<16)
	deadline := time.Now().Add(10 * time.Second)
	polled := make([]unix.PollFd, len(e.fds))
	// When the last packet was read, those before it are in other sockets: all
	// are read once more.
	for more := true; more; {
		more = !heard[last]
		for i, fd := range e.fds {
			polled[i] = unix.PollFd{Fd: int32(fd), Events: unix.POLLIN}
		}
		if more {
			if _, err := unix.Poll(polled, int(max(time.Until(deadline), 0)/time.Millisecond)); err != nil && err != unix.EINTR {
				t.Fatal(err)
			} else if time.Now().After(deadline) {
				t.Fatalf("the last packet has not come to %s", e.host.Name)
			}
		}
		for _, fd := range e.fds {
			for {
				n, err := unix.Read(fd, buf)
				if err != nil {
					break
				}
				if n >= 8 {
					heard[binary.BigEndian.Uint64(buf[n-8:])] = true
				}
			}
		}
	}
	return heard
}

// fly sends probes, and says of each whether it came.
func (f *field) fly(t *testing.T, texts ...string) map[string]bool {
	t.Helper()
	type pair struct{ from, to *party }
	var last []pair
	var probes []*probe
	for _, text := range texts {
		p := f.parse(t, text)
		probes = append(probes, p)
		way := pair{p.from, p.to}
		if way.to.device == "" { // a group: to whoever hears it, by the same cable
			way.to = f.partyOf(way.to.host, way.from.addr.Is4())
		}
		if !slices.Contains(last, way) {
			last = append(last, way)
		}
		if err := p.send(); err != nil {
			t.Fatalf("probe %q: %v", text, err)
		}
	}
	heard := map[*lab.Host]map[uint64]bool{}
	for _, way := range last {
		p := &probe{from: way.from, to: way.to, protocol: 17, a: lastFrom, b: lastTo, number: f.next}
		f.next++
		must(t, p.send())
		for n := range f.ears[way.to.host].until(t, p.number) {
			if heard[way.to.host] == nil {
				heard[way.to.host] = map[uint64]bool{}
			}
			heard[way.to.host][n] = true
		}
	}
	came := map[string]bool{}
	for _, p := range probes {
		came[p.writtenOut] = heard[p.to.host][p.number]
	}
	return came
}

// partyOf returns an address of a host.
func (f *field) partyOf(h *lab.Host, v4 bool) *party {
	for _, p := range f.parties {
		if p.host == h && p.addr.Is4() == v4 {
			return p
		}
	}
	return nil
}

// expect sends probes and fails the test unless just those come that ought to.
func (f *field) expect(t *testing.T, pass, stop []string) {
	t.Helper()
	came := f.fly(t, append(append([]string{}, pass...), stop...)...)
	for _, text := range pass {
		if !came[text] {
			t.Errorf("%s: does not come", text)
		}
	}
	for _, text := range stop {
		if came[text] {
			t.Errorf("%s: comes, and ought not to", text)
		}
	}
}
