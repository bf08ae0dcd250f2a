// Package nfq is the data path: packets come from the kernel by NFQUEUE, are
// matched with the SPD, protected by an SA of the SAD, or held until there is
// one; sealed packets that arrive are opened, checked against the policy and
// given back to the stack by a TUN device.
//
//	queue.go    packets from the kernel, and the verdicts (go-nfqueue)
//	tun.go      clear packets into the stack
//	route.go    what makes a strict reverse path filter accept them
//	sad.go      the SAs at work
//	hold.go     packets that wait for an SA to leave by
//	early.go    packets that came before their SA
//	soft.go     peers that do not speak IKE
//	links.go    the interfaces and addresses of the host
//	engine.go   what they share: SPD, SAD, hold, counters
//	outbound.go queue to wire
//	way.go      the headers and SAs by which a packet leaves
//	toobig.go   what does not fit
//	path.go     how much fits
//	nested.go   AH around ESP
//	arrivals.go AH, and ICMP errors about what we sent
//	nat*.go     transport mode through NATs: checksums, flows of peers at one address
//	inbound.go  wire to stack
//	audit.go    what the log is told of packets that are dropped
//
// ESP and AH are known here by the interfaces Sealer and Opener, IKE by Acquirer.
package nfq

import (
	"net/netip"

	"github.com/ipsecfw/ipsecfw/filter"
	"github.com/ipsecfw/ipsecfw/filter/packet"
	"github.com/ipsecfw/ipsecfw/ipsec"
)

// Sealer is the outbound half of a pair of SAs, of ESP or of AH. Its methods
// are safe for concurrent use.
type Sealer interface {
	// Seal appends an ESP or AH packet with the plaintext to dst. The plaintext
	// may stand HeaderLen bytes behind the end of dst already. An AH packet has
	// no ICV yet: Finish makes it.
	Seal(dst, plaintext []byte, nextHeader uint8) ([]byte, error)
	// Finish completes an IP packet that ends with what Seal has appended, and
	// whose IP header, of headerLen bytes with its options or extension headers,
	// is as it is to leave: protocol, lengths and identification are final. It
	// does nothing unless CoversHeader.
	Finish(ip []byte, headerLen int)
	Protocol() uint8           // of the packets that Seal makes: 50 or 51
	CoversHeader() bool        // whether the ICV covers the IP header (RFC 4302 section 3.3.3)
	HeaderLen() int            // bytes before the ciphertext
	Overhead(n int) int        // bytes that Seal adds to n bytes
	MaxPlaintext(size int) int // the longest plaintext whose packet has at most size bytes
	Counters() ipsec.Counters
	Wipe()
}

// Opener is the inbound half. Its methods are safe for concurrent use.
type Opener interface {
	// Open checks an ESP or AH packet and decrypts it in place: the payload is a
	// part of it. The header is the IP header that stood before it, with options
	// or extension headers, as it was received and reassembled. ESP does not look
	// at it, and gets nil; AH may change it, and puts it back.
	Open(header, pkt []byte) (payload []byte, nextHeader uint8, err error)
	Counters() ipsec.Counters
	Wipe()
}

// Acquirer asks the key exchange for an SA.
type Acquirer interface {
	// Acquire returns at once. It may be called for every packet that waits.
	// The decision has the filter that wants the packet secured.
	Acquire(d filter.Decision, p *packet.Packet)
	// UnknownSPI says that a packet came for an SA that does not exist. The
	// ports are those of UDP encapsulation, or 0.
	UnknownSPI(local, remote netip.AddrPort, spi ipsec.SPI)
	// Moved says that an authentic packet inside UDP came, under the SA with an
	// inbound SPI, from another place than the peer was at (RFC 7296 section 2.23).
	Moved(in ipsec.SPI, local, remote netip.AddrPort)
}

// Outer is what the headers say that the kernel makes.
type Outer struct {
	Local, Remote netip.AddrPort
	TrafficClass  uint8 // DSCP and ECN
	DF            bool  // in IPv4: not to be fragmented on the way
}

// Wire sends sealed packets.
type Wire interface {
	// SendUDP sends the ESP packets that stand back to back in b, each of size
	// bytes but the last, inside UDP. None is larger than the path.
	SendUDP(o Outer, b []byte, size int) error
	// SendIP sends the whole IP packets that stand back to back in b, each of
	// size bytes but the last, as they are. None is larger than the path. The
	// addresses are those of the headers; that of a link has its zone.
	SendIP(local, remote netip.Addr, b []byte, size int) error
}

// Injector gives clear packets to the host's stack.
type Injector interface {
	// Inject takes one packet, or with gsoSize greater than 0 several TCP
	// segments as one: hdrLen bytes of headers, then payload in pieces of
	// gsoSize bytes, and a TCP checksum at csumStart+csumOffset that is to be
	// completed.
	Inject(pkt []byte, gsoSize, hdrLen, csumStart, csumOffset int) error
}

// Host is what the data path asks about the host that it is on. Its methods
// are called for every packet.
type Host interface {
	Interface(index int) filter.Interface // the zero Interface for none
	Local(a netip.Addr) bool              // whether it is an address of the host
	// Source is the host's address for what it sends to another; ok is false
	// without a route. It is not for every packet.
	Source(to netip.Addr) (from netip.Addr, ok bool)
}

// Next headers of tunnel mode, and of packets that are thrown away (RFC 4303
// section 2.6).
const (
	ipv4InESP  = 4
	ipv6InESP  = 41
	dummyInESP = 59
)

const (
	protocolTCP = packet.TCP
	protocolUDP = packet.UDP
	protocolESP = packet.ESP
	protocolAH  = packet.AH
)

const udpHeaderLen = 8
