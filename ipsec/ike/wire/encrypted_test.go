package wire

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"reflect"
	"testing"
)

// gcm is AES-GCM as RFC 5282 has it, with a fixed IV and no padding.
type gcm struct {
	aead  cipher.AEAD
	extra int // bytes that SealedLen is wrong by
}

var salt = []byte{1, 2, 3, 4}

func newGCM(t *testing.T) gcm {
	t.Helper()
	block, err := aes.NewCipher(fill(32, 0x42))
	if err != nil {
		t.Fatal(err)
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		t.Fatal(err)
	}
	return gcm{aead: aead}
}

func (g gcm) SealedLen(n int) int { return 8 + n + 1 + g.aead.Overhead() + g.extra }

func (g gcm) Seal(dst, aad, plaintext []byte) ([]byte, error) {
	iv := fill(8, 7)
	dst = append(dst, iv...)
	return g.aead.Seal(dst, append(bytes.Clone(salt), iv...), append(bytes.Clone(plaintext), 0), aad), nil
}

func (g gcm) Open(aad, body []byte) ([]byte, error) {
	if len(body) < 8 {
		return nil, errForged
	}
	p, err := g.aead.Open(nil, append(bytes.Clone(salt), body[:8]...), body[8:], aad)
	if err != nil || len(p) == 0 {
		return nil, errForged
	}
	return p[:len(p)-1], nil
}

var errForged = errors.New("forged")

func TestEncrypted(t *testing.T) {
	c := newGCM(t)
	for _, tt := range []struct {
		name string
		ps   []Payload
	}{
		{"liveness", nil},
		{"IKE_AUTH", []Payload{&ID{Kind: IDFQDN, Data: []byte("host.example")}, &Auth{Method: AuthPSK, Data: fill(32, 5)}}},
		{"everything", everything()},
	} {
		t.Run(tt.name, func(t *testing.T) {
			h := Header{SPIi: 1, SPIr: 2, Version: Version2, Exchange: IKEAuth, Initiator: true, MessageID: 1}
			msg, err := EncodeEncrypted(h, tt.ps, c)
			if err != nil {
				t.Fatal(err)
			}
			got, outer, err := Decode(msg)
			h.FirstPayload = TypeEncrypted
			if err != nil || got != h || len(outer) != 1 {
				t.Fatalf("%v\n got %+v %v\nwant %+v", err, got, outer, h)
			}
			e := outer[0].(*Encrypted)
			ps, err := OpenEncrypted(msg, e, c)
			if err != nil || !reflect.DeepEqual(ps, tt.ps) {
				t.Fatalf("%v\n got %+v\nwant %+v", err, ps, tt.ps)
			}

			// Every bit of the message is under the ICV.
			for i := range msg {
				forged := bytes.Clone(msg)
				forged[i] ^= 1
				if _, err := OpenEncrypted(forged, &Encrypted{Inner: e.Inner, Body: forged[32:]}, c); !errors.Is(err, errForged) {
					t.Fatalf("byte %d changed: %v", i, err)
				}
			}
		})
	}
}

// TestEncryptedBehindPayload has a payload in the clear, which the ICV covers
// too (RFC 5282 section 5.1).
func TestEncryptedBehindPayload(t *testing.T) {
	c := newGCM(t)
	clearText := []Payload{&VendorID{Data: []byte{1, 2, 3}}}
	want := []Payload{&Nonce{Data: fill(16, 1)}}
	first, plaintext, err := EncodePayloads(want)
	if err != nil {
		t.Fatal(err)
	}
	body := make([]byte, c.SealedLen(len(plaintext)))
	msg, err := Encode(Header{Version: Version2, Exchange: IKEAuth}, append(clearText, &Encrypted{Inner: first, Body: body}))
	if err != nil {
		t.Fatal(err)
	}
	n := len(msg) - len(body)
	if _, err := c.Seal(msg[:n], msg[:n], plaintext); err != nil {
		t.Fatal(err)
	}
	_, outer, err := Decode(msg)
	if err != nil {
		t.Fatal(err)
	}
	e, _ := Find[*Encrypted](outer)
	if ps, err := OpenEncrypted(msg, e, c); err != nil || !reflect.DeepEqual(ps, want) {
		t.Errorf("%v %+v", err, ps)
	}
	msg[headerLen+genericLen] ^= 1
	if _, err := OpenEncrypted(msg, e, c); !errors.Is(err, errForged) {
		t.Errorf("the clear payload changed: %v", err)
	}
}

