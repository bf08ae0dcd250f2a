package xform

import (
	"crypto/sha1"
	"crypto/sha256"
	"crypto/sha512"
	"fmt"
	"hash"
	"slices"

	"github.com/ipsecfw/ipsecfw/ipsec"
)

// PRF is a pseudorandom function of IKE (RFC 7296 section 2.13). It is made
// by NewPRF and safe for concurrent use.
type PRF struct {
	new    func(key []byte) hash.Hash // for a key of any length
	size   int
	halves bool // the seed's key is made of the beginnings of the nonces
}

// NewPRF returns the PRF with a transform ID: HMAC with SHA-1 (RFC 2104) or
// SHA-256, -384 or -512 (RFC 4868), AES-XCBC-PRF-128 (RFC 4434) or
// AES-CMAC-PRF-128 (RFC 4615). The error wraps ErrUnsupported.
func NewPRF(id uint16) (PRF, error) {
	switch id {
	case ipsec.PRFHMACSHA1:
		return PRF{new: hmacOf(sha1.New), size: sha1.Size}, nil
	case ipsec.PRFHMACSHA256:
		return PRF{new: hmacOf(sha256.New), size: sha256.Size}, nil
	case ipsec.PRFHMACSHA384:
		return PRF{new: hmacOf(sha512.New384), size: sha512.Size384}, nil
	case ipsec.PRFHMACSHA512:
		return PRF{new: hmacOf(sha512.New), size: sha512.Size}, nil
	case ipsec.PRFAESXCBC:
		return PRF{new: xcbcPRF, size: blockKeyLen, halves: true}, nil
	case ipsec.PRFAESCMAC:
		return PRF{new: cmacPRF, size: blockKeyLen, halves: true}, nil
	}
	return PRF{}, fmt.Errorf("%w %s", ErrUnsupported, ipsec.Transform{Type: ipsec.TypePRF, ID: id})
}

// xcbcPRF fills a short key up with zeros and makes a long one short with a
// key of zeros (RFC 4434 section 2).
func xcbcPRF(key []byte) hash.Hash {
	fit := make([]byte, blockKeyLen)
	defer clear(fit)
	if len(key) > blockKeyLen {
		h := newXCBC(fit)
		h.Write(key)
		h.Sum(fit[:0])
	} else {
		copy(fit, key)
	}
	return newXCBC(fit)
}

// cmacPRF makes any key fit that is not as long as one of AES, with a key of
// zeros (RFC 4615 section 3).
func cmacPRF(key []byte) hash.Hash {
	if len(key) == blockKeyLen {
		return newCMAC(key)
	}
	fit := make([]byte, blockKeyLen)
	defer clear(fit)
	h := newCMAC(fit)
	h.Write(key)
	h.Sum(fit[:0])
	return newCMAC(fit)
}

// Size returns the length of the output in bytes, which is the preferred
// length of the key as well (RFC 7296 section 2.13).
func (p PRF) Size() int { return p.size }

// SeedKey returns the key with which the first SKEYSEED of an IKE SA is made
// of the shared secret: both nonces, or for AES-XCBC and AES-CMAC the first 64
// bits of either (RFC 7296 section 2.14). Everything else takes the nonces
// whole.
func (p PRF) SeedKey(ni, nr []byte) []byte {
	if p.halves {
		const half = blockKeyLen / 2
		ni, nr = ni[:min(half, len(ni))], nr[:min(half, len(nr))]
	}
	return slices.Concat(ni, nr)
}

// Sum returns prf(key, parts[0] | parts[1] | …), Size bytes long. The key may
// have any length.
func (p PRF) Sum(key []byte, parts ...[]byte) []byte {
	h := p.new(key)
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
