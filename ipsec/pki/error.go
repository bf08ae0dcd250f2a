package pki

import (
	"crypto/x509"
	"fmt"
	"strings"
	"time"
)

// Reason is why a certificate is not believed.
type Reason uint8

// The reasons.
const (
	Malformed         Reason = iota + 1 // it does not parse, or has a critical extension that nobody here knows
	Expired                             // its time is over, or our clock is ahead
	NotYetValid                         // its time has not come, or our clock is behind
	UnknownAuthority                    // no chain leads to an authority that the rule trusts
	NotAnAuthority                      // a certificate of the chain may not issue others, or not so many below it
	NameConstraints                     // an authority of the chain may not issue certificates for its names
	KeyUsage                            // it is for another use than IKE
	WeakKey                             // its key is too short, or of a kind that is not accepted, or too long to work with
	WeakSignature                       // it was signed with SHA-1 or MD5
	Revoked                             // its issuer has taken it back
	RevocationUnknown                   // whether it was taken back could not be learnt, and the policy is Strict
	NotForIdentity                      // it does not speak for the identity that the peer claims
	NotObtainable                       // it was to be got from a URL, and was not
)

var reasonNames = [...]string{
	"", "malformed", "expired", "not yet valid", "unknown authority", "not an authority", "name constraints",
	"key usage", "weak key", "weak signature", "revoked", "revocation unknown", "not for the identity", "not obtainable",
}

// String returns the reason in one or two words.
func (r Reason) String() string {
	if r == 0 || int(r) >= len(reasonNames) {
		return fmt.Sprintf("reason %d", uint8(r))
	}
	return reasonNames[r]
}

// CertificateError says why a certificate is not believed. It may be that of
// the peer, or of an authority on the way from it.
type CertificateError struct {
	Reason    Reason
	Subject   string // of the certificate; empty if it does not parse
	Issuer    string
	Serial    string    // in hexadecimal
	NotBefore time.Time // its dates, zero if it does not parse
	NotAfter  time.Time
	Now       time.Time // what our clock said
	Detail    string    // more, for people; may be empty
	Err       error     // what lies behind it; may be nil
}

// NewError describes what is wrong with a certificate, which is nil if it does
// not parse. Err may be nil.
func NewError(c *x509.Certificate, r Reason, now time.Time, err error) *CertificateError {
	return newError(c, r, now, err, "")
}

func newError(c *x509.Certificate, r Reason, now time.Time, err error, detail string, args ...any) *CertificateError {
	e := &CertificateError{Reason: r, Now: now, Detail: fmt.Sprintf(detail, args...), Err: err}
	if c != nil {
		e.Subject, e.Issuer, e.Serial = c.Subject.String(), c.Issuer.String(), Serial(c)
		e.NotBefore, e.NotAfter = c.NotBefore, c.NotAfter
	}
	return e
}

// Serial returns a certificate's serial number in hexadecimal.
func Serial(c *x509.Certificate) string {
	if c.SerialNumber == nil {
		return ""
	}
	return fmt.Sprintf("%x", c.SerialNumber)
}

// Error writes the certificate, the reason and what our clock says where that
// matters.
func (e *CertificateError) Error() string {
	var b strings.Builder
	b.WriteString("the certificate")
	if e.Subject != "" {
		fmt.Fprintf(&b, " of %q", e.Subject)
	}
	switch e.Reason {
	case Expired:
		fmt.Fprintf(&b, " expired at %s, and our clock says %s", date(e.NotAfter), date(e.Now))
	case NotYetValid:
		fmt.Fprintf(&b, " is not valid before %s, and our clock says %s", date(e.NotBefore), date(e.Now))
	case UnknownAuthority:
		fmt.Fprintf(&b, " was issued by %q, which leads to no authority that is trusted", e.Issuer)
	case NotAnAuthority:
		b.WriteString(" is of no authority that may issue what it issued")
	case NameConstraints:
		b.WriteString(" has names that its authorities may not give")
	case KeyUsage:
		b.WriteString(" is not for this use")
	case WeakKey:
		b.WriteString(" has a key that is not accepted")
	case WeakSignature:
		b.WriteString(" is signed with an algorithm that is not accepted")
	case Revoked:
		fmt.Fprintf(&b, ", number %s, was revoked by its issuer", e.Serial)
	case RevocationUnknown:
		b.WriteString(" may have been revoked, as far as we can learn")
	case NotForIdentity:
		b.WriteString(" does not speak for the identity")
	default:
		b.WriteString(": " + e.Reason.String())
	}
	if e.Detail != "" {
		b.WriteString(": " + e.Detail)
	}
	if e.Err != nil && e.Reason != UnknownAuthority { // which says it with more words
		fmt.Fprintf(&b, ": %v", e.Err)
	}
	return b.String()
}

// Unwrap returns Err.
func (e *CertificateError) Unwrap() error { return e.Err }

func date(t time.Time) string { return t.UTC().Format(time.RFC3339) }