func TestOpenEncryptedErrors(t *testing.T) {
	c := newGCM(t)
	h := Header{Version: Version2, Exchange: IKEAuth}
	msg, err := EncodeEncrypted(h, []Payload{&VendorID{}}, c)
	if err != nil {
		t.Fatal(err)
	}
	var e *Error
	if _, err := OpenEncrypted(msg, &Encrypted{Body: msg}, c); err == nil || errors.As(err, &e) {
		t.Errorf("a body that is not of the message: %v", err)
	}
	if _, err := OpenEncrypted(msg, &Encrypted{Inner: TypeVendorID, Body: msg[32:36]}, c); !errors.Is(err, errForged) || errors.As(err, &e) {
		t.Errorf("a short body: %v", err)
	}

	// What is authentic and malformed is an *Error.
	b, err := h.appendTo(nil, TypeEncrypted)
	if err != nil {
		t.Fatal(err)
	}
	plaintext := []byte{0, 0, 0, 3}
	b = append(b, byte(TypeVendorID), 0, 0, 0)
	binary.BigEndian.PutUint32(b[24:], uint32(len(b)+c.SealedLen(len(plaintext))))
	binary.BigEndian.PutUint16(b[30:], uint16(genericLen+c.SealedLen(len(plaintext))))
	if b, err = c.Seal(b, b, plaintext); err != nil {
		t.Fatal(err)
	}
	_, err = OpenEncrypted(b, &Encrypted{Inner: TypeVendorID, Body: b[32:]}, c)
	wantError(t, err, TypeVendorID)
}

type failingSealer struct{ gcm }

func (failingSealer) Seal(_, _, _ []byte) ([]byte, error) { return nil, errForged }

func TestEncodeEncryptedErrors(t *testing.T) {
	c := newGCM(t)
	h := Header{Version: Version2}
	_, err := EncodeEncrypted(h, []Payload{&Nonce{}}, c)
	wantError(t, err, TypeNonce)
	_, err = EncodeEncrypted(Header{}, nil, c)
	wantError(t, err, NoNextPayload)
	_, err = EncodeEncrypted(h, []Payload{&VendorID{Data: make([]byte, 65500)}}, c)
	wantError(t, err, TypeEncrypted)
	if _, err = EncodeEncrypted(h, nil, failingSealer{c}); !errors.Is(err, errForged) {
		t.Errorf("a cipher that fails: %v", err)
	}
	c.extra = 1
	if b, err := EncodeEncrypted(h, nil, c); err == nil {
		t.Errorf("a length field that is not the length: %x", b)
	}
}

// TestUnsealed has the message of RFC 9242 section 3.3.2, figure 1, of an SK
// payload and of the first of two fragments: all bits of the head stay but those
// of the lengths and of the payload's type.
func TestUnsealed(t *testing.T) {
	c, plaintext := newGCM(t), []byte("the inner payloads")
	h := Header{SPIi: 1, SPIr: 2, Version: Version2, Exchange: IKEIntermediate, Initiator: true, MessageID: 1}
	whole, err := Seal(h, TypeKE, plaintext, c)
	if err != nil {
		t.Fatal(err)
	}
	parts, err := SealFragments(h, TypeKE, plaintext, c, SealedHead+4+c.SealedLen(10))
	if err != nil || len(parts) != 2 {
		t.Fatalf("%d fragments, %v", len(parts), err)
	}
	const want = "0000000000000001" + "0000000000000002" + "2e202b49" + "00000001" + "00000032" + "22d50016"
	for _, msg := range [][]byte{whole, parts[0]} {
		head := bytes.Clone(msg[:SealedHead])
		head[19] |= 0x41 // bits that mean nothing
		head[29] |= 0xd5
		got, err := Unsealed(head, plaintext)
		if err != nil || hex.EncodeToString(got[:SealedHead]) != want || !bytes.Equal(got[SealedHead:], plaintext) {
			t.Errorf("%x, %v, want %s and the payloads", got, err, want)
		}
	}
	_, err = Unsealed(whole[:SealedHead-1], plaintext)
	wantError(t, err, TypeEncrypted)
	_, err = Unsealed(whole[:SealedHead], make([]byte, 0x10000-4))
	wantError(t, err, TypeEncrypted)
}
