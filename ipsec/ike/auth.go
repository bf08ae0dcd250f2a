package ike

import (
	"context"
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
// PresharedKey or a Certificate. Sign and Verify may take long, as they may
// ask other hosts, and are called on any goroutine; the others are quick.
type AuthMethod interface {
	// Identity returns what we call ourselves; claimed is Policy.LocalID.
	Identity(claimed string, local netip.Addr) (wire.ID, error)
	// Sign returns our AUTH payload and the certificates to send with it,
	// our own first.
	Sign(ctx context.Context, s Signing) (*wire.Auth, []*wire.Cert, error)
	// Understands reports whether an AUTH payload of a method could be
	// verified: a responder looks for the method that its peer used.
	Understands(m wire.AuthMethod) bool
	// Verify checks the peer's AUTH payload and returns what the peer has
	// proved. The error wraps ErrAuthentication.
	Verify(ctx context.Context, v Verifying) (Proof, error)
	// Accepts reports whether what a peer proved by another method of this host
	// proves it by this one too: the same key, or a certificate that this
	// method would have believed at the time given. It asks no other host. The
	// error wraps ErrAuthentication.
	Accepts(p Proof, now time.Time) error
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
	ID     wire.ID      // who the peer says it is
	Certs  []*wire.Cert // as they came
	Now    time.Time
}

// Proof is what a peer has proved.
type Proof struct {
	By    AuthMethod // ours that verified it
	ID    wire.ID
	How   string              // for PeerInfo.Auth
	Chain []*x509.Certificate // verified, the peer's own first; nil without a certificate
	Until time.Time           // when it ceases to hold, as a certificate expires; zero for never
}

// Authenticate checks what a peer says and proves with whichever of the
// methods fits. An empty peerID means any identity that authenticates, and no
// group that it may be anyone's. The error wraps ErrAuthentication.
func Authenticate(ctx context.Context, methods []AuthMethod, peerID string, peers *PeerGroup, v Verifying) (Proof, error) {
	err := checkID(peerID, v.ID)
	if err != nil {
		return Proof{}, err
	}
	err = fmt.Errorf("%w: %s used the method %d, for which the policy has nothing", ErrAuthentication, v.ID, v.Auth.Method)
	for _, m := range methods {
		if !m.Understands(v.Auth.Method) {
			continue
		}
		var p Proof
		if p, err = m.Verify(ctx, v); err == nil {
			err = peers.admits(p)
		}
		if err == nil {
			return p, nil
		}
	}
	return Proof{}, err
}

// Entitled checks that what a peer proved does for a rule with these methods,
// peer-id and group. The error wraps ErrAuthentication.
func Entitled(methods []AuthMethod, peerID string, peers *PeerGroup, p Proof, now time.Time) error {
	if err := checkID(peerID, p.ID); err != nil {
		return err
	}
	err := fmt.Errorf("%w: the rule has no method by which %s proved itself", ErrAuthentication, p.ID)
	for _, m := range methods {
		if err = m.Accepts(p, now); err == nil {
			return peers.admits(p)
		}
	}
	return err
}

func checkID(want string, id wire.ID) error {
	if want != "" && !SameID(want, id) {
		return fmt.Errorf("%w: the peer is %s, and the policy wants %s", ErrAuthentication, id, want)
	}
	return nil
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
