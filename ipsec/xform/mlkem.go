package xform

import (
	"crypto/mlkem"
	"fmt"
	"io"

	"github.com/cloudflare/circl/kem"
	"github.com/cloudflare/circl/kem/mlkem/mlkem1024"
	"github.com/cloudflare/circl/kem/mlkem/mlkem768"

	"github.com/ipsecfw/ipsecfw/ipsec"
)

// mlkemGroup is a parameter set of ML-KEM (FIPS 203). The initiator's part is
// done by crypto/mlkem; the responder's is not, because that package takes the
// randomness of an encapsulation from nobody.
type mlkemGroup struct {
	generate func(seed []byte) (key decapsulator, public []byte, err error)
	respond  kem.Scheme
}

// decapsulator is a private key of crypto/mlkem.
type decapsulator interface {
	Decapsulate(ciphertext []byte) (shared []byte, err error)
}

var mlkemGroups = map[uint16]mlkemGroup{
	ipsec.GroupMLKEM768: {respond: mlkem768.Scheme(), generate: func(seed []byte) (decapsulator, []byte, error) {
		key, err := mlkem.NewDecapsulationKey768(seed)
		if err != nil {
			return nil, nil, err
		}
		return key, key.EncapsulationKey().Bytes(), nil
	}},
	ipsec.GroupMLKEM1024: {respond: mlkem1024.Scheme(), generate: func(seed []byte) (decapsulator, []byte, error) {
		key, err := mlkem.NewDecapsulationKey1024(seed)
		if err != nil {
			return nil, nil, err
		}
		return key, key.EncapsulationKey().Bytes(), nil
	}},
}

// mlkemKey is the initiator's key.
type mlkemKey struct {
	group  kem.Scheme
	key    decapsulator
	public []byte
}

func (g mlkemGroup) newKey(rand io.Reader) (PrivateKey, error) {
	seed := make([]byte, mlkem.SeedSize)
	defer clear(seed)
	if _, err := io.ReadFull(rand, seed); err != nil {
		return nil, fmt.Errorf("reading randomness for a %s key: %w", g.respond.Name(), err)
	}
	key, public, err := g.generate(seed)
	if err != nil {
		return nil, fmt.Errorf("generating a %s key: %w", g.respond.Name(), err)
	}
	return &mlkemKey{g.respond, key, public}, nil
}

func (k *mlkemKey) Public() []byte { return append([]byte(nil), k.public...) }

// Shared finds out about a ciphertext nothing but its length: one that was
// changed yields another secret (FIPS 203 section 6.3), and the peers fail to
// authenticate.
func (k *mlkemKey) Shared(peer []byte) ([]byte, error) {
	if n := k.group.CiphertextSize(); len(peer) != n {
		return nil, wrongLength(k.group.Name(), len(peer), n)
	}
	shared, err := k.key.Decapsulate(peer)
	if err != nil {
		return nil, fmt.Errorf("%w for %s: %w", ErrPublicValue, k.group.Name(), err)
	}
	return shared, nil
}

// answer encapsulates a fresh secret to the initiator's key.
func (g mlkemGroup) answer(peer []byte, rand io.Reader) (ciphertext, shared []byte, err error) {
	if n := g.respond.PublicKeySize(); len(peer) != n {
		return nil, nil, wrongLength(g.respond.Name(), len(peer), n)
	}
	key, err := g.respond.UnmarshalBinaryPublicKey(peer)
	if err != nil {
		return nil, nil, fmt.Errorf("%w for %s: %w", ErrPublicValue, g.respond.Name(), err)
	}
	seed := make([]byte, g.respond.EncapsulationSeedSize())
	defer clear(seed)
	if _, err := io.ReadFull(rand, seed); err != nil {
		return nil, nil, fmt.Errorf("reading randomness for a %s secret: %w", g.respond.Name(), err)
	}
	ciphertext, shared, err = g.respond.EncapsulateDeterministically(key, seed)
	if err != nil {
		return nil, nil, fmt.Errorf("encapsulating a %s secret: %w", g.respond.Name(), err)
	}
	return ciphertext, shared, nil
}
