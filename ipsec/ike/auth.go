package ike

import (
	"context"
	"crypto"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"slices"
	"time"

	"github.com/ipsecfw/ipsecfw/ipsec/ike/wire"
	"github.com/ipsecfw/ipsecfw/ipsec/pki"
	"github.com/ipsecfw/ipsecfw/ipsec/xform"
)

// AuthMethod is one way in which an end may prove who it is: a PresharedKey, a
// Certificate, a RawKey, or Null, which proves nothing. Sign and Verify may
// take long, as they may ask other hosts, and are called on any goroutine; the
// others are quick.
type AuthMethod interface {
	// Identity returns what we call ourselves; claimed is Policy.LocalID.
	Identity(claimed string, local netip.Addr) (wire.ID, error)
	// Proves reports whether we can prove ourselves by it. A method that has
	// authorities or peers' keys only is for peers alone.
	Proves() bool
	// Sign returns our AUTH payload and the certificates to send with it,
	// our own first.
	Sign(ctx context.Context, s Signing) (*wire.Auth, []*wire.Cert, error)
	// Understands reports whether an AUTH payload of a method could be
	// verified: a responder looks for the method that its peer used.
	Understands(m wire.AuthMethod) bool
	// Verify checks the peer's AUTH payload and returns what the peer has
	// proved. The error wraps ErrAuthentication, and where it says something
	// of a certificate a *pki.CertificateError.
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
	PRF      xform.PRF
	Octets   []byte       // what is signed, from SignedOctets
	SKp      []byte       // our SK_pi or SK_pr, which is the key of NULL authentication (RFC 7619 section 2.1)
	Hashes   []HashAlgo   // those of the peer's SIGNATURE_HASH_ALGORITHMS; nil if there was none
	Requests CertRequests // what certificates the peer takes
	Rand     io.Reader
	Now      time.Time
}

// Verifying is what a method needs to check a peer's AUTH payload.
type Verifying struct {
	PRF    xform.PRF
	Octets []byte
	SKp    []byte // the peer's SK_pi or SK_pr
	Auth   *wire.Auth
	ID     wire.ID      // who the peer says it is
	Certs  []*wire.Cert // as they came
	Now    time.Time
}

// Proof is what a peer has proved.
type Proof struct {
	By    AuthMethod          // ours that verified it
	ID    wire.ID             // ID_NULL if the peer proved nothing, whatever it called itself
	How   string              // for PeerInfo.Auth
	Chain []*x509.Certificate // verified, the peer's own first; nil without a certificate
	Key   crypto.PublicKey    // of a peer with a raw key
	Named bool                // of a peer with a raw key: the rule in hand lets it have no other name
	Until time.Time           // when it ceases to hold, as a certificate expires; zero for never
	Weak  bool                // it was signed with SHA-1
	// Revocation is the strictest policy that Chain satisfied when it was
	// verified. A rule with a stricter one does not take the proof.
	Revocation pki.Revocation
	// Unchecked says why it could not be learnt whether some of Chain was
	// revoked; nil where it could, or was not to be.
	Unchecked error
}

// Anonymous reports whether the peer proved nothing. What it says of itself is
// not to be acted on, such as INITIAL_CONTACT (RFC 7619 section 2.3).
func (p Proof) Anonymous() bool {
	_, ok := p.By.(Null)
	return ok
}

// The values of PeerInfo.Revocation.
const (
	RevocationChecked = "checked" // none of the peer's certificates was revoked
	RevocationUnknown = "unknown" // none is known to have been, and of some nothing could be learnt
	RevocationNowhere = "nowhere" // of some the authority does not say anywhere whether they were
	RevocationOff     = "off"     // the rule wants nobody to be asked
)

// Checked returns what is known of the revocation of the peer's certificates,
// for PeerInfo: one of the words above, or none without a certificate, and why
// it is not known.
func (p Proof) Checked() (word, why string) {
	switch {
	case len(p.Chain) == 0:
		return "", ""
	case p.Revocation == pki.Off:
		return RevocationOff, ""
	case p.Unchecked != nil:
		return RevocationUnknown, clip(p.Unchecked.Error())
	case p.Revocation == pki.IfPresent:
		return RevocationNowhere, ""
	}
	return RevocationChecked, ""
}

// What an authentication error may wrap beside ErrAuthentication.
var (
	// ErrWrongKey says that the AUTH payload was not made with the key that the
	// peer should have: another preshared key, or another private key than that
	// of the certificate.
	ErrWrongKey = errors.New("the AUTH payload was made with another key")
	// ErrNoMethod says that the peer used a method that the policy does not have.
	ErrNoMethod = errors.New("no authentication method in common")
	// ErrWeakMethod says that the peer signed with SHA-1, or can verify nothing
	// else; a Certificate with Legacy takes that.
	ErrWeakMethod = errors.New("signatures with SHA-1 are refused")
)

