package ike

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/sha1"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/binary"
	"errors"
	"fmt"
	"math/big"
	"slices"

	_ "crypto/sha256" // the hashes behind crypto.Hash
	_ "crypto/sha512"

	"github.com/ipsecfw/ipsecfw/ipsec/ike/wire"
	"github.com/ipsecfw/ipsecfw/ipsec/pki"
)

// HashAlgo is a hash of a SIGNATURE_HASH_ALGORITHMS notification, from the
// IANA registry "IKEv2 Hash Algorithms" (RFC 7427 section 4, RFC 8420).
type HashAlgo uint16

// The hashes that we sign and verify with. SHA-1 is not among them.
const (
	HashSHA256   HashAlgo = 2
	HashSHA384   HashAlgo = 3
	HashSHA512   HashAlgo = 4
	HashIdentity HashAlgo = 5 // of Ed25519, which signs the message itself
)

// OurHashes is the data of our SIGNATURE_HASH_ALGORITHMS notification.
func OurHashes() []byte {
	var b []byte
	for _, h := range []HashAlgo{HashSHA256, HashSHA384, HashSHA512, HashIdentity} {
		b = binary.BigEndian.AppendUint16(b, uint16(h))
	}
	return b
}

// ParseHashes reads a peer's SIGNATURE_HASH_ALGORITHMS. Half a number at the
// end is ignored. The result is never nil: the peer knows RFC 7427.
func ParseHashes(data []byte) []HashAlgo {
	hashes := []HashAlgo{}
	for ; len(data) >= 2; data = data[2:] {
		hashes = append(hashes, HashAlgo(binary.BigEndian.Uint16(data)))
	}
	return hashes
}

var cryptoHash = map[HashAlgo]crypto.Hash{
	HashSHA256: crypto.SHA256,
	HashSHA384: crypto.SHA384,
	HashSHA512: crypto.SHA512,
}

// The object identifiers of RFC 7427 appendix A and RFC 8420.
var (
	oidPSS     = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 10}
	oidMGF1    = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 8}
	oidEd25519 = asn1.ObjectIdentifier{1, 3, 101, 112}

	oidRSAWithSHA1 = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 1, 5}

	oidHash = map[HashAlgo]asn1.ObjectIdentifier{
		HashSHA256: {2, 16, 840, 1, 101, 3, 4, 2, 1},
		HashSHA384: {2, 16, 840, 1, 101, 3, 4, 2, 2},
		HashSHA512: {2, 16, 840, 1, 101, 3, 4, 2, 3},
	}
	oidRSA = map[HashAlgo]asn1.ObjectIdentifier{
		HashSHA256: {1, 2, 840, 113549, 1, 1, 11},
		HashSHA384: {1, 2, 840, 113549, 1, 1, 12},
		HashSHA512: {1, 2, 840, 113549, 1, 1, 13},
	}
	oidECDSA = map[HashAlgo]asn1.ObjectIdentifier{
		HashSHA256: {1, 2, 840, 10045, 4, 3, 2},
		HashSHA384: {1, 2, 840, 10045, 4, 3, 3},
		HashSHA512: {1, 2, 840, 10045, 4, 3, 4},
	}
)

// pssParameters is RSASSA-PSS-params of RFC 4055 section 3.1. The hashes may not
// be missing, which would stand for SHA-1; DER leaves out the salt's length and
// the trailer where they are the default.
type pssParameters struct {
	Hash    pkix.AlgorithmIdentifier `asn1:"explicit,tag:0"`
	MGF     pkix.AlgorithmIdentifier `asn1:"explicit,tag:1"`
	Salt    int                      `asn1:"optional,explicit,tag:2,default:20"`
	Trailer int                      `asn1:"optional,explicit,tag:3,default:1"`
}

// signatureRules says how to sign, and what to believe.
type signatureRules struct {
	pkcs1  bool // sign by RSASSA-PKCS1-v1_5 where RSASSA-PSS could be
	legacy bool // RSA with SHA-1 for peers without RFC 7427
}

