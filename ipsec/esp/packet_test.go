package esp

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/des"
	"crypto/hmac"
	stdsha256 "crypto/sha256"
	"encoding/binary"
	"fmt"
	"testing"

	"github.com/ipsecfw/ipsecfw/ipsec"
	"github.com/ipsecfw/ipsecfw/ipsec/xform"
)

// sealed returns the 7·2^32 + 1st packet of an SA, with ESN.
func sealed(t *testing.T, p ipsec.Params, payload string) []byte {
	t.Helper()
	if p.ESN {
		p.Last = 7 << 32
	}
	o, err := NewOutbound(p)
	if err != nil {
		t.Fatal(err)
	}
	return seal(t, o, payload)
}

// Packets of ciphers without integrity, taken apart with the standard library
// alone.
func TestMACPackets(t *testing.T) {
	const payload = "twenty-one bytes of it"
	for _, tt := range []struct {
		name    string
		encr    ipsec.Transform
		iv      int
		padding string
		decrypt func(key, iv, contents []byte) error
	}{
		{"AES-CTR", encr(ipsec.EncrAESCTR, 192), 8, "", func(keymat, iv, contents []byte) error {
			block, err := aes.NewCipher(keymat[:24])
			if err != nil {
				return err
			}
			first := append(append(bytes.Clone(keymat[24:]), iv...), 0, 0, 0, 1) // RFC 3686 section 4
			cipher.NewCTR(block, first).XORKeyStream(contents, contents)
			return nil
		}},
		{"3DES-CBC", encr(ipsec.Encr3DES, 0), 8, "", func(key, iv, contents []byte) error {
			block, err := des.NewTripleDESCipher(key)
			if err != nil {
				return err
			}
			cipher.NewCBCDecrypter(block, iv).CryptBlocks(contents, contents)
			return nil
		}},
		{"AES-CBC", cbc256, 16, "\x01\x02\x03\x04\x05\x06\x07\x08", func(key, iv, contents []byte) error {
			block, err := aes.NewCipher(key)
			if err != nil {
				return err
			}
			cipher.NewCBCDecrypter(block, iv).CryptBlocks(contents, contents)
			return nil
		}},
	} {
		for _, esn := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s/esn=%v", tt.name, esn), func(t *testing.T) {
				p := params(t, tt.encr, sha256, esn, 1)
				pkt := sealed(t, p, payload)
				covered, icv := pkt[:len(pkt)-16], pkt[len(pkt)-16:]
				mac := hmac.New(stdsha256.New, p.Keys.Integ)
				mac.Write(covered)
				if esn {
					mac.Write([]byte{0, 0, 0, 7})
				}
				if want := mac.Sum(nil)[:16]; !bytes.Equal(icv, want) {
					t.Errorf("ICV %x, want %x", icv, want)
				}
				contents := bytes.Clone(covered[8+tt.iv:])
				if err := tt.decrypt(p.Keys.Encr, covered[8:8+tt.iv], contents); err != nil {
					t.Fatal(err)
				}
				if want := payload + tt.padding + string([]byte{byte(len(tt.padding)), 17}); string(contents) != want {
					t.Errorf("contents %q, want %q", contents, want)
				}
			})
		}
	}
}

// The nonce of an AEAD is the end of its keying material and the IV, which is
// the sequence number; the additional data are SPI and sequence number.
func TestAEADPackets(t *testing.T) {
	for _, tr := range ipsec.Transforms(ipsec.ProtoESP, ipsec.TypeEncr) {
		if !tr.AEAD() {
			continue
		}
		for _, esn := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s/esn=%v", tr, esn), func(t *testing.T) {
				p := params(t, tr, ipsec.Transform{}, esn, 1)
				pkt := sealed(t, p, "payload")
				salt := 4
				switch tr.ID {
				case ipsec.EncrAESCCM8, ipsec.EncrAESCCM12, ipsec.EncrAESCCM16:
					salt = 3 // RFC 4309 section 4
				}
				aead, _, err := xform.NewAEAD(tr, p.Keys.Encr)
				if err != nil {
					t.Fatal(err)
				}
				nonce := append(bytes.Clone(p.Keys.Encr[len(p.Keys.Encr)-salt:]), pkt[8:16]...)
				aad, seq := pkt[:8], uint64(1)
				if esn {
					aad, seq = []byte{0xc0, 0xff, 0xee, 0, 0, 0, 0, 7, 0, 0, 0, 1}, 7<<32+1
				}
				if got := binary.BigEndian.Uint64(pkt[8:]); got != seq {
					t.Errorf("IV of the number %d, want %d", got, seq)
				}
				contents, err := aead.Open(nil, nonce, pkt[16:], aad)
				if want := "payload\x01\x02\x03\x03\x11"; err != nil || string(contents) != want {
					t.Errorf("contents %q, %v, want %q", contents, err, want)
				}
			})
		}
	}
}
