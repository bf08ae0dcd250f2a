package ike

import (
	"crypto"
	"crypto/x509"
	"net/netip"
	"time"

	"github.com/ipsecfw/ipsecfw/ipsec"
)

// ChildPolicy is what a rule with the action "negotiate" asks of a Child SA.
type ChildPolicy struct {
	Name      string // the rule's name
	Mode      ipsec.Mode
	Proposals []ipsec.Proposal // ESP, in order of preference; SPIs are filled in by the machine
	// Local and Remote bound the selectors: nothing outside them is ever
	// offered or accepted. The machine replaces no address in them.
	Local, Remote []ipsec.TrafficSelector
	Lifetime      time.Duration // after which the SA is rekeyed; 0 for no limit
	ForceUDP      bool          // UDP encapsulation even without a NAT
}

// Policy is how to deal with one peer.
type Policy struct {
	Proposals []ipsec.Proposal // for the IKE SA, in order of preference
	Auth      []AuthMethod     // in order of preference; the peer may use any of them
	LocalID   string           // the identity to claim with a preshared key; empty for the local address
	Liveness  time.Duration    // how long a peer that owes us an answer may be silent; 0 for 30 s
}

// AuthMethod is one way in which both ends may prove who they are: a
// PresharedKey or a Certificate.
type AuthMethod interface{ authMethod() }

// PresharedKey is a secret that both ends know (RFC 7296 section 2.15).
type PresharedKey struct {
	Secret []byte
}

// Certificate is our own certificate with its key, and the authorities that
// we believe.
type Certificate struct {
	Chain       []*x509.Certificate // our own first, then intermediates
	Key         crypto.Signer
	Authorities *x509.CertPool
	Roots       []*x509.Certificate // the certificates in Authorities, for certificate requests
}

func (PresharedKey) authMethod() {}
func (Certificate) authMethod()  {}

// Policies finds what a host has to say about a peer. The Manager asks it
// for each IKE SA and each Child SA that a peer wants.
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
