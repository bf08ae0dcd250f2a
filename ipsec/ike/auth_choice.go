package ike

import (
	"crypto/sha1"
	"crypto/x509"
	"slices"

	"github.com/ipsecfw/ipsecfw/ipsec/ike/wire"
	"github.com/ipsecfw/ipsecfw/ipsec/pki"
)

// CertRequests is what a peer says of the certificates that it takes: its
// CERTREQ payloads, and whether it looks certificates up by their URLs
// (RFC 7296 sections 3.6 and 3.7).
type CertRequests struct {
	Certs  []*wire.CertReq
	Lookup bool // HTTP_CERT_LOOKUP_SUPPORTED
}

// Note adds what the payloads of a message say.
func (r *CertRequests) Note(ps []wire.Payload) {
	for _, p := range ps {
		switch p := p.(type) {
		case *wire.CertReq:
			r.Certs = append(slices.Clip(r.Certs), p) // a copy of r may grow by itself
		case *wire.Notify:
			r.Lookup = r.Lookup || p.Kind == wire.HTTPCertLookupSupported
		}
	}
}

// asks reports whether there is a request with an encoding.
func (r CertRequests) asks(e wire.CertEncoding) bool {
	return slices.ContainsFunc(r.Certs, func(c *wire.CertReq) bool { return c.Encoding == e })
}

// RequestCerts returns what tells a peer which certificates and keys the
// methods take: certificate requests, and HTTP_CERT_LOOKUP_SUPPORTED.
//
//	[CERTREQ(X.509)], [CERTREQ(OCSP)], [CERTREQ(raw key)], [N(HTTP_CERT_LOOKUP_SUPPORTED)]
//
// An initiator sends it in its first IKE_AUTH request, a responder in its
// answer to IKE_SA_INIT.
func RequestCerts(methods []AuthMethod) (ps []wire.Payload) {
	var authorities []byte
	var certs, ocsp, raw, lookup bool
	for _, m := range methods {
		if k, ok := m.(RawKey); ok && len(k.Peers) > 0 {
			raw = true
		}
		c, ok := certificate(m)
		if !ok || len(c.Roots) == 0 {
			continue
		}
		certs = true
		ocsp = ocsp || c.Revocation != pki.Off
		lookup = lookup || c.Lookup && c.Fetcher != nil
		for _, root := range c.Roots {
			if h := keyHash(root); !c.excludes(root) && !hasHash(authorities, h) {
				authorities = append(authorities, h...)
			}
		}
	}
	if certs {
		// Without a name, as all are excluded, it asks for a certificate of anybody.
		ps = append(ps, &wire.CertReq{Encoding: wire.CertX509, Authorities: authorities})
	}
	if ocsp {
		// No responder is named: that of the issuer is meant (RFC 4806 section 3.1).
		ps = append(ps, &wire.CertReq{Encoding: wire.CertOCSP})
	}
	if raw {
		ps = append(ps, &wire.CertReq{Encoding: wire.CertRawKey})
	}
	if lookup {
		ps = append(ps, &wire.Notify{Kind: wire.HTTPCertLookupSupported})
	}
	return ps
}

// Promising orders the methods of a policy for an initiator that has seen the
// peer's IKE_SA_INIT: those that the peer is likely to accept come first,
// each part in the policy's order. A peer that asks for no certificate, or
// only for one of authorities that did not issue ours, hardly accepts ours;
// yet it may (RFC 7296 section 3.7). Methods that prove nothing of us are left
// out, unless there are no others.
func Promising(methods []AuthMethod, r CertRequests) []AuthMethod {
	var likely, unlikely []AuthMethod
	for _, m := range methods {
		switch {
		case !m.Proves():
		case asksFor(m, r):
			likely = append(likely, m)
		default:
			unlikely = append(unlikely, m)
		}
	}
	if len(likely)+len(unlikely) == 0 {
		return methods // which say what they lack
	}
	return append(likely, unlikely...)
}

// Answering returns the method with which a responder answers a peer that
// proved itself with the method used: one of the same kind, and among several
// certificates the first that the peer's requests name. Where that proves
// nothing of us, or the peer itself proved nothing, it is the first of any
// kind that the peer asks for, and else the first that we can prove ourselves
// by (RFC 7296 section 2.15: the two ends need not use the same method).
func Answering(methods []AuthMethod, used AuthMethod, r CertRequests) AuthMethod {
	_, null := used.(Null)
	mutual := used.Proves() && !null
	if mutual && asksFor(used, r) {
		return used
	}
	var first AuthMethod
	for _, m := range methods {
		_, anonymous := m.(Null)
		switch {
		case !m.Proves() || mutual && !sameKind(m, used):
		case asksFor(m, r) && !anonymous:
			return m
		case first == nil:
			first = m
		}
	}
	if first == nil || mutual {
		return used
	}
	return first
}

func sameKind(a, b AuthMethod) bool {
	_, ok1 := certificate(a)
	_, ok2 := certificate(b)
	_, raw1 := a.(RawKey)
	_, raw2 := b.(RawKey)
	return ok1 && ok2 || raw1 && raw2
}

// asksFor reports whether a peer with these requests is likely to take a
// method of ours. Those that know each other's raw keys need not ask.
func asksFor(m AuthMethod, r CertRequests) bool {
	if _, ok := m.(RawKey); ok {
		return len(r.Certs) == 0 || r.asks(wire.CertRawKey)
	}
	c, ok := certificate(m)
	if !ok {
		return true
	}
	return slices.ContainsFunc(r.Certs, func(r *wire.CertReq) bool {
		return (r.Encoding == wire.CertX509 || r.Encoding == wire.CertHashAndURL) && c.issuedByOneOf(r.Authorities)
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

func keyHash(c *x509.Certificate) []byte {
	h := sha1.Sum(c.RawSubjectPublicKeyInfo)
	return h[:]
}

// hasHash looks for a SHA-1 hash among others.
func hasHash(hashes, h []byte) bool {
	for one := range slices.Chunk(hashes, sha1.Size) {
		if slices.Equal(one, h) {
			return true
		}
	}
	return false
}
