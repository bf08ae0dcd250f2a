package ikev2

import (
	"encoding/binary"
	"fmt"
	"slices"

	"github.com/ipsecfw/ipsecfw/ipsec"
	"github.com/ipsecfw/ipsecfw/ipsec/ike"
	"github.com/ipsecfw/ipsecfw/ipsec/xform"
)

// ikeKeys are the secrets of an IKE SA that stay in use: SK_d for Child SAs
// and rekeying, SK_pi and SK_pr for authentication (RFC 7296 section 2.14).
type ikeKeys struct{ d, pi, pr []byte }

func (k *ikeKeys) wipe() {
	clear(k.d)
	clear(k.pi)
	clear(k.pr)
}

// skp returns SK_pi or SK_pr.
func (k *ikeKeys) skp(initiator bool) []byte {
	if initiator {
		return k.pi
	}
	return k.pr
}

// checkNonce refuses a peer's nonce that is shorter than half the key of the
// PRF of an IKE SA (RFC 7296 section 2.10). A PRF's key is as long as its
// output. The absolute bounds, 16 and 256 bytes, stand in package wire.
func checkNonce(nonce []byte, p ipsec.Proposal) error {
	t, _ := p.First(ipsec.TypePRF)
	prf, err := xform.NewPRF(t.ID)
	if err != nil {
		return err
	}
	if least := prf.Size() / 2; len(nonce) < least {
		return fmt.Errorf("a nonce of %d bytes, and %s needs %d", len(nonce), t, least)
	}
	return nil
}

// firstSeed returns SKEYSEED of a new IKE SA (RFC 7296 section 2.14).
func firstSeed(prf xform.PRF, ni, nr, shared []byte) []byte {
	return prf.Sum(prf.SeedKey(ni, nr), shared)
}

// rekeyedSeed returns SKEYSEED of an IKE SA that replaces another, whose PRF
// and SK_d these are (RFC 7296 section 2.18), or SKEYSEED(n) after an
// additional key exchange, with SK_d(n-1) (RFC 9370 section 2.2.2).
func rekeyedSeed(oldPRF xform.PRF, d, shared, ni, nr []byte) []byte {
	return oldPRF.Sum(d, shared, ni, nr)
}

// activate derives all keys of a session from its SKEYSEED, which it wipes,
// and makes the ciphers. The SPIs and the proposal stand already in it. The
// keys that it had before are wiped.
func (ses *session) activate(seed, ni, nr []byte, cfg *ike.MachineConfig) error {
	defer clear(seed)
	encr, _ := ses.proposal.First(ipsec.TypeEncr)
	integ, _ := ses.proposal.First(ipsec.TypeInteg)
	ne, na, err := xform.KeyLens(encr, integ)
	if err != nil {
		return err
	}
	salt := slices.Concat(ni, nr)
	salt = binary.BigEndian.AppendUint64(salt, ses.spiI)
	salt = binary.BigEndian.AppendUint64(salt, ses.spiR)
	np := ses.prf.Size()
	all := ses.prf.Plus(seed, salt, 3*np+2*na+2*ne)
	take := func(n int) []byte {
		k := all[:n:n]
		all = all[n:]
		return k
	}
	d, ai, ar, ei, er, pi, pr := take(np), take(na), take(na), take(ne), take(ne), take(np), take(np)
	defer func() { clear(ai); clear(ar); clear(ei); clear(er) }()
	fresh := ikeKeys{d: d, pi: pi, pr: pr}
	fromI, err := xform.NewIKECipher(encr, integ, ei, ai, cfg.Rand)
	if err != nil {
		fresh.wipe()
		return err
	}
	fromR, err := xform.NewIKECipher(encr, integ, er, ar, cfg.Rand)
	if err != nil {
		fresh.wipe()
		return err
	}
	if cfg.KeyLog != nil {
		cfg.KeyLog(ike.Secrets{SPIi: ses.spiI, SPIr: ses.spiR, Encr: encr, Integ: integ, SKei: ei, SKer: er, SKai: ai, SKar: ar})
	}
	ses.keys.wipe()
	ses.keys = fresh
	ses.out, ses.in = fromI, fromR
	if !ses.initiator {
		ses.out, ses.in = fromR, fromI
	}
	return nil
}

// childKeys derives the keys of a Child SA (RFC 7296 section 2.17, RFC 9370
// section 2.2.4). The seed is the nonces of the exchange, with the secrets of
// its own key exchanges around them; toR are the keys from the one who began
// the exchange to the other.
func childKeys(prf xform.PRF, d, seed []byte, encr, integ ipsec.Transform) (toR, toI ipsec.Keys, err error) {
	ne, na, err := xform.KeyLens(encr, integ)
	if err != nil {
		return toR, toI, err
	}
	m := prf.Plus(d, seed, 2*(ne+na))
	defer clear(m)
	take := func(n int) []byte {
		k := slices.Clone(m[:n])
		m = m[n:]
		return k
	}
	toR = ipsec.Keys{Encr: take(ne), Integ: take(na)}
	toI = ipsec.Keys{Encr: take(ne), Integ: take(na)}
	return toR, toI, nil
}
