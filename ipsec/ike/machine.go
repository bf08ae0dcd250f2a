// Package ike is what every version of the key exchange shares: the
// machine's contract, policies and credentials, proposal selection,
// authentication, retransmission, and the Manager that gives machines their
// clock, sockets and packets.
//
// A machine does no I/O. Bytes, time and randomness go in, effects come out.
package ike

import (
	"context"
	"io"
	"net/netip"
	"time"

	"github.com/ipsecfw/ipsecfw/ipsec"
	"github.com/ipsecfw/ipsecfw/ipsec/ike/wire"
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

// MachineConfig is what a new machine is told about its peer and its world.
type MachineConfig struct {
	Local, Remote netip.AddrPort
	// Ends are the addresses by which rules are chosen, where the peer has
	// moved away from them; those of Local and Remote if zero.
	Ends     Ends
	Policy   Policy
	Policies Policies  // asked for the Child SAs that the peer wants, and when the IKE SA is rekeyed
	Rand     io.Reader // cryptographic randomness

	// NewSPI returns an inbound SPI that no SA of this host has. One that
	// comes to nothing is forgotten, so it must not be kept reserved.
	NewSPI func() ipsec.SPI
	// NewIKESPI returns an IKE SPI, never 0, that no IKE SA of this host
	// has. Datagrams that bear it belong to this machine until it is Closed.
	NewIKESPI func() uint64
	// FreeIKESPI, if set, is told of each of these that the machine has no use
	// for any more, before it is Closed.
	FreeIKESPI func(spi uint64)
	// FirstContact reports whether this host has no other IKE SA with the
	// peer, which the initiator tells it (RFC 7296 section 2.4, INITIAL_CONTACT).
	FirstContact func() bool
	// Traffic returns how many packets the data path has received and sent on
	// the Child SA with an inbound SPI; both are 0 for one that it does not
	// have. What grows is a sign of life, or of a wish for one
	// (RFC 7296 section 2.4). Nil means that nothing is known.
	Traffic func(in ipsec.SPI) (received, sent uint64)

	// Trace, if set, is told of every message, as soon as its contents are
	// known. It must not keep the payloads, and must not call back.
	Trace func(Message)
	// KeyLog, if set, gets the secrets of every IKE SA, so that a capture can
	// be read. It breaks all protection: it is for debugging alone.
	KeyLog func(Secrets)
}

// Ends are the hosts at both ends of an IKE SA, as rules know them.
type Ends struct{ Local, Remote netip.Addr }

// Message is an IKE message for a trace, with its contents in clear.
type Message struct {
	At            time.Time
	Sent          bool // or else received
	Again         bool // it was sent or received before
	Local, Remote netip.AddrPort
	Header        wire.Header
	Payloads      []wire.Payload
	Size          int // bytes of all its datagrams
	Fragments     int // of RFC 7383; 0 for a message in one piece
}

// Secrets are the keys of an IKE SA, as a dissector wants them
// (RFC 7296 section 2.14). The slices are to be copied, not kept.
type Secrets struct {
	SPIi, SPIr             uint64
	Encr, Integ            ipsec.Transform // Integ is zero for an AEAD
	SKei, SKer, SKai, SKar []byte          // SKei and SKer with the salt of an AEAD
}

// Event is what happens to a machine: Datagram, Acquire, Tick, Done, Probe,
// Moved, RekeyChild, RekeyIKE, DeleteChild or Close.
type Event interface{ event() }

// Datagram is an IKE message that arrived, without the non-ESP marker. The
// machine may keep parts of Data, which must not change any more.
type Datagram struct {
	Local, Remote netip.AddrPort
	Data          []byte
}

// Acquire asks for a Child SA. The first one on a new machine starts the
// IKE SA. One that the IKE SA has no room for fails with ErrFull, and is for
// another.
type Acquire struct {
	Child ChildPolicy
	// Local and Remote are the selectors of the packet that asked, the
	// first ones in TSi (RFC 7296 section 2.9).
	Local, Remote ipsec.TrafficSelector
	// Sole has the Child SA take the place of those of the same rule that it
	// covers: they are deleted when it stands.
	Sole bool
}

// Tick says that the machine's deadline has passed.
type Tick struct{}

// Probe says that something nobody vouches for hints that the peer has
// forgotten us, as an INVALID_SPI notification does (RFC 7296 section 2.4).
// The machine asks the peer whether it lives, and waits a few seconds only.
// It does so at most once in ten seconds.
type Probe struct{}

// Moved says that an authentic packet of one of the Child SAs, which nobody has
// sent before, came from another place than the peer was at: its NAT may have
// given it another port (RFC 7296 section 2.23). The machine finds out whether
// the peer is there.
type Moved struct{ Local, Remote netip.AddrPort }

// RekeyChild begins to replace one Child SA, named by our inbound SPI, unless
// that is on its way already or the SA is being deleted.
type RekeyChild struct{ InSPI ipsec.SPI }

// RekeyIKE begins to replace the keys of the IKE SA, unless that is on its way
// already.
type RekeyIKE struct{}

// Done brings the result of a Work.
type Done struct {
	ID     uint64
	Result any
}

// DeleteChild removes one Child SA, named by our inbound SPI, and tells the
// peer.
type DeleteChild struct{ InSPI ipsec.SPI }

// Close deletes the IKE SA and all its children. The peer is told, except
// with Silent, which is for an IKE SA that the peer no longer knows. With Drain
// the children stay in the data path until the peer has answered, for what is
// still on its way: others have taken their place.
type Close struct {
	Reason string
	Silent bool
	Drain  bool
}

func (Datagram) event()    {}
func (Acquire) event()     {}
func (Tick) event()        {}
func (Probe) event()       {}
func (Moved) event()       {}
func (RekeyChild) event()  {}
func (RekeyIKE) event()    {}
func (Done) event()        {}
func (DeleteChild) event() {}
func (Close) event()       {}

// Effect is what a machine wants done: Send, Work, InstallChild, RemoveChild,
// Established, Changed, Renew, Failed or Closed.
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
	// Standby says that the peer began the rekeying and may not have the SA
	// yet: receive under it, and go on sending under Rekeyed until that is
	// removed (RFC 7296 section 2.8).
	Standby bool
	// More says that the rule's packets need another Child SA still, which
	// follows: this one is of AH, and they go as ESP inside it.
	More bool
}

