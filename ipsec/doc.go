// Package ipsec holds the nouns that the key exchange and the data path
// share: SPI, mode, transform, proposal, traffic selector and the pair of
// keyed SAs that one negotiation yields.
//
// The package is pure: it does no I/O and reads no clock.
package ipsec