// isSignature holds for the methods of RFC 7427 and RFC 4754.
func isSignature(m wire.AuthMethod) bool {
	switch m {
	case wire.AuthDigitalSignature, wire.AuthECDSA256, wire.AuthECDSA384, wire.AuthECDSA521:
		return true
	}
	return false
}

// signatureAuth makes an AUTH payload with a private key.
func signatureAuth(key crypto.Signer, s Signing, rules signatureRules) (*wire.Auth, error) {
	if s.Hashes == nil {
		return signOld(key, s, rules)
	}
	h, err := pickHash(key.Public(), s.Hashes)
	if err != nil {
		return nil, err
	}
	algo, opts, err := algorithm(key.Public(), h, rules.pkcs1)
	if err != nil {
		return nil, err
	}
	sig, err := key.Sign(s.Rand, digest(h, s.Octets), opts)
	if err != nil {
		return nil, err
	}
	der, err := asn1.Marshal(algo)
	if err != nil {
		return nil, fmt.Errorf("encode the signature's algorithm: %w", err)
	}
	if len(der) > 0xff {
		return nil, fmt.Errorf("the signature's algorithm takes %d bytes, more than RFC 7427 has room for", len(der))
	}
	return &wire.Auth{Method: wire.AuthDigitalSignature, Data: slices.Concat([]byte{byte(len(der))}, der, sig)}, nil
}

// pickHash prefers the hash that is as strong as the key.
func pickHash(pub crypto.PublicKey, theirs []HashAlgo) (HashAlgo, error) {
	order := []HashAlgo{HashSHA256, HashSHA384, HashSHA512}
	switch pub := pub.(type) {
	case ed25519.PublicKey:
		order = []HashAlgo{HashIdentity}
	case *ecdsa.PublicKey:
		switch bits := pub.Curve.Params().BitSize; {
		case bits > 384:
			order = []HashAlgo{HashSHA512, HashSHA384, HashSHA256}
		case bits > 256:
			order = []HashAlgo{HashSHA384, HashSHA512, HashSHA256}
		}
	}
	for _, h := range order {
		if slices.Contains(theirs, h) {
			return h, nil
		}
	}
	return 0, fmt.Errorf("the peer's SIGNATURE_HASH_ALGORITHMS %v hold none that the key can use: %v", theirs, order)
}

// algorithm describes a signature for the AUTH payload and for the signer.
func algorithm(pub crypto.PublicKey, h HashAlgo, pkcs1 bool) (pkix.AlgorithmIdentifier, crypto.SignerOpts, error) {
	switch pub.(type) {
	case ed25519.PublicKey:
		return pkix.AlgorithmIdentifier{Algorithm: oidEd25519}, crypto.Hash(0), nil
	case *ecdsa.PublicKey:
		return pkix.AlgorithmIdentifier{Algorithm: oidECDSA[h]}, cryptoHash[h], nil
	case *rsa.PublicKey:
		if pkcs1 {
			return pkix.AlgorithmIdentifier{Algorithm: oidRSA[h], Parameters: asn1.NullRawValue}, cryptoHash[h], nil
		}
		hash := pkix.AlgorithmIdentifier{Algorithm: oidHash[h], Parameters: asn1.NullRawValue}
		inner, err := asn1.Marshal(hash)
		if err != nil {
			return pkix.AlgorithmIdentifier{}, nil, fmt.Errorf("encode the parameters of RSASSA-PSS: %w", err)
		}
		params, err := asn1.Marshal(pssParameters{
			Hash: hash,
			MGF:  pkix.AlgorithmIdentifier{Algorithm: oidMGF1, Parameters: asn1.RawValue{FullBytes: inner}},
			Salt: cryptoHash[h].Size(), Trailer: 1,
		})
		if err != nil {
			return pkix.AlgorithmIdentifier{}, nil, fmt.Errorf("encode the parameters of RSASSA-PSS: %w", err)
		}
		opts := &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash, Hash: cryptoHash[h]}
		return pkix.AlgorithmIdentifier{Algorithm: oidPSS, Parameters: asn1.RawValue{FullBytes: params}}, opts, nil
	}
	return pkix.AlgorithmIdentifier{}, nil, fmt.Errorf("a key of type %T cannot sign: use ECDSA, RSA or Ed25519", pub)
}