// AuthorizationError says that a peer is who it says, or might be, but is not
// one of those that may have the SAs of a rule. It wraps ErrAuthentication.
type AuthorizationError struct {
	Peer  string // the identity
	Group string // the PeerGroup that refuses it; empty if it is not of the rule's peer-id
	Why   string // a sentence without its end
	// Setting is the key of the rule file that refuses it; empty for peer-id.
	Setting string
}

// Error returns the whole of it, of a length that a peer does not choose.
func (e *AuthorizationError) Error() string { return ErrAuthentication.Error() + ": " + clip(e.Why) }

// Unwrap returns ErrAuthentication.
func (e *AuthorizationError) Unwrap() error { return ErrAuthentication }

// authorized checks that a peer that one of a rule's methods believes is the one
// that the rule wants, and of its group. Of several raw keys without names any would do for
// any name.
func authorized(methods []AuthMethod, m AuthMethod, peerID string, peers *PeerGroup, p Proof) error {
	if err := checkID(peerID, p.ID); err != nil {
		return err
	}
	if _, ok := m.(RawKey); ok {
		if p.Named = nameKey(methods, p.Key); peerID != "" && !p.Named {
			return &AuthorizationError{Peer: p.ID.String(), Why: fmt.Sprintf(
				"a raw key, of which the rule lists several, does not prove the name %s: name the key by its fingerprint in a group of peers, or list it alone", peerID)}
		}
	}
	return peers.admits(p)
}

// Authenticate checks what a peer says and proves with whichever of the
// methods fits. An empty peerID means any identity that authenticates, and no
// group that it may be anyone's. The error wraps ErrAuthentication.
func Authenticate(ctx context.Context, methods []AuthMethod, peerID string, peers *PeerGroup, v Verifying) (Proof, error) {
	if err := checkID(peerID, v.ID); err != nil {
		return Proof{}, err
	}
	var errs []error
	for _, m := range methods {
		if !m.Understands(v.Auth.Method) {
			continue
		}
		p, err := m.Verify(ctx, v)
		if err == nil {
			err = authorized(methods, m, peerID, peers, p)
		}
		if err == nil {
			return p, nil
		}
		errs = append(errs, err)
	}
	if len(errs) == 0 {
		return Proof{}, fmt.Errorf("%w: %w: %s used the method %q, for which the policy has nothing", ErrAuthentication, ErrNoMethod, v.ID, v.Auth.Method.String())
	}
	return Proof{}, eachOnce(errs)
}

// eachOnce makes one error of several, in one line, as several keys or
// authorities of a policy often say the same.
func eachOnce(errs []error) error {
	var said []string
	var all error
	for _, err := range errs {
		switch text := err.Error(); {
		case slices.Contains(said, text):
		case all == nil:
			all, said = err, []string{text}
		default:
			all, said = fmt.Errorf("%w; or %w", all, err), append(said, text)
		}
	}
	return all
}

// Entitled checks that what a peer proved does for a rule with these methods,
// peer-id and group. It asks no other host: a rule with a stricter revocation
// policy than the one that was in force when the peer authenticated refuses,
// until the peer authenticates anew. The error wraps ErrAuthentication.
func Entitled(methods []AuthMethod, peerID string, peers *PeerGroup, p Proof, now time.Time) error {
	if err := checkID(peerID, p.ID); err != nil {
		return err
	}
	err := fmt.Errorf("%w: the rule has no method by which %s proved itself", ErrAuthentication, p.ID)
	for _, m := range methods {
		if err = m.Accepts(p, now); err == nil {
			return authorized(methods, m, peerID, peers, p)
		}
	}
	return err
}

func checkID(want string, id wire.ID) error {
	if want != "" && !SameID(want, id) {
		return &AuthorizationError{Peer: id.String(), Why: fmt.Sprintf("the peer is %s, and the policy wants %s", id, want)}
	}
	return nil
}

// SameMethods reports whether two lists hold the same keys, certificates and
// authorities, to be used in the same way, in the same order.
func SameMethods(a, b []AuthMethod) bool { return slices.EqualFunc(a, b, sameMethod) }

func sameMethod(a, b AuthMethod) bool {
	switch x := a.(type) {
	case PresharedKey:
		y, ok := b.(PresharedKey)
		return ok && x.equal(y)
	case RawKey:
		y, ok := b.(RawKey)
		return ok && x.equal(y)
	case Null:
		return b == x
	}
	x, ok1 := certificate(a)
	y, ok2 := certificate(b)
	return ok1 && ok2 && x.equal(y)
}

// SignedOctets returns what one end signs (RFC 7296 section 2.15): its own
// first message as it was sent, the other end's nonce, and its own identity
// keyed with SK_pi or SK_pr.
func SignedOctets(prf xform.PRF, message, nonce, skp []byte, id wire.ID) []byte {
	body := append([]byte{byte(id.Kind), 0, 0, 0}, id.Data...)
	return slices.Concat(message, nonce, prf.Sum(skp, body))
}
