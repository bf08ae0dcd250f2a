package ike

import (
	"crypto/hmac"
	"net/netip"
	"slices"
	"time"

	"github.com/ipsecfw/ipsecfw/ipsec"
)

// ChildPolicy is what a rule with the action "negotiate" asks of a Child SA.
type ChildPolicy struct {
	Name      string // the rule's name
	Mode      ipsec.Mode
	Proposals []ipsec.Proposal // ESP and AH, in order of preference; SPIs are filled in by the machine
	// Around is the Child SA of AH that the packets of this one of ESP go in: in
	// transport mode, for protocol 50 between the two hosts; nil for ESP alone.
	Around *ChildPolicy
	Outer  bool // this is the Around of others
	// Local and Remote bound the selectors: nothing outside them is ever
	// offered or accepted. The machine replaces no address in them.
	Local, Remote []ipsec.TrafficSelector
	Lifetime      time.Duration // after which the SA ends, rekeyed before if it can be; 0 for no limit
	ForceUDP      bool          // UDP encapsulation even without a NAT, if this Child SA begins the IKE SA
	// Auth and PeerID are what the peer must have proved for this rule. It
	// authenticates once, as Policy says, and that need not do for every rule
	// that concerns its address. Without methods nothing does.
	Auth   []AuthMethod
	PeerID string     // empty for any that authenticates
	Peers  *PeerGroup // whom the peer must belong to; nil for anyone who authenticates
	// PPKRequired and Legacy say of what IKE SA the keys may come, which may
	// have been made by another rule's policy: of none without a post-quantum
	// preshared key, and, unless Legacy, of none with weak algorithms.
	PPKRequired, Legacy bool
}

// Policy is how to deal with one peer.
type Policy struct {
	Proposals []ipsec.Proposal // for the IKE SA, in order of preference; empty for DefaultProposals
	Auth      []AuthMethod     // in order of preference; the peer may use any of them
	LocalID   string           // the identity to claim with a preshared key; empty for the local address
	PeerID    string           // the only identity that the peer may have; empty for any that authenticates
	Peers     *PeerGroup       // whom the peer must belong to; nil for anyone who authenticates
	// Patience is how long the first message of an IKE SA that we begin may
	// stay without any answer before what asked for it fails with ErrNoIKE; 0
	// for as long as it is sent again, which is the most.
	Patience time.Duration
	// MaxChildren is how many Child SAs may ever be made on an IKE SA by either
	// end, those that replace others not counted; 0 for any number. More of
	// them get an IKE SA of their own, and one that has had all and has none
	// any more is deleted. 1 gives each Child SA a key exchange that it shares
	// with no other.
	MaxChildren int
	Liveness    time.Duration // after how much silence the peer is asked whether it lives; 0 for 30 s
	Lifetime    time.Duration // after which the IKE SA is rekeyed; 0 for no limit
	ForceUDP    bool          // UDP encapsulation of all Child SAs even without a NAT

	// Reauth is after how long the peers authenticate anew; 0 for never. What
	// the peer says with AUTH_LIFETIME and the end of its certificate may come
	// sooner. A responder tells the peer (RFC 4478).
	Reauth time.Duration
	// FragmentSize is the largest IP datagram, in bytes, with a part of a
	// message (RFC 7383); 0 for 1280, negative to send and accept no fragments.
	FragmentSize int
	// Window is how many requests the peer may have under way at a time, which
	// it is told (RFC 7296 section 2.3); 0 for 8.
	Window int
	// PPKs are the post-quantum preshared keys that may be shared with the
	// peer (RFC 8784): an initiator uses the first, a responder any. With
	// PPKRequired an IKE SA without one is refused.
	PPKs        []PPK
	PPKRequired bool
	// Childless begins IKE SAs without a Child SA where the peer can, and asks
	// for the Child SA in an exchange of its own with its own key exchange
	// (RFC 6023).
	Childless bool
}

// PPK is a post-quantum preshared key (RFC 8784).
type PPK struct {
	ID     string // by which both ends know it, never empty
	Secret []byte // at least 32 bytes for 128 bits of security against a quantum computer
}

// String names the key without its secret.
func (k PPK) String() string { return "PPK " + k.ID }

func (k PPK) equal(l PPK) bool { return k.ID == l.ID && hmac.Equal(k.Secret, l.Secret) }

// GoString keeps the secret out of %#v.
func (k PPK) GoString() string { return "ike.PPK{" + k.ID + "}" }

// SameMeaning reports whether two rules ask the same of a Child SA and of the
// peer, whichever packets they are for. The name counts, as it does to those
// who follow the SAs of a rule.
func (p ChildPolicy) SameMeaning(q ChildPolicy) bool {
	return p.Name == q.Name && p.Mode == q.Mode && p.Lifetime == q.Lifetime && p.ForceUDP == q.ForceUDP && p.Outer == q.Outer &&
		slices.EqualFunc(p.Proposals, q.Proposals, sameTransforms) &&
		(p.Around == nil) == (q.Around == nil) && (p.Around == nil || p.Around.SameMeaning(*q.Around)) &&
		p.PPKRequired == q.PPKRequired && p.Legacy == q.Legacy &&
		p.PeerID == q.PeerID && p.Peers.equal(q.Peers) && SameMethods(p.Auth, q.Auth)
}

func sameTransforms(p, q ipsec.Proposal) bool {
	return p.Protocol == q.Protocol && slices.Equal(p.Transforms, q.Transforms)
}

// Policies finds what a host has to say about a peer. The Manager asks it
// for each IKE SA, for each Child SA that a peer wants, and for each that we
// asked for ourselves, before it is installed: policies may have changed on the
// way.
type Policies interface {
	// Peer returns how to deal with the peer at an address; ok is false
	// when no rule concerns it, and it gets no answer.
	Peer(local, remote netip.Addr) (p Policy, ok bool)
	// Child returns the rules that may accept what a peer proposed, in
	// order of specificity. Local and Remote are the peer's selectors from
	// our point of view, and transport says whether it asked for transport
	// mode.
	Child(localAddr, remoteAddr netip.Addr, local, remote []ipsec.TrafficSelector, transport bool) []ChildPolicy
}
