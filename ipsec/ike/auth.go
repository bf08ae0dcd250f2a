package ike

import (
	"crypto/hmac"
	"crypto/x509"
	"fmt"
	"io"
	"net/netip"
	"slices"
	"time"

	"github.com/ipsecfw/ipsecfw/ipsec/ike/wire"
	"github.com/ipsecfw/ipsecfw/ipsec/xform"
)

// AuthMethod is one way in which both ends may prove who they are: a
// PresharedKey or a Certificate.
type AuthMethod interface {
	// Identity returns what we call ourselves; claimed is Policy.LocalID.
	Identity(claimed string, local netip.Addr) (wire.ID, error)
	// Sign returns our AUTH payload and the certificates to send with it,
	// our own first.
	Sign(s Signing) (*wire.Auth, []*wire.Cert, error)
	// Understands reports whether an AUTH payload of a method could be
	// verified: a responder looks for the method that its peer used.
	Understands(m wire.AuthMethod) bool
	// Verify checks the peer's AUTH payload and returns how the peer proved
	// itself, for PeerInfo.Auth. The error wraps ErrAuthentication.
	Verify(v Verifying) (how string, err error)
	// String names the method without its secret.
	String() string
}

// Signing is what a method needs to make our AUTH payload.
type Signing struct {
	PRF    xform.PRF
	Octets []byte     // what is signed, from SignedOctets
	Hashes []HashAlgo // those of the peer's SIGNATURE_HASH_ALGORITHMS; nil if there was none
	Rand   io.Reader
}

// Verifying is what a method needs to check a peer's AUTH payload.
type Verifying struct {
	PRF    xform.PRF
	Octets []byte
	Auth   *wire.Auth
	ID     wire.ID  // who the peer says it is
	Certs  [][]byte // DER, as they came
	Now    time.Time
}

// Authenticate checks what a peer says and proves with whichever of the
// methods fits. It returns that method, and how the peer proved itself. An
// empty peerID means any identity that authenticates, and no group that it may
// be anyone's. The error wraps ErrAuthentication.
func Authenticate(methods []AuthMethod, peerID string, peers *PeerGroup, v Verifying) (used AuthMethod, how string, err error) {
	if peerID != "" && !SameID(peerID, v.ID) {
		return nil, "", fmt.Errorf("%w: the peer is %s, and the policy wants %s", ErrAuthentication, v.ID, peerID)
	}
	err = fmt.Errorf("%w: %s used the method %d, for which the policy has nothing", ErrAuthentication, v.ID, v.Auth.Method)
	for _, m := range methods {
		if !m.Understands(v.Auth.Method) {
			continue
		}
		if how, err = m.Verify(v); err == nil {
			err = inGroup(m, peers, v)
		}
		if err == nil {
			return m, how, nil
		}
	}
	return nil, "", err
}

// inGroup checks whether a peer whom a method has verified is of a group.
func inGroup(m AuthMethod, peers *PeerGroup, v Verifying) error {
	if _, ok := certificate(m); !ok || peers == nil {
		return peers.admits(v.ID, nil)
	}
	c, err := x509.ParseCertificate(v.Certs[0])
	if err != nil {
		return fmt.Errorf("%w: the certificate of %s: %w", ErrAuthentication, v.ID, err)
	}
	return peers.admits(v.ID, c)
}

// SameMethods reports whether two lists hold the same keys, certificates and
// authorities in the same order.
func SameMethods(a, b []AuthMethod) bool { return slices.EqualFunc(a, b, sameMethod) }

func sameMethod(a, b AuthMethod) bool {
	if x, ok := a.(PresharedKey); ok {
		y, ok := b.(PresharedKey)
		return ok && hmac.Equal(x.Secret, y.Secret)
	}
	x, ok1 := certificate(a)
	y, ok2 := certificate(b)
	// The key is that of the first certificate.
	return ok1 && ok2 && slices.EqualFunc(x.Chain, y.Chain, (*x509.Certificate).Equal) && x.Authorities.Equal(y.Authorities)
}

// SignedOctets returns what one end signs (RFC 7296 section 2.15): its own
// first message as it was sent, the other end's nonce, and its own identity
// keyed with SK_pi or SK_pr.
func SignedOctets(prf xform.PRF, message, nonce, skp []byte, id wire.ID) []byte {
	body := append([]byte{byte(id.Kind), 0, 0, 0}, id.Data...)
	return slices.Concat(message, nonce, prf.Sum(skp, body))
}

// Promising orders the methods of a policy for an initiator that has seen the
// peer's IKE_SA_INIT: those that the peer is likely to accept come first,
// each part in the policy's order. A peer that asks for no certificate, or
// only for one of authorities that did not issue ours, hardly accepts ours;
// yet it may (RFC 7296 section 3.7).
func Promising(methods []AuthMethod, requests []*wire.CertReq) []AuthMethod {
	var likely, unlikely []AuthMethod
	for _, m := range methods {
		if asksFor(m, requests) {
			likely = append(likely, m)
		} else {
			unlikely = append(unlikely, m)
		}
	}
	return append(likely, unlikely...)
}

// Answering returns the method with which a responder answers a peer that
// proved itself with the method used: one of the same kind, and among several
// certificates the first that the peer's requests name.
func Answering(methods []AuthMethod, used AuthMethod, requests []*wire.CertReq) AuthMethod {
	if _, ok := certificate(used); !ok || asksFor(used, requests) {
		return used
	}
	for _, m := range methods {
		if _, ok := certificate(m); ok && asksFor(m, requests) {
			return m
		}
	}
	return used
}

func asksFor(m AuthMethod, requests []*wire.CertReq) bool {
	c, ok := certificate(m)
	if !ok {
		return true
	}
	return slices.ContainsFunc(requests, func(r *wire.CertReq) bool {
		return r.Encoding == wire.CertX509 && c.issuedByOneOf(r.Authorities)
	})
}

func certificate(m AuthMethod) (Certificate, bool) {
	switch m := m.(type) {
	case Certificate:
		return m, true
	case *Certificate:
		return *m, true
	}
	return Certificate{}, false
}
