package xform

import (
	"bytes"
	"hash"
	"testing"
)

// The messages count up from 0 in RFC 3566 section 4.6, but for the last one.
func TestXCBCVectors(t *testing.T) {
	key := unhex(t, "000102030405060708090a0b0c0d0e0f")
	counting := make([]byte, 34)
	for i := range counting {
		counting[i] = byte(i)
	}
	for _, tt := range []struct {
		name    string
		message []byte
		want    string
	}{
		{"empty", nil, "75f0251d528ac01c4573dfd584d79f29"},
		{"3 bytes", counting[:3], "5b376580ae2f19afe7219ceef172756f"},
		{"a block", counting[:16], "d2a246fa349b68a79998a4394ff7a263"},
		{"20 bytes", counting[:20], "47f51b4564966215b8985c63055ed308"},
		{"two blocks", counting[:32], "f54f0ec8d2b9f3d36807734bd5283fd4"},
		{"34 bytes", counting, "becbb3bccdb518a30677d5481fb6b4d8"},
		{"1000 zeros", make([]byte, 1000), "f0dafee895db30253761103b5d84528f"},
	} {
		t.Run(tt.name, func(t *testing.T) { testBlockMAC(t, newXCBC(key), tt.message, unhex(t, tt.want)) })
	}
}

// RFC 4493 section 4.
func TestCMACVectors(t *testing.T) {
	key := unhex(t, "2b7e151628aed2a6abf7158809cf4f3c")
	message := unhex(t, "6bc1bee22e409f96e93d7e117393172a ae2d8a571e03ac9c9eb76fac45af8e51"+
		"30c81c46a35ce411e5fbc1191a0a52ef f69f2445df4f9b17ad2b417be66c3710")
	for _, tt := range []struct {
		name string
		n    int
		want string
	}{
		{"empty", 0, "bb1d6929e95937287fa37d129b756746"},
		{"a block", 16, "070a16b46b4d4144f79bdd9dd04a287c"},
		{"40 bytes", 40, "dfa66747de9ae63030ca32611497c827"},
		{"64 bytes", 64, "51f0bebf7e3b9d92fc49741779363cfe"},
	} {
		t.Run(tt.name, func(t *testing.T) { testBlockMAC(t, newCMAC(key), message[:tt.n], unhex(t, tt.want)) })
	}
}

// testBlockMAC writes a message in all pairs of parts, asks twice for the sum,
// and does it again with a clone.
func testBlockMAC(t *testing.T, h hash.Hash, message, want []byte) {
	t.Helper()
	if h.Size() != len(want) || h.BlockSize() != 16 {
		t.Errorf("size %d, blocks of %d", h.Size(), h.BlockSize())
	}
	for n := range min(len(message), 64) + 1 {
		h.Reset()
		h.Write(message[:n])
		clone, err := h.(hash.Cloner).Clone()
		if err != nil {
			t.Fatal(err)
		}
		h.Sum(nil) // changes nothing
		h.Write(message[n:])
		if got := h.Sum([]byte("to")); !bytes.Equal(got, append([]byte("to"), want...)) {
			t.Fatalf("in parts of %d and %d bytes: %x", n, len(message)-n, got)
		}
		clone.Write(message[n:])
		if got := clone.Sum(nil); !bytes.Equal(got, want) {
			t.Fatalf("a clone after %d bytes: %x", n, got)
		}
	}
}
