package xform

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"io"
	"math/big"
	"testing"
	"testing/iotest"

	"github.com/ipsecfw/ipsecfw/ipsec"
)

var groups = []struct {
	name                    string
	id                      uint16
	private, public, secret int // bytes
}{
	{"x25519", ipsec.GroupX25519, 32, 32, 32},
	{"ecp256", ipsec.GroupP256, 32, 64, 32},
	{"ecp384", ipsec.GroupP384, 48, 96, 48},
	{"modp2048", ipsec.GroupMODP2048, 40, 256, 256},
}

func TestGroupVectors(t *testing.T) {
	tests := []struct {
		name    string
		group   uint16
		private string
		public  string
		peer    string
		secret  string
	}{
		{
			name:    "RFC 7748 section 6.1",
			group:   ipsec.GroupX25519,
			private: "77076d0a7318a57d3c16c17251b26645df4c2f87ebc0992ab177fba51db92c2a",
			public:  "8520f0098930a754748b7ddcb43ef75a0dbf3a0d26381af4eba4a98eaa9b4e6a",
			peer:    "de9edb7d7b7dc1b4d35b61c2ece435373f8343c85b78674dadfc7e146f882b4f",
			secret:  "4a5d9d5ba4ce2de1728e3bf480350f25e07e21c947d19e3376f09b3c1e161742",
		},
		{
			name:    "RFC 5903 section 8.1",
			group:   ipsec.GroupP256,
			private: "c88f01f510d9ac3f70a292daa2316de544e9aab8afe84049c62a9c57862d1433",
			public: "dad0b65394221cf9b051e1feca5787d098dfe637fc90b9ef945d0c3772581180" +
				"5271a0461cdb8252d61f1c456fa3e59ab1f45b33accf5f58389e0577b8990bb3",
			peer: "d12dfb5289c8d4f81208b70270398c342296970a0bccb74c736fc7554494bf63" +
				"56fbf3ca366cc23e8157854c13c58d6aac23f046ada30f8353e74f33039872ab",
			secret: "d6840f6b42f6edafd13116e0e12565202fef8e9ece7dce03812464d04b9442de",
		},
		{
			name:    "RFC 5903 section 8.2",
			group:   ipsec.GroupP384,
			private: "099f3c7034d4a2c699884d73a375a67f7624ef7c6b3c0f160647b67414dce655e35b538041e649ee3faef896783ab194",
			public: "667842d7d180ac2cde6f74f37551f55755c7645c20ef73e31634fe72b4c55ee6de3ac808acb4bdb4c88732aee95f41aa" +
				"9482ed1fc0eeb9cafc4984625ccfc23f65032149e0e144ada024181535a0f38eeb9fcff3c2c947dae69b4c634573a81c",
			peer: "e558dbef53eecde3d3fccfc1aea08a89a987475d12fd950d83cfa41732bc509d0d1ac43a0336def96fda41d0774a3571" +
				"dcfbec7aacf3196472169e838430367f66eebe3c6e70c416dd5f0c68759dd1fff83fa40142209dff5eaad96db9e6386c",
			secret: "11187331c279962d93d604243fd592cb9d0a926f422e47187521287e7156c5c4d603135569b9e9d09cf5d4a270f59746",
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			k, err := GenerateKey(tt.group, bytes.NewReader(unhex(t, tt.private)))
			if err != nil {
				t.Fatal(err)
			}
			if got := k.Public(); !bytes.Equal(got, unhex(t, tt.public)) {
				t.Errorf("Public() = %x", got)
			}
			got, err := k.Shared(unhex(t, tt.peer))
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(got, unhex(t, tt.secret)) {
				t.Errorf("Shared() = %x", got)
			}
		})
	}
}

// The hashes of the numbers were computed with Python's pow.
func TestMODPKnownAnswer(t *testing.T) {
	exponent := make([]byte, exponentLen)
	for i := range exponent {
		exponent[i] = byte(i + 1)
	}
	k, err := GenerateKey(ipsec.GroupMODP2048, bytes.NewReader(exponent))
	if err != nil {
		t.Fatal(err)
	}
	three := make([]byte, 256)
	three[255] = 3
	secret, err := k.Shared(three)
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		value []byte
		want  string
	}{
		"public": {k.Public(), "5d42b02cc7ccd3d51a5c4f8b7a4dd6bd0f90c22b9c75640f268f635c8fea2e15"},
		"secret": {secret, "7a7bcd89896ccdcbf79bdbc8c9a57af7140557ea104028785ac91625af446637"},
	} {
		if sum := sha256.Sum256(c.value); !bytes.Equal(sum[:], unhex(t, c.want)) {
			t.Errorf("%s is %x", name, c.value)
		}
	}
}