// digest returns what a signer gets: the hash, or for HashIdentity the
// message.
func digest(h HashAlgo, message []byte) []byte {
	c, ok := cryptoHash[h]
	if !ok {
		return message
	}
	d := c.New()
	d.Write(message)
	return d.Sum(nil)
}

// oldECDSA are the methods of RFC 4754, each of which is a curve with a hash.
var oldECDSA = []struct {
	method wire.AuthMethod
	bits   int
	hash   HashAlgo
}{
	{wire.AuthECDSA256, 256, HashSHA256},
	{wire.AuthECDSA384, 384, HashSHA384},
	{wire.AuthECDSA521, 521, HashSHA512},
}

// signOld signs for a peer without RFC 7427.
func signOld(key crypto.Signer, s Signing, rules signatureRules) (*wire.Auth, error) {
	if _, ok := key.Public().(*rsa.PublicKey); ok && rules.legacy {
		d := sha1.Sum(s.Octets)
		sig, err := key.Sign(s.Rand, d[:], crypto.SHA1)
		if err != nil {
			return nil, err
		}
		return &wire.Auth{Method: wire.AuthRSA, Data: sig}, nil
	}
	pub, _ := key.Public().(*ecdsa.PublicKey)
	for _, o := range oldECDSA {
		if pub == nil || pub.Curve.Params().BitSize != o.bits {
			continue
		}
		der, err := key.Sign(s.Rand, digest(o.hash, s.Octets), cryptoHash[o.hash])
		if err != nil {
			return nil, err
		}
		var sig struct{ R, S *big.Int }
		if _, err := asn1.Unmarshal(der, &sig); err != nil {
			return nil, fmt.Errorf("the signer made no ECDSA signature: %w", err)
		}
		size := (o.bits + 7) / 8
		raw := make([]byte, 2*size)
		if sig.R.Sign() <= 0 || sig.S.Sign() <= 0 || sig.R.BitLen() > o.bits || sig.S.BitLen() > o.bits {
			return nil, errors.New("the signer made no ECDSA signature: its numbers are out of range")
		}
		sig.R.FillBytes(raw[:size])
		sig.S.FillBytes(raw[size:])
		return &wire.Auth{Method: o.method, Data: raw}, nil
	}
	return nil, fmt.Errorf("%w: the peer does not support RFC 7427, and without it only an ECDSA key on P-256, P-384 or P-521 can sign without SHA-1", ErrWeakMethod)
}

var errBadAlgorithm = errors.New("an algorithm that is not accepted, or that does not fit the key")

// verifySignature checks an AUTH payload with a public key. The error wraps
// ErrWrongKey or ErrWeakMethod, or says what is wrong with the payload.
func verifySignature(pub crypto.PublicKey, a *wire.Auth, octets []byte, rules signatureRules) error {
	if err := pki.CheckKey(pub); err != nil {
		return err
	}
	switch a.Method {
	case wire.AuthDigitalSignature:
		return verifyDigital(pub, a, octets)
	case wire.AuthRSA:
		return verifyOldRSA(pub, a, octets, rules)
	}
	return verifyOldECDSA(pub, a, octets)
}

// verifyDigital checks a signature of RFC 7427, which says how it was made. The
// hash may be any of those that OurHashes announces.
func verifyDigital(pub crypto.PublicKey, a *wire.Auth, octets []byte) error {
	if len(a.Data) == 0 || len(a.Data) < 1+int(a.Data[0]) {
		return errors.New("the AUTH payload ends within its algorithm")
	}
	n := 1 + int(a.Data[0])
	der, sig := a.Data[1:n], a.Data[n:]
	var algo pkix.AlgorithmIdentifier
	if rest, err := asn1.Unmarshal(der, &algo); err != nil || len(rest) > 0 {
		return errors.New("the AUTH payload's algorithm is no AlgorithmIdentifier")
	}
	switch pub := pub.(type) {
	case ed25519.PublicKey:
		if !algo.Algorithm.Equal(oidEd25519) {
			return errBadAlgorithm
		}
		if !ed25519.Verify(pub, octets, sig) {
			return ErrWrongKey
		}
		return nil
	case *ecdsa.PublicKey:
		h, ok := hashOf(oidECDSA, algo.Algorithm)
		if !ok {
			return errBadAlgorithm
		}
		if !ecdsa.VerifyASN1(pub, digest(h, octets), sig) {
			return ErrWrongKey
		}
		return nil
	case *rsa.PublicKey:
		return verifyRSA(pub, algo, octets, sig)
	}
	return errBadAlgorithm
}

