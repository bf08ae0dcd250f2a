package xform

import (
	"bytes"
	"encoding/hex"
	"errors"
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
	tests := []struct {
		name      string
		id        uint16
		key, data []byte
		want      string
	}{
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

func TestPRFPlus(t *testing.T) {
	p, err := NewPRF(ipsec.PRFHMACSHA256)
	if err != nil {
		t.Fatal(err)
	}
	key, seed := []byte("key"), []byte("seed")
	t1 := p.Sum(key, []byte("seed\x01"))
	t2 := p.Sum(key, t1, []byte("seed\x02"))
	t3 := p.Sum(key, t2, []byte("seed\x03"))
	all := append(append(append([]byte(nil), t1...), t2...), t3...)
	for _, n := range []int{0, 1, 31, 32, 33, 64, 65, 96} {
		if got := p.Plus(key, seed, n); !bytes.Equal(got, all[:n]) {
			t.Errorf("Plus of %d bytes = %x, want %x", n, got, all[:n])
		}
	}
	if got := p.Plus(key, seed, 255*32); len(got) != 255*32 {
		t.Errorf("Plus of 255 rounds has %d bytes", len(got))
	}
	defer func() {
		if recover() == nil {
			t.Error("Plus beyond 255 rounds returned")
		}
	}()
	p.Plus(key, seed, 255*32+1)
}

func TestNewPRFUnsupported(t *testing.T) {
	for _, id := range []uint16{0, 1, 4, 99} {
		if _, err := NewPRF(id); !errors.Is(err, ErrUnsupported) {
			t.Errorf("NewPRF(%d): %v", id, err)
		}
	}
}
