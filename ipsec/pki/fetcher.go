package pki

import (
	"context"
	"fmt"
	"time"
)

// Kind is what is fetched.
type Kind uint8

// The kinds.
const (
	KindCRL         Kind = iota + 1 // a certificate revocation list (RFC 5280 section 4.2.1.13)
	KindOCSP                        // an answer of an OCSP responder (RFC 6960 appendix A)
	KindCertificate                 // a certificate, of an issuer (RFC 5280 section 4.2.2.1) or of a peer (RFC 7296 section 3.6)
)

// String names the kind.
func (k Kind) String() string {
	switch k {
	case KindCRL:
		return "CRL"
	case KindOCSP:
		return "OCSP answer"
	case KindCertificate:
		return "certificate"
	}
	return fmt.Sprintf("kind %d", uint8(k))
}

// Request is what a Fetcher is asked for.
type Request struct {
	Kind Kind
	URL  string
	Body []byte // to be sent by POST; nil for GET
	// Key is what the value depends on beside URL and Body, such as the issuer
	// that Parse checks a signature with.
	Key string
	// Trusted says that the URL stands in a certificate that an authority of
	// ours vouches for, or in our own. Otherwise a peer of which nothing is
	// known made it up, perhaps to have us talk to somebody else.
	Trusted bool
	// Parse makes a value of what came and says until when it may be used
	// again. What it refuses is not kept. It may be called on any goroutine.
	Parse func(data []byte) (value any, until time.Time, err error)
}

// Fetcher gets what certificates point at. It is safe for concurrent use,
// bounds sizes and times, and keeps what it got.
type Fetcher interface {
	// Fetch returns what the request's Parse, or that of an earlier request
	// which differs from it in nothing else, has made of the answer.
	Fetch(ctx context.Context, r Request) (any, error)
}

// fetched asks a Fetcher for a value of the type that parse makes.
func fetched[T any](ctx context.Context, f Fetcher, r Request, parse func([]byte) (T, time.Time, error)) (T, error) {
	r.Parse = func(data []byte) (any, time.Time, error) { return parse(data) }
	v, err := f.Fetch(ctx, r)
	if err != nil {
		var none T
		return none, err
	}
	t, ok := v.(T)
	if !ok {
		return t, fmt.Errorf("%s: the fetcher returned a %T", r.URL, v)
	}
	return t, nil
}
