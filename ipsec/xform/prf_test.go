package xform

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/ipsecfw/ipsecfw/ipsec"
)

// unhex decodes hexadecimal digits with any white space between them.
func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.Join(strings.Fields(s), ""))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestPRFVectors(t *testing.T) {
	type test struct {
		name      string
		id        uint16
		key, data []byte
		want      string
	}
	blockPRFKey := unhex(t, "000102030405060708090a0b0c0d0e0fedcb")
	twenty := unhex(t, "000102030405060708090a0b0c0d0e0f10111213")
	tests := []test{
		{"RFC 2202 case 2, SHA-1", ipsec.PRFHMACSHA1, []byte("Jefe"), []byte("what do ya want for nothing?"),
			"effcdf6ae5eb2fa2d27416d5f184df9c259a7c79"},
		{"RFC 4231 case 1, SHA-256", ipsec.PRFHMACSHA256, bytes.Repeat([]byte{0x0b}, 20), []byte("Hi There"),
			"b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7"},
		{"RFC 4231 case 2, SHA-256", ipsec.PRFHMACSHA256, []byte("Jefe"), []byte("what do ya want for nothing?"),
			"5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"},
		{"RFC 4231 case 2, SHA-384", ipsec.PRFHMACSHA384, []byte("Jefe"), []byte("what do ya want for nothing?"),
			"af45d2e376484031617f78d2b58a6b1b9c7ef464f5a01b47e42ec3736322445e8e2240ca5e69e2c78b3239ecfab21649"},
		{"RFC 4231 case 2, SHA-512", ipsec.PRFHMACSHA512, []byte("Jefe"), []byte("what do ya want for nothing?"),
			"164b7a7bfcf819e2e395fbe73b56e0a387bd64222e831fd610270cd7ea2505549758bf75c05a994a6d034f65f8f0e6fdcaeab1a34d4a6b4b636e070a38bce737"},
		{"RFC 4231 case 6, SHA-256, long key", ipsec.PRFHMACSHA256, bytes.Repeat([]byte{0xaa}, 131), []byte("Test Using Larger Than Block-Size Key - Hash Key First"),
			"60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54"},
	}
	for n, want := range map[int]string{10: "0fa087af7d866e7653434e602fdde835", 16: "47f51b4564966215b8985c63055ed308", 18: "8cd3c93ae598a9803006ffb67c40e9e4"} {
		tests = append(tests, test{fmt.Sprintf("RFC 4434, AES-XCBC, key of %d bytes", n), ipsec.PRFAESXCBC, blockPRFKey[:n], twenty, want})
	}
	for n, want := range map[int]string{10: "290d9e112edb09ee141fcf64c0b72f3d", 16: "980ae87b5f4c9c5214f5b6a8455e4c2d", 18: "84a348a4a45d235babfffc0d2b4da09a"} {
		tests = append(tests, test{fmt.Sprintf("RFC 4615, AES-CMAC, key of %d bytes", n), ipsec.PRFAESCMAC, blockPRFKey[:n], twenty, want})
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			p, err := NewPRF(tt.id)
			if err != nil {
				t.Fatal(err)
			}
			want := unhex(t, tt.want)
			if p.Size() != len(want) {
				t.Errorf("Size() = %d, want %d", p.Size(), len(want))
			}
			if got := p.Sum(tt.key, tt.data); !bytes.Equal(got, want) {
				t.Errorf("Sum = %x", got)
			}
			if got := p.Sum(tt.key, tt.data[:3], nil, tt.data[3:]); !bytes.Equal(got, want) {
				t.Errorf("Sum of parts = %x", got)
			}
		})
	}
}

// The nonces of AES-XCBC and AES-CMAC are cut for SKEYSEED alone (RFC 7296
// section 2.14).
func TestSeedKey(t *testing.T) {
	ni, nr := []byte("initiator's nonce"), []byte("responder's nonce")
	for _, tr := range ipsec.Transforms(ipsec.ProtoIKE, ipsec.TypePRF) {
		p, err := NewPRF(tr.ID)
		if err != nil {
			t.Fatal(err)
		}
		want := "initiator's nonceresponder's nonce"
		if tr.ID == ipsec.PRFAESXCBC || tr.ID == ipsec.PRFAESCMAC {
			want = "initiatoresponde"
		}
		if got := p.SeedKey(ni, nr); string(got) != want {
			t.Errorf("%s: %q", tr, got)
		}
		if got := p.SeedKey(ni[:3], nil); string(got) != "ini" {
			t.Errorf("%s with short nonces: %q", tr, got)
		}
	}
	if string(ni) != "initiator's nonce" || string(nr) != "responder's nonce" {
		t.Error("the nonces were changed")
	}
}

func TestPRFPlus(t *testing.T) {
	for _, tr := range ipsec.Transforms(ipsec.ProtoIKE, ipsec.TypePRF) {
		t.Run(tr.String(), func(t *testing.T) { testPRFPlus(t, tr.ID) })
	}
}

func testPRFPlus(t *testing.T, id uint16) {
	p, err := NewPRF(id)
	if err != nil {
		t.Fatal(err)
	}
	size := p.Size()
	key, seed := []byte("key"), []byte("seed")
	t1 := p.Sum(key, []byte("seed\x01"))
	t2 := p.Sum(key, t1, []byte("seed\x02"))
	t3 := p.Sum(key, t2, []byte("seed\x03"))
	all := append(append(append([]byte(nil), t1...), t2...), t3...)
	for _, n := range []int{0, 1, size - 1, size, size + 1, 2 * size, 2*size + 1, 3 * size} {
		if got := p.Plus(key, seed, n); !bytes.Equal(got, all[:n]) {
			t.Errorf("Plus of %d bytes = %x, want %x", n, got, all[:n])
		}
	}
	if got := p.Plus(key, seed, 255*size); len(got) != 255*size {
		t.Errorf("Plus of 255 rounds has %d bytes", len(got))
	}
	defer func() {
		if recover() == nil {
			t.Error("Plus beyond 255 rounds returned")
		}
	}()
	p.Plus(key, seed, 255*size+1)
}

func TestNewPRFUnsupported(t *testing.T) {
	for _, id := range []uint16{0, 1, 3, 99} {
		if _, err := NewPRF(id); !errors.Is(err, ErrUnsupported) {
			t.Errorf("NewPRF(%d): %v", id, err)
		}
	}
}
