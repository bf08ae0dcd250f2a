package xform

import (
	"crypto/hmac"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/sha512"
	"fmt"
	"hash"

	"github.com/ipsecfw/ipsecfw/ipsec"
)

// PRF is a pseudorandom function of IKE (RFC 7296 section 2.13). It is made
// by NewPRF and safe for concurrent use.
type PRF struct {
	hash func() hash.Hash
	size int
}

// NewPRF returns the PRF with a transform ID: HMAC with SHA-1 (RFC 2104) or
// SHA-256, -384 or -512 (RFC 4868). The error wraps ErrUnsupported.
func NewPRF(id uint16) (PRF, error) {
	switch id {
	case ipsec.PRFHMACSHA1:
		return PRF{sha1.New, sha1.Size}, nil
	case ipsec.PRFHMACSHA256:
		return PRF{sha256.New, sha256.Size}, nil
	case ipsec.PRFHMACSHA384:
		return PRF{sha512.New384, sha512.Size384}, nil
	case ipsec.PRFHMACSHA512:
		return PRF{sha512.New, sha512.Size}, nil
	}
	return PRF{}, fmt.Errorf("%w %s", ErrUnsupported, ipsec.Transform{Type: ipsec.TypePRF, ID: id})
}

// Size returns the length of the output in bytes, which is the preferred
// length of the key as well (RFC 7296 section 2.13).
func (p PRF) Size() int { return p.size }

// Sum returns prf(key, parts[0] | parts[1] | …), Size bytes long. The key may
// have any length.
func (p PRF) Sum(key []byte, parts ...[]byte) []byte {
	h := hmac.New(p.hash, key)
	for _, b := range parts {
		h.Write(b)
	}
	return h.Sum(make([]byte, 0, p.size))
}

// Plus returns the first n bytes of prf+(key, seed) (RFC 7296 section 2.13).
// The construction ends after 255 rounds, and Plus panics when n, which
// follows from the transforms alone, is more than 255 times Size.
func (p PRF) Plus(key, seed []byte, n int) []byte {
	if n > 255*p.size {
		panic(fmt.Sprintf("xform: prf+ of %d bytes, longer than 255 rounds", n))
	}
	out := make([]byte, 0, n+p.size)
	var last []byte
	for round := byte(1); len(out) < n; round++ {
		last = p.Sum(key, last, seed, []byte{round})
		out = append(out, last...)
	}
	clear(out[n:])
	return out[:n:n]
}
