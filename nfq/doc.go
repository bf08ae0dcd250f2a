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
//	inbound.go  wire to stack
//
// ESP is known here by the interfaces Sealer and Opener, IKE by Acquirer.
package nfq

import (
	"net/netip"

	"github.com/ipsecfw/ipsecfw/filter"
	"github.com/ipsecfw/ipsecfw/filter/packet"
	"github.com/ipsecfw/ipsecfw/ipsec"
)

// Sealer is the outbound half of a pair of SAs. Its methods are safe for
// concurrent use.
type Sealer interface {
	// Seal appends an ESP packet with the plaintext to dst. The plaintext may
	// stand HeaderLen bytes behind the end of dst already.
	Seal(dst, plaintext []byte, nextHeader uint8) ([]byte, error)
	HeaderLen() int            // bytes before the ciphertext
	Overhead(n int) int        // bytes that Seal adds to n bytes
	MaxPlaintext(size int) int // the longest plaintext whose packet has at most size bytes
	Wipe()
}

// Opener is the inbound half. Its methods are safe for concurrent use.
type Opener interface {
	// Open decrypts a packet in place: the payload is a part of it.
	Open(pkt []byte) (payload []byte, nextHeader uint8, err error)
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
}

// Wire sends sealed packets.
type Wire interface {
	// SendESP sends the ESP packets that stand back to back in b, each of
	// size bytes but the last, inside UDP when encap is set.
	SendESP(encap bool, local, remote netip.AddrPort, trafficClass uint8, b []byte, size int) error
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
	protocolESP = 50
)

const udpHeaderLen = 8
