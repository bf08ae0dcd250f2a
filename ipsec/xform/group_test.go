package xform

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"io"
	"math/big"
	mathrand "math/rand/v2"
	"testing"
	"testing/iotest"

	"github.com/ProtonMail/go-crypto/brainpool"

	"github.com/ipsecfw/ipsecfw/ipsec"
)

var groups = []struct {
	name                            string
	id                              uint16
	private, public, answer, secret int // bytes
}{
	{"x25519", ipsec.GroupX25519, 32, 32, 32, 32},
	{"x448", ipsec.GroupX448, 56, 56, 56, 56},
	{"ecp224", ipsec.GroupP224, 28, 56, 56, 28},
	{"ecp256", ipsec.GroupP256, 32, 64, 64, 32},
	{"ecp384", ipsec.GroupP384, 48, 96, 96, 48},
	{"ecp521", ipsec.GroupP521, 66, 132, 132, 66},
	{"ecp256bp", ipsec.GroupBrainpoolP256, 32, 64, 64, 32},
	{"ecp384bp", ipsec.GroupBrainpoolP384, 48, 96, 96, 48},
	{"ecp512bp", ipsec.GroupBrainpoolP512, 64, 128, 128, 64},
	{"modp1024", ipsec.GroupMODP1024, 30, 128, 128, 128},
	{"modp1536", ipsec.GroupMODP1536, 30, 192, 192, 192},
	{"modp2048", ipsec.GroupMODP2048, 40, 256, 256, 256},
	{"modp3072", ipsec.GroupMODP3072, 53, 384, 384, 384},
	{"modp4096", ipsec.GroupMODP4096, 60, 512, 512, 512},
	{"modp6144", ipsec.GroupMODP6144, 68, 768, 768, 768},
	{"modp8192", ipsec.GroupMODP8192, 78, 1024, 1024, 1024},
	{"mlkem768", ipsec.GroupMLKEM768, 64, 1184, 1088, 32},
	{"mlkem1024", ipsec.GroupMLKEM1024, 64, 1568, 1568, 32},
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
		{
			name:    "RFC 5903 section 8.3",
			group:   ipsec.GroupP521,
			private: "0037ade9319a89f4dabdb3ef411aaccca5123c61acab57b5393dce47608172a095aa85a30fe1c2952c6771d937ba9777f5957b2639bab072462f68c27a57382d4a52",
			public: "0015417e84dbf28c0ad3c278713349dc7df153c897a1891bd98bab4357c9ecbee1e3bf42e00b8e380aeae57c2d107564941885942af5a7f4601723c4195d176ced3e" +
				"017cae20b6641d2eeb695786d8c946146239d099e18e1d5a514c739d7cb4a10ad8a788015ac405d7799dc75e7b7d5b6cf2261a6a7f1507438bf01beb6ca3926f9582",
			peer: "00d0b3975ac4b799f5bea16d5e13e9af971d5e9b984c9f39728b5e5739735a219b97c356436adc6e95bb0352f6be64a6c2912d4ef2d0433ced2b6171640012d9460f" +
				"015c68226383956e3bd066e797b623c27ce0eac2f551a10c2c724d9852077b87220b6536c5c408a1d2aebb8e86d678ae49cb57091f4732296579ab44fcd17f0fc56a",
			secret: "01144c7d79ae6956bc8edb8e7c787c4521cb086fa64407f97894e5e6b2d79b04d1427e73ca4baa240a34786859810c06b3c715a3a8cc3151f2bee417996d19f3ddea",
		},
		{
			name:    "RFC 7748 section 6.2",
			group:   ipsec.GroupX448,
			private: "9a8f4925d1519f5775cf46b04b5800d4ee9ee8bae8bc5565d498c28dd9c9baf574a9419744897391006382a6f127ab1d9ac2d8c0a598726b",
			public:  "9b08f7cc31b7e3e67d22d5aea121074a273bd2b83de09c63faa73d2c22c5d9bbc836647241d953d40c5b12da88120d53177f80e532c41fa0",
			peer:    "3eb7a829b0cd20f5bcfc0b599b6feccf6da4627107bdb0d4f345b43027d8b972fc3e34fb4232a13ca706dcb57aec3dae07bdc1c67bf33609",
			secret:  "07fff4181ac6cc95ec1c16a94a0f74d12da232ce40a77552281d282bb60c0b56fd2464c335543936521c24403085d59a449a5037514a879d",
		},
		{
			name:    "RFC 7027 appendix A.1",
			group:   ipsec.GroupBrainpoolP256,
			private: "81db1ee100150ff2ea338d708271be38300cb54241d79950f77b063039804f1d",
			public: "44106e913f92bc02a1705d9953a8414db95e1aaa49e81d9e85f929a8e3100be5" +
				"8ab4846f11caccb73ce49cbdd120f5a900a69fd32c272223f789ef10eb089bdc",
			peer: "8d2d688c6cf93e1160ad04cc4429117dc2c41825e1e9fca0addd34e6f1b39f7b" +
				"990c57520812be512641e47034832106bc7d3e8dd0e4c7f1136d7006547cec6a",
			secret: "89afc39d41d3b327814b80940b042590f96556ec91e6ae7939bce31f3a18bf2b",
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
	for _, tt := range []struct {
		group          uint16
		public, secret string
	}{
		{ipsec.GroupMODP1024, "08a3a952aa02f0d7e0492e801e40a2532e51b3f0046a9cc9e2ae3c9b74a9f46c",
			"939dfba2e582ecf0490ad841649bdc2f4943941b9ccb04e5382867ad3a0088df"},
		{ipsec.GroupMODP1536, "31042507ffd146b3aad3c6c61890dc0f6d3aa94eb6e45591a5636870b72d19f5",
			"bd1c31084e5c55ff78a906c5a2d634dba10d535c70884d662cd26abbfb78aff6"},
		{ipsec.GroupMODP2048, "5d42b02cc7ccd3d51a5c4f8b7a4dd6bd0f90c22b9c75640f268f635c8fea2e15",
			"7a7bcd89896ccdcbf79bdbc8c9a57af7140557ea104028785ac91625af446637"},
		{ipsec.GroupMODP3072, "f16ea9bd90bd3b0feb756256f752b22bd22b70754bff5d50c5dde384e3bd49c8",
			"18f00b73bb03387c7d88df57443080a7e179be911caee17e422b11ed3adb6790"},
		{ipsec.GroupMODP4096, "4ccc0dd08e3643e6f9e63fc436d5cfee43b9c48266d420a7954f2d4dd595fdde",
			"17eac1e0b59695756e41b86a3ffeb477e031e7f18db7fe59c1ef70e2902363df"},
		{ipsec.GroupMODP6144, "51070d5fd68aaf1df059f8be3f651a28916c0743e3b26b0631031eec63f52324",
			"84ff384adea10b49611c9e8200e1312968b97b264c46b74d75c5a0c19750bc72"},
		{ipsec.GroupMODP8192, "8da8ca5ab40b1f01ebd09ddc5954ab71f3a01fde71e9ce2e64df1658837fe10b",
			"f358a077f84a88fa5393adb2e1a73ba9339b5a23bb26c7db8cc43cec5df7bf98"},
	} {
		n := modpLen(modpGroups[tt.group].prime)
		exponent := make([]byte, modpGroups[tt.group].exponentLen)
		for i := range exponent {
			exponent[i] = byte(i + 1)
		}
		k, err := GenerateKey(tt.group, bytes.NewReader(exponent))
		if err != nil {
			t.Fatal(err)
		}
		three := make([]byte, n)
		three[n-1] = 3
		secret, err := k.Shared(three)
		if err != nil {
			t.Fatal(err)
		}
		if sum := sha256.Sum256(k.Public()); !bytes.Equal(sum[:], unhex(t, tt.public)) {
			t.Errorf("MODP-%d: public value is %x", 8*n, k.Public())
		}
		if sum := sha256.Sum256(secret); !bytes.Equal(sum[:], unhex(t, tt.secret)) {
			t.Errorf("MODP-%d: secret is %x", 8*n, secret)
		}
	}
}

func TestGroupsAgree(t *testing.T) {
	for _, g := range groups {
		t.Run(g.name, func(t *testing.T) {
			key, err := GenerateKey(g.id, rand.Reader)
			if err != nil {
				t.Fatal(err)
			}
			answer, theirs, err := Answer(g.id, key.Public(), rand.Reader)
			if err != nil {
				t.Fatal(err)
			}
			ours, err := key.Shared(answer)
			if err != nil {
				t.Fatal(err)
			}
			if len(key.Public()) != g.public || len(answer) != g.answer {
				t.Errorf("public values have %d and %d bytes", len(key.Public()), len(answer))
			}
			if !bytes.Equal(ours, theirs) || len(ours) != g.secret {
				t.Errorf("secrets %x and %x", ours, theirs)
			}
			if again, other, err := Answer(g.id, key.Public(), rand.Reader); err != nil || bytes.Equal(again, answer) || bytes.Equal(other, theirs) {
				t.Errorf("another answer is the same, or fails: %v", err)
			}
		})
	}
}

// The secret of a ciphertext that was changed is another one.
func TestMLKEMChangedCiphertext(t *testing.T) {
	for _, group := range []uint16{ipsec.GroupMLKEM768, ipsec.GroupMLKEM1024} {
		key, err := GenerateKey(group, rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		answer, theirs, err := Answer(group, key.Public(), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		answer[7] ^= 1
		if ours, err := key.Shared(answer); err != nil || bytes.Equal(ours, theirs) {
			t.Errorf("group %d: %v", group, err)
		}
	}
}

func TestAnswerRefuses(t *testing.T) {
	for _, g := range groups {
		key, err := GenerateKey(g.id, rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		good := key.Public()
		for name, peer := range map[string][]byte{"nothing": nil, "short": good[1:], "long": append([]byte{0}, good...)} {
			if public, secret, err := Answer(g.id, peer, rand.Reader); !errors.Is(err, ErrPublicValue) || public != nil || secret != nil {
				t.Errorf("%s, %s: %v", g.name, name, err)
			}
		}
		if public, secret, err := Answer(g.id, good, iotest.ErrReader(io.ErrNoProgress)); !errors.Is(err, io.ErrNoProgress) || public != nil || secret != nil {
			t.Errorf("%s without randomness: %v", g.name, err)
		}
	}
	if _, _, err := Answer(ipsec.GroupNone, nil, rand.Reader); !errors.Is(err, ErrUnsupported) {
		t.Errorf("no group: %v", err)
	}
	overflow := bytes.Repeat([]byte{0xff}, 1184) // coefficients of 4095
	if _, _, err := Answer(ipsec.GroupMLKEM768, overflow, rand.Reader); !errors.Is(err, ErrPublicValue) {
		t.Errorf("ML-KEM coefficients beyond the modulus: %v", err)
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
	if _, err := GenerateKey(ipsec.GroupP256, bytes.NewReader(make([]byte, draws*32))); err == nil {
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
	pBrainpool := brainpool.P256r1().Params().P.Bytes()
	tests := []struct {
		name  string
		group uint16
		peer  []byte
	}{
		{"X448 zero", ipsec.GroupX448, make([]byte, 56)},
		{"X448 one", ipsec.GroupX448, append([]byte{1}, make([]byte, 55)...)},
		{"X448 short", ipsec.GroupX448, make([]byte, 55)},
		{"P-224 zero", ipsec.GroupP224, make([]byte, 56)},
		{"P-224 short", ipsec.GroupP224, make([]byte, 55)},
		{"P-224 out of range", ipsec.GroupP224, bytes.Repeat([]byte{0xff}, 56)},
		{"P-521 off the curve", ipsec.GroupP521, append(make([]byte, 131), 1)},
		{"brainpoolP256r1 zero", ipsec.GroupBrainpoolP256, make([]byte, 64)},
		{"brainpoolP256r1 modulus for zero", ipsec.GroupBrainpoolP256, append(bytes.Clone(pBrainpool), pBrainpool...)},
		{"brainpoolP384r1 off the curve", ipsec.GroupBrainpoolP384, append(make([]byte, 95), 1)},
		{"brainpoolP512r1 long", ipsec.GroupBrainpoolP512, make([]byte, 129)},
		{"ML-KEM-768 empty", ipsec.GroupMLKEM768, nil},
		{"ML-KEM-768 short", ipsec.GroupMLKEM768, make([]byte, 1087)},
		{"ML-KEM-768 with an encapsulation key", ipsec.GroupMLKEM768, make([]byte, 1184)},
		{"ML-KEM-1024 long", ipsec.GroupMLKEM1024, make([]byte, 1569)},
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

// The primes are 2^n - 2^(n-64) - 1 + 2^64 * (floor(2^(n-130) pi) + c) with a c
// for each (RFC 2409 section 6.2, RFC 3526), and half of each is prime as well.
func TestMODPPrimes(t *testing.T) {
	const guard = 64
	// Machin: pi = 16 arctan(1/5) - 4 arctan(1/239), in units of 2^-(bits+guard).
	arctan := func(inverse int64, bits uint) *big.Int {
		n := big.NewInt(inverse)
		term := new(big.Int).Lsh(big.NewInt(1), bits+guard)
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
	pow := func(n uint) *big.Int { return new(big.Int).Lsh(big.NewInt(1), n) }
	for _, tt := range []struct {
		prime *big.Int
		bits  uint
		c     int64
	}{
		{modp1024, 1024, 129093}, {modp1536, 1536, 741804}, {modp2048, 2048, 124476}, {modp3072, 3072, 1690314},
		{modp4096, 4096, 240904}, {modp6144, 6144, 929484}, {modp8192, 8192, 4743158},
	} {
		pi := arctan(5, tt.bits-130)
		pi.Mul(pi, big.NewInt(16))
		pi.Sub(pi, new(big.Int).Mul(arctan(239, tt.bits-130), big.NewInt(4)))
		pi.Rsh(pi, guard)

		want := pi.Add(pi, big.NewInt(tt.c))
		want.Lsh(want, 64)
		want.Add(want, pow(tt.bits))
		want.Sub(want, pow(tt.bits-64))
		want.Sub(want, big.NewInt(1))
		if tt.prime.Cmp(want) != 0 {
			t.Errorf("prime is %x, want %x", tt.prime, want)
		}
		// The formula is known to give safe primes; testing takes minutes for the long ones.
		if tt.bits <= 2048 && (!tt.prime.ProbablyPrime(0) || !new(big.Int).Rsh(tt.prime, 1).ProbablyPrime(0)) {
			t.Errorf("%d bits: not a safe prime", tt.bits)
		}
	}
}

// Shared takes whatever a responder sends.
func FuzzShared(f *testing.F) {
	keys := make([]PrivateKey, len(groups))
	for i, g := range groups {
		k, err := GenerateKey(g.id, bytes.NewReader(bytes.Repeat([]byte{7}, g.private)))
		if err != nil {
			f.Fatal(err)
		}
		answer, _, err := Answer(g.id, k.Public(), mathrand.NewChaCha8([32]byte{1}))
		if err != nil {
			f.Fatal(err)
		}
		keys[i] = k
		f.Add(uint8(i), answer)
		f.Add(uint8(i), make([]byte, g.answer))
		f.Add(uint8(i), answer[1:])
	}
	f.Fuzz(func(t *testing.T, which uint8, peer []byte) {
		i := int(which) % len(groups)
		given := bytes.Clone(peer)
		secret, err := keys[i].Shared(peer)
		if !bytes.Equal(given, peer) {
			t.Error("the peer's value was changed")
		}
		checkSecret(t, secret, groups[i].secret, err)
		if err == nil && len(peer) != groups[i].answer {
			t.Errorf("%d bytes gave a secret", len(peer))
		}
	})
}

// Answer takes whatever an initiator sends.
func FuzzAnswer(f *testing.F) {
	for i, g := range groups {
		k, err := GenerateKey(g.id, bytes.NewReader(bytes.Repeat([]byte{7}, g.private)))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(uint8(i), k.Public())
		f.Add(uint8(i), make([]byte, g.public))
		f.Add(uint8(i), k.Public()[1:])
	}
	f.Fuzz(func(t *testing.T, which uint8, peer []byte) {
		g := groups[int(which)%len(groups)]
		given := bytes.Clone(peer)
		public, secret, err := Answer(g.id, peer, mathrand.NewChaCha8([32]byte{2}))
		if !bytes.Equal(given, peer) {
			t.Error("the peer's value was changed")
		}
		checkSecret(t, secret, g.secret, err)
		if err == nil && (len(peer) != g.public || len(public) != g.answer) {
			t.Errorf("%d bytes were answered with %d", len(peer), len(public))
		}
	})
}

func checkSecret(t *testing.T, secret []byte, size int, err error) {
	t.Helper()
	switch {
	case err != nil && (!errors.Is(err, ErrPublicValue) || secret != nil):
		t.Errorf("%x, %v", secret, err)
	case err == nil && len(secret) != size:
		t.Errorf("a secret of %d bytes", len(secret))
	case err == nil && bytes.Equal(secret, make([]byte, size)):
		t.Error("the secret is zero")
	}
}
