// Package xform holds the cryptography behind the transforms that a proposal
// names: pseudorandom functions, key exchange groups, the AEADs and MACs of
// both protocols, and the protection of IKE messages.
//
// The package is pure: randomness is an argument. Constructors copy what they
// need from the keys they are given, so that the caller can overwrite its own
// copy at once; the key schedules inside the standard library's ciphers cannot
// be overwritten, only forgotten.
package xform

import "errors"

// ErrUnsupported is wrapped by every constructor's error for a transform
// that this package does not have, or a combination that no RFC defines.
var ErrUnsupported = errors.New("unsupported transform")

// ErrIntegrity says that a message is not from the holder of the keys, or was
// changed on its way.
var ErrIntegrity = errors.New("integrity check failed")

// ErrMalformed says that a message is too short, or not of a length that the
// cipher produces, or that its padding is longer than its contents.
var ErrMalformed = errors.New("malformed ciphertext")

// ErrKeyLength says that keying material does not have the length that
// KeyLens gives.
var ErrKeyLength = errors.New("wrong key length")

// ErrWeakKey says that a key of 3DES has two equal parts one after the other,
// which makes it one of DES (RFC 2451 section 2.3). No keys that are derived
// from secrets are like that but by a chance of 1 in 2^55.
var ErrWeakKey = errors.New("weak key")

// ErrPublicValue says that a peer's public value is not a member of the group
// that keeps the shared secret secret.
var ErrPublicValue = errors.New("invalid public value")