func verifyRSA(pub *rsa.PublicKey, algo pkix.AlgorithmIdentifier, octets, sig []byte) error {
	if h, ok := hashOf(oidRSA, algo.Algorithm); ok {
		if rsa.VerifyPKCS1v15(pub, cryptoHash[h], digest(h, octets), sig) != nil {
			return ErrWrongKey
		}
		return nil
	}
	if algo.Algorithm.Equal(oidRSAWithSHA1) {
		return ErrWeakMethod
	}
	var p pssParameters
	if !algo.Algorithm.Equal(oidPSS) {
		return errBadAlgorithm
	}
	if rest, err := asn1.Unmarshal(algo.Parameters.FullBytes, &p); err != nil || len(rest) > 0 {
		return errBadAlgorithm
	}
	h, ok := hashOf(oidHash, p.Hash.Algorithm)
	var inner pkix.AlgorithmIdentifier
	if rest, err := asn1.Unmarshal(p.MGF.Parameters.FullBytes, &inner); err != nil || len(rest) > 0 {
		return errBadAlgorithm
	}
	// Salt 0 would mean to crypto/rsa that any length will do.
	if !ok || !p.MGF.Algorithm.Equal(oidMGF1) || !inner.Algorithm.Equal(oidHash[h]) || p.Salt <= 0 || p.Trailer != 1 {
		return errBadAlgorithm
	}
	if rsa.VerifyPSS(pub, cryptoHash[h], digest(h, octets), sig, &rsa.PSSOptions{SaltLength: p.Salt}) != nil {
		return ErrWrongKey
	}
	return nil
}

func hashOf(oids map[HashAlgo]asn1.ObjectIdentifier, oid asn1.ObjectIdentifier) (HashAlgo, bool) {
	for h, o := range oids {
		if o.Equal(oid) {
			return h, true
		}
	}
	return 0, false
}

// verifyOldRSA checks a signature by RSASSA-PKCS1-v1_5, which says itself which
// hash it is of. Most peers have SHA-1 here, and may have another (RFC 7296
// section 3.8).
func verifyOldRSA(pub crypto.PublicKey, a *wire.Auth, octets []byte, rules signatureRules) error {
	key, ok := pub.(*rsa.PublicKey)
	if !ok {
		return errBadAlgorithm
	}
	for h := range cryptoHash {
		if rsa.VerifyPKCS1v15(key, cryptoHash[h], digest(h, octets), a.Data) == nil {
			return nil
		}
	}
	d := sha1.Sum(octets)
	switch err := rsa.VerifyPKCS1v15(key, crypto.SHA1, d[:], a.Data); {
	case err != nil:
		return ErrWrongKey
	case !rules.legacy:
		return ErrWeakMethod
	}
	return nil
}

// verifyOldECDSA checks a signature of RFC 4754.
func verifyOldECDSA(pub crypto.PublicKey, a *wire.Auth, octets []byte) error {
	key, ok := pub.(*ecdsa.PublicKey)
	if !ok {
		return errBadAlgorithm
	}
	for _, o := range oldECDSA {
		size := (o.bits + 7) / 8
		if a.Method != o.method {
			continue
		}
		if key.Curve.Params().BitSize != o.bits || len(a.Data) != 2*size {
			return errBadAlgorithm
		}
		r, s := new(big.Int).SetBytes(a.Data[:size]), new(big.Int).SetBytes(a.Data[size:])
		if !ecdsa.Verify(key, digest(o.hash, octets), r, s) {
			return ErrWrongKey
		}
		return nil
	}
	return errBadAlgorithm
}