func TestGroupsAgree(t *testing.T) {
	for _, g := range groups {
		t.Run(g.name, func(t *testing.T) {
			a, err := GenerateKey(g.id, rand.Reader)
			if err != nil {
				t.Fatal(err)
			}
			b, err := GenerateKey(g.id, rand.Reader)
			if err != nil {
				t.Fatal(err)
			}
			if len(a.Public()) != g.public {
				t.Errorf("public value has %d bytes", len(a.Public()))
			}
			ab, errA := a.Shared(b.Public())
			ba, errB := b.Shared(a.Public())
			if errA != nil || errB != nil {
				t.Fatal(errA, errB)
			}
			if !bytes.Equal(ab, ba) || len(ab) != g.secret {
				t.Errorf("secrets %x and %x", ab, ba)
			}
		})
	}
}

// All of a key's randomness comes from the reader, and no more of it than the
// key needs.
func TestGenerateKeyReads(t *testing.T) {
	for _, g := range groups {
		t.Run(g.name, func(t *testing.T) {
			seed := bytes.Repeat([]byte{7}, g.private)
			a, errA := GenerateKey(g.id, bytes.NewReader(seed))
			b, errB := GenerateKey(g.id, iotest.OneByteReader(bytes.NewReader(seed)))
			if errA != nil || errB != nil {
				t.Fatal(errA, errB)
			}
			if !bytes.Equal(a.Public(), b.Public()) {
				t.Error("the same randomness gave two keys")
			}
			_, err := GenerateKey(g.id, bytes.NewReader(seed[1:]))
			if !errors.Is(err, io.ErrUnexpectedEOF) {
				t.Errorf("short reader: %v", err)
			}
		})
	}
}

func TestGenerateKeyOutOfRange(t *testing.T) {
	good := bytes.Repeat([]byte{7}, 32)
	ones := bytes.Repeat([]byte{0xff}, 32)
	k, err := GenerateKey(ipsec.GroupP256, io.MultiReader(bytes.NewReader(ones), bytes.NewReader(good)))
	if err != nil {
		t.Fatal(err)
	}
	want, err := GenerateKey(ipsec.GroupP256, bytes.NewReader(good))
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(k.Public(), want.Public()) {
		t.Error("the scalar after one out of range was not used")
	}
	if _, err := GenerateKey(ipsec.GroupP256, bytes.NewReader(make([]byte, 1<<16))); err == nil {
		t.Error("a reader of zeros gave a key")
	}
}

func TestSharedRefuses(t *testing.T) {
	pMinus := func(n int64) []byte {
		return new(big.Int).Sub(modp2048, big.NewInt(n)).FillBytes(make([]byte, 256))
	}
	small := func(n byte) []byte {
		b := make([]byte, 256)
		b[255] = n
		return b
	}
	lowOrder := unhex(t, "e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800")
	offCurve := make([]byte, 64)
	offCurve[31], offCurve[63] = 1, 1
	tests := []struct {
		name  string
		group uint16
		peer  []byte
	}{
		{"X25519 zero", ipsec.GroupX25519, make([]byte, 32)},
		{"X25519 one", ipsec.GroupX25519, append([]byte{1}, make([]byte, 31)...)},
		{"X25519 point of order 8", ipsec.GroupX25519, lowOrder},
		{"X25519 short", ipsec.GroupX25519, make([]byte, 31)},
		{"X25519 long", ipsec.GroupX25519, bytes.Repeat([]byte{9}, 33)},
		{"P-256 empty", ipsec.GroupP256, nil},
		{"P-256 zero", ipsec.GroupP256, make([]byte, 64)},
		{"P-256 off the curve", ipsec.GroupP256, offCurve},
		{"P-256 x out of range", ipsec.GroupP256, bytes.Repeat([]byte{0xff}, 64)},
		{"P-256 with SEC 1 prefix", ipsec.GroupP256, append([]byte{4}, make([]byte, 64)...)},
		{"P-384 zero", ipsec.GroupP384, make([]byte, 96)},
		{"P-384 short", ipsec.GroupP384, make([]byte, 95)},
		{"MODP empty", ipsec.GroupMODP2048, nil},
		{"MODP short", ipsec.GroupMODP2048, small(3)[1:]},
		{"MODP long", ipsec.GroupMODP2048, append([]byte{0}, small(3)...)},
		{"MODP 0", ipsec.GroupMODP2048, small(0)},
		{"MODP 1", ipsec.GroupMODP2048, small(1)},
		{"MODP p-1", ipsec.GroupMODP2048, pMinus(1)},
		{"MODP p", ipsec.GroupMODP2048, pMinus(0)},
		{"MODP p+2", ipsec.GroupMODP2048, pMinus(-2)},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			k, err := GenerateKey(tt.group, rand.Reader)
			if err != nil {
				t.Fatal(err)
			}
			if secret, err := k.Shared(tt.peer); !errors.Is(err, ErrPublicValue) || secret != nil {
				t.Errorf("Shared() = %x, %v", secret, err)
			}
		})
	}
	if _, err := GenerateKey(ipsec.GroupNone, rand.Reader); !errors.Is(err, ErrUnsupported) {
		t.Errorf("no group: %v", err)
	}
}

