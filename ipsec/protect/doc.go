// Package protect is what ESP and AH have in common: the sequence numbers of
// an SA and its replay window (RFC 4302 and RFC 4303, sections 3.3 and 3.4), its
// counters, the memory that packets are made in, and the end of its keys. What
// the protocols make of a single packet they say as a Suite.
//
//	suite.go    what ESP and AH are to an SA
//	sender.go   an SA that we send with
//	receiver.go an SA that we receive with
//	budget.go   how much it may carry
//	window.go   which sequence numbers were received
//
// The package is pure: it does no I/O and reads no clock.
package protect

import (
	"fmt"
	"sync/atomic"

	"github.com/ipsecfw/ipsecfw/ipsec"
)

// life is the time that an SA can be used, with its secrets.
type life struct {
	keys  ipsec.Keys
	suite atomic.Pointer[Suite]
}

// begin refuses SPIs that never name an SA (RFC 4302 section 2.4, RFC 4303
// section 2.1).
func (l *life) begin(p ipsec.Params, s Suite) error {
	if p.SPI < 256 {
		return fmt.Errorf("SPI %s is reserved", p.SPI)
	}
	l.keys = p.Keys
	l.suite.Store(&s)
	return nil
}

// Wipe makes the SA unusable: every Seal or Open that begins afterwards
// returns ErrClosed; one that is under way ends as it would have. It
// overwrites the keys in Params and forgets the ciphers made of them.
func (l *life) Wipe() {
	if l.suite.Swap(nil) != nil {
		l.keys.Wipe()
	}
}
