// Package ike is what every version of the key exchange shares: the
// machine's contract, policies and credentials, proposal selection,
// authentication, retransmission, and the Manager that gives machines their
// clock, sockets and packets.
//
// A machine does no I/O. Bytes, time and randomness go in, effects come out.
package ike

import (
	"net/netip"
	"time"

	"github.com/ipsecfw/ipsecfw/ipsec"
)

// Machine is one IKE SA, from its first message to its deletion. It is not
// safe for concurrent use: the Manager calls it from one goroutine.
type Machine interface {
	// Handle takes one event and returns what is to be done about it, in
	// order. An error says that the event was refused (a datagram that does
	// not parse or authenticate): the state is as it was before, and the
	// next datagram may be the good one.
	Handle(now time.Time, ev Event) ([]Effect, error)
	// Deadline says when the machine wants its next Tick.
	Deadline() (at time.Time, ok bool)
}

// Event is what happens to a machine: Datagram, Acquire, Tick, DeleteChild
// or Close.
type Event interface{ event() }

// Datagram is an IKE message that arrived, without the non-ESP marker.
type Datagram struct {
	Local, Remote netip.AddrPort
	Data          []byte
}

// Acquire asks for a Child SA. The first one on a new machine starts the
// IKE SA.
type Acquire struct {
	Child ChildPolicy
	// Local and Remote are the selectors of the packet that asked, the
	// first ones in TSi (RFC 7296 section 2.9).
	Local, Remote ipsec.TrafficSelector
}

// Tick says that the machine's deadline has passed.
type Tick struct{}

// DeleteChild removes one Child SA, named by our inbound SPI, and tells the
// peer.
type DeleteChild struct{ InSPI ipsec.SPI }

// Close deletes the IKE SA and all its children, and tells the peer.
type Close struct{ Reason string }

func (Datagram) event()    {}
func (Acquire) event()     {}
func (Tick) event()        {}
func (DeleteChild) event() {}
func (Close) event()       {}

// Effect is what a machine wants done: Send, InstallChild, RemoveChild,
// Established, Failed or Closed.
type Effect interface{ effect() }

// Send is a datagram to send, without the non-ESP marker, which the socket
// adds on port 4500.
type Send struct {
	Local, Remote netip.AddrPort
	Data          []byte
}

// InstallChild is a pair of SAs that both ends agreed on. A responder's
// machine gives it before the Send that carries the answer, so that the
// peer's first packet finds its SA.
type InstallChild struct {
	SA      *ipsec.ChildSA
	Rekeyed ipsec.SPI // the inbound SPI of the SA that this one replaces, or 0
}

// RemoveChild takes a pair of SAs out of the data path.
type RemoveChild struct {
	InSPI  ipsec.SPI
	Reason string
}

// Established says that the peer has been authenticated.
type Established struct{ Peer PeerInfo }

// Failed says that a negotiation ended without an SA. A Failed with Whole
// set ends the machine; without it, only the Child SA for Policy failed.
type Failed struct {
	Policy string // the rule whose packets are waiting
	Whole  bool
	Why    error // says the step, what each side wanted, and what to change
}

// Closed is a machine's last effect: the Manager forgets it.
type Closed struct{ Reason string }

func (Send) effect()         {}
func (InstallChild) effect() {}
func (RemoveChild) effect()  {}
func (Established) effect()  {}
func (Failed) effect()       {}
func (Closed) effect()       {}

// PeerInfo describes an IKE SA for people and for lists.
type PeerInfo struct {
	Version       uint8 // 1 or 2
	SPIi, SPIr    uint64
	Initiator     bool // we began
	Local, Remote netip.AddrPort
	LocalID       string
	RemoteID      string
	Auth          string         // how the peer proved itself: "preshared-key", "certificate CN=…"
	Proposal      ipsec.Proposal // what was chosen for the IKE SA
	NATLocal      bool           // we are behind a NAT
	NATRemote     bool           // the peer is
	Since         time.Time
}