// The prime of group 14 is 2^2048 - 2^1984 - 1 + 2^64 * (floor(2^1918 pi) +
// 124476) (RFC 3526 section 3), and half of it is prime as well.
func TestMODPPrime(t *testing.T) {
	const guard = 64
	// Machin: pi = 16 arctan(1/5) - 4 arctan(1/239), in units of 2^-(1918+guard).
	arctan := func(inverse int64) *big.Int {
		n := big.NewInt(inverse)
		term := new(big.Int).Lsh(big.NewInt(1), 1918+guard)
		term.Quo(term, n)
		sum, square := new(big.Int).Set(term), new(big.Int).Mul(n, n)
		for k := int64(1); term.Sign() != 0; k++ {
			term.Quo(term, square)
			part := new(big.Int).Quo(term, big.NewInt(2*k+1))
			if k%2 == 1 {
				part.Neg(part)
			}
			sum.Add(sum, part)
		}
		return sum
	}
	pi := new(big.Int).Mul(arctan(5), big.NewInt(16))
	pi.Sub(pi, new(big.Int).Mul(arctan(239), big.NewInt(4)))
	pi.Rsh(pi, guard)

	pow := func(n uint) *big.Int { return new(big.Int).Lsh(big.NewInt(1), n) }
	want := pi.Add(pi, big.NewInt(124476))
	want.Lsh(want, 64)
	want.Add(want, pow(2048))
	want.Sub(want, pow(1984))
	want.Sub(want, big.NewInt(1))
	if modp2048.Cmp(want) != 0 {
		t.Errorf("prime is %x, want %x", modp2048, want)
	}
	if !modp2048.ProbablyPrime(1) || !new(big.Int).Rsh(modp2048, 1).ProbablyPrime(1) {
		t.Error("not a safe prime")
	}
}

// Shared takes whatever a peer sends.
func FuzzShared(f *testing.F) {
	keys := make([]PrivateKey, len(groups))
	for i, g := range groups {
		k, err := GenerateKey(g.id, bytes.NewReader(bytes.Repeat([]byte{7}, g.private)))
		if err != nil {
			f.Fatal(err)
		}
		keys[i] = k
		f.Add(uint8(i), k.Public())
		f.Add(uint8(i), make([]byte, g.public))
		f.Add(uint8(i), k.Public()[1:])
	}
	f.Fuzz(func(t *testing.T, which uint8, peer []byte) {
		i := int(which) % len(groups)
		given := bytes.Clone(peer)
		secret, err := keys[i].Shared(peer)
		if !bytes.Equal(given, peer) {
			t.Error("the peer's value was changed")
		}
		if err != nil {
			if !errors.Is(err, ErrPublicValue) || secret != nil {
				t.Errorf("%x, %v", secret, err)
			}
			return
		}
		if len(peer) != groups[i].public || len(secret) != groups[i].secret {
			t.Errorf("%d bytes gave a secret of %d", len(peer), len(secret))
		}
		if zero := make([]byte, len(secret)); bytes.Equal(secret, zero) {
			t.Error("the secret is zero")
		}
	})
}
