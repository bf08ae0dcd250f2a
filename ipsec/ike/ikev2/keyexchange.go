package ikev2

import (
	"github.com/ipsecfw/ipsecfw/ipsec"
	"github.com/ipsecfw/ipsecfw/ipsec/xform"
)

// additional returns the methods of a proposal's additional key exchanges, in
// the order in which they take place (RFC 9370 section 2.2.1). It is asked of
// a proposal that was chosen, which has one of each type.
func additional(p ipsec.Proposal) (methods []uint16) {
	for t := ipsec.TypeADDKE1; t <= ipsec.TypeADDKE7; t++ {
		if m, ok := p.First(t); ok && m.ID != ipsec.GroupNone {
			methods = append(methods, m.ID)
		}
	}
	return methods
}

// agree derives the first keys of a session from the secret that IKE_SA_INIT
// brought (RFC 7296 section 2.14).
func (ses *session) agree(shared, ni, nr []byte, s *SA) error {
	prf, _ := ses.proposal.First(ipsec.TypePRF)
	var err error
	if ses.prf, err = xform.NewPRF(prf.ID); err != nil {
		return err
	}
	return ses.activate(firstSeed(ses.prf, ni, nr, shared), ni, nr, &s.cfg)
}

// mix replaces the keys of a session by such as depend on the secret of an
// additional key exchange too:
//
//	SKEYSEED(n) = prf(SK_d(n-1), SK(n) | Ni | Nr)
//
// All keys follow from it as from the first SKEYSEED (RFC 9370 section 2.2.2).
func (ses *session) mix(shared, ni, nr []byte, s *SA) error {
	return ses.activate(rekeyedSeed(ses.prf, ses.keys.d, shared, ni, nr), ni, nr, &s.cfg)
}