// RemoveChild takes a pair of SAs out of the data path: at once if this host
// wants so, or else Late, so that what the peer has sent under it before still
// comes in.
type RemoveChild struct {
	InSPI  ipsec.SPI
	Reason string
	Late   bool
}

// Established says that the peer has been authenticated.
type Established struct {
	Peer PeerInfo
	// InitialContact says that the peer knows of no other IKE SA with us:
	// what was established before this machine began is dead
	// (RFC 7296 section 2.4).
	InitialContact bool
}

// Changed says that what Established told is different now: the IKE SA was
// rekeyed and has new SPIs, or the peer's NAT gave it another address.
type Changed struct{ Peer PeerInfo }

// Work is what takes too long to be done between two packets: making or
// checking a signature, looking at certificates and fetching what they need.
// Do is called once, on any goroutine, and touches nothing of the machine; its
// context ends when the machine is closed. The machine goes on when it gets
// Done with the same ID. The numbers are those of one machine.
type Work struct {
	ID uint64
	Do func(ctx context.Context) any
}

// Renew says that the peers have to authenticate anew, for Reason, before At:
// another machine is to be made that asks for the same Child SAs, and this one
// to be closed when they stand (make before break, RFC 7296 section 2.8.3).
// At At the machine closes itself.
type Renew struct {
	Reason   string
	At       time.Time
	Children []Acquire // what to ask for
}

// Failed says that a negotiation ended without an SA. With Whole set the IKE
// SA failed, and with it all that was asked of the machine, and Closed will
// follow, perhaps later, as the machine still answers a peer that did not
// hear the refusal. Without it, only the Child SA for Policy failed, and if
// Why is ErrFull, another IKE SA would do.
type Failed struct {
	Policy string // the rule whose packets are waiting; empty if the peer asked
	Whole  bool
	Why    error // a *NegotiationError where a negotiation took place
}

// Closed is a machine's last effect: the Manager forgets it.
type Closed struct{ Reason string }

func (Send) effect()         {}
func (Work) effect()         {}
func (Renew) effect()        {}
func (InstallChild) effect() {}
func (RemoveChild) effect()  {}
func (Established) effect()  {}
func (Changed) effect()      {}
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
	Anonymous     bool           // the peer has proved nothing
	Auth          string         // how the peer proved itself: "preshared-key", "certificate CN=…"
	Revocation    string         // of its certificates: one of the words of Proof.Checked; empty without a certificate
	Unchecked     string         // why it is not known, of a length that the peer does not choose
	Proposal      ipsec.Proposal // what was chosen for the IKE SA
	NATLocal      bool           // we are behind a NAT
	NATRemote     bool           // the peer is
	Fragmentation bool           // both ends cut large messages (RFC 7383)
	PPK           string         // the name of the post-quantum preshared key in use, or empty (RFC 8784)
	Childless     bool           // the peer can do without a Child SA in IKE_AUTH (RFC 6023)
	Window        int            // how many requests the peer takes at a time
	Since         time.Time
	Renew         time.Time // when the peers have to authenticate anew, or zero
}
