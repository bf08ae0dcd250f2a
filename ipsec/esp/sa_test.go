package esp

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"testing"

	"github.com/ipsecfw/ipsecfw/ipsec"
	"github.com/ipsecfw/ipsecfw/ipsec/xform"
)

var suites = []struct {
	name        string
	encr, integ ipsec.Transform
}{
	{"aes128gcm16", gcm128, ipsec.Transform{}},
	{"aes256gcm16", gcm256, ipsec.Transform{}},
	{"chacha20poly1305", chacha, ipsec.Transform{}},
	{"aes128-sha1", cbc128, sha1},
	{"aes128-sha256", cbc128, sha256},
	{"aes256-sha384", cbc256, sha384},
	{"aes256-sha512", cbc256, sha512},
	{"aes192gcm12", encr(ipsec.EncrAESGCM12, 192), ipsec.Transform{}},
	{"aes128gcm8", encr(ipsec.EncrAESGCM8, 128), ipsec.Transform{}},
	{"aes256ccm16", encr(ipsec.EncrAESCCM16, 256), ipsec.Transform{}},
	{"aes192ccm12", encr(ipsec.EncrAESCCM12, 192), ipsec.Transform{}},
	{"aes128ccm8", encr(ipsec.EncrAESCCM8, 128), ipsec.Transform{}},
	{"aes128ctr-sha256", encr(ipsec.EncrAESCTR, 128), sha256},
	{"aes256ctr-aescmac", encr(ipsec.EncrAESCTR, 256), integ(ipsec.IntegAESCMAC)},
	{"aes192-aesxcbc", encr(ipsec.EncrAESCBC, 192), integ(ipsec.IntegAESXCBC)},
	{"3des-sha1", encr(ipsec.Encr3DES, 0), sha1},
	{"aes128gmac", encr(ipsec.EncrNullAESGMAC, 128), ipsec.Transform{}},
	{"null-sha256", encr(ipsec.EncrNull, 0), sha256},
	{"null-aesxcbc", encr(ipsec.EncrNull, 0), integ(ipsec.IntegAESXCBC)},
}

func encr(id, bits uint16) ipsec.Transform {
	return ipsec.Transform{Type: ipsec.TypeEncr, ID: id, KeyBits: bits}
}

func integ(id uint16) ipsec.Transform { return ipsec.Transform{Type: ipsec.TypeInteg, ID: id} }

// key returns n bytes that follow from the first.
func key(n int, first byte) []byte {
	k := make([]byte, n)
	for i := range k {
		k[i] = first + 2*byte(i)
	}
	return k
}

// params returns the parameters of an SA with keys that follow from a byte.
func params(t testing.TB, encr, integ ipsec.Transform, esn bool, first byte) ipsec.Params {
	t.Helper()
	e, i, err := xform.KeyLens(encr, integ)
	if err != nil {
		t.Fatal(err)
	}
	keys := ipsec.Keys{Encr: key(e, first), Integ: key(i, first)}
	return ipsec.Params{SPI: 0xc0ffee00, Encr: encr, Integ: integ, ESN: esn, Keys: keys}
}

// pair returns both ends of an SA.
func pair(t testing.TB, encr, integ ipsec.Transform, esn bool) (*Outbound, *Inbound) {
	t.Helper()
	return pairAfter(t, encr, integ, esn, 0)
}

// pairAfter returns both ends of an SA that has used some sequence numbers.
func pairAfter(t testing.TB, encr, integ ipsec.Transform, esn bool, last uint64) (*Outbound, *Inbound) {
	t.Helper()
	p, q := params(t, encr, integ, esn, 1), params(t, encr, integ, esn, 1)
	p.Last, q.Last = last, last
	o, err := NewOutbound(p)
	if err != nil {
		t.Fatal(err)
	}
	in, err := NewInbound(q)
	if err != nil {
		t.Fatal(err)
	}
	return o, in
}

// eachSuite runs a test with every suite, with and without ESN.
func eachSuite(t *testing.T, test func(t *testing.T, encr, integ ipsec.Transform, esn bool)) {
	for _, s := range suites {
		for _, esn := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s/esn=%v", s.name, esn), func(t *testing.T) { test(t, s.encr, s.integ, esn) })
		}
	}
}

func seal(t testing.TB, o *Outbound, payload string) []byte {
	t.Helper()
	pkt, err := o.Seal(nil, []byte(payload), 17)
	if err != nil {
		t.Fatal(err)
	}
	return pkt
}

func TestRoundTrip(t *testing.T) {
	eachSuite(t, func(t *testing.T, encr, integ ipsec.Transform, esn bool) {
		o, in := pair(t, encr, integ, esn)
		var total uint64
		for n := range 80 {
			payload := bytes.Repeat([]byte{byte(n)}, n)
			dst := []byte("before")
			out, err := o.Seal(dst, payload, uint8(n))
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.HasPrefix(out, dst) {
				t.Error("Seal changed what dst held")
			}
			pkt := out[len(dst):]
			if len(pkt) != n+o.Overhead(n) {
				t.Errorf("%d bytes: packet of %d, Overhead says %d", n, len(pkt), o.Overhead(n))
			}
			if spi := binary.BigEndian.Uint32(pkt); spi != 0xc0ffee00 {
				t.Errorf("SPI %08x", spi)
			}
			if seq := binary.BigEndian.Uint32(pkt[4:]); seq != uint32(n+1) {
				t.Errorf("sequence number %d of packet %d", seq, n)
			}
			got, nextHeader, err := in.Open(nil, pkt)
			if err != nil || !bytes.Equal(got, payload) || nextHeader != uint8(n) {
				t.Fatalf("%d bytes: Open = %x, %d, %v", n, got, nextHeader, err)
			}
			if n > 0 && &got[0] != &pkt[o.HeaderLen()] {
				t.Error("the payload is not where its ciphertext was")
			}
			total += uint64(n)
		}
		want := ipsec.Counters{Packets: 80, Bytes: total}
		if got := o.Counters(); got != want {
			t.Errorf("outbound counters %+v, want %+v", got, want)
		}
		if got := in.Counters(); got != want {
			t.Errorf("inbound counters %+v, want %+v", got, want)
		}
	})
}

// The plaintext may lie anywhere in dst's spare capacity.
func TestSealInPlace(t *testing.T) {
	eachSuite(t, func(t *testing.T, encr, integ ipsec.Transform, esn bool) {
		const payload = "a payload of more than one block"
		for _, offset := range []int{0, 1, 15, 16, 24, 30, 60} {
			o, in := pair(t, encr, integ, esn)
			buf := make([]byte, 4, 256)
			at := copy(buf[4+offset:cap(buf)], payload)
			plaintext := buf[4+offset : 4+offset+at]
			out, err := o.Seal(buf, plaintext, 6)
			if err != nil {
				t.Fatal(err)
			}
			if &out[0] != &buf[0] {
				t.Errorf("offset %d: Seal moved to other memory", offset)
			}
			got, _, err := in.Open(nil, out[4:])
			if err != nil || string(got) != payload {
				t.Errorf("offset %d: Open = %q, %v", offset, got, err)
			}
		}
	})
}

func TestMaxPlaintext(t *testing.T) {
	for _, s := range suites {
		t.Run(s.name, func(t *testing.T) {
			o, _ := pair(t, s.encr, s.integ, false)
			smallest := o.Overhead(0)
			for size := range 300 {
				n := o.MaxPlaintext(size)
				if size < smallest {
					if n != 0 {
						t.Errorf("size %d: %d bytes", size, n)
					}
					continue
				}
				if n+o.Overhead(n) > size {
					t.Errorf("size %d: %d bytes make a packet of %d", size, n, n+o.Overhead(n))
				}
				if n+1+o.Overhead(n+1) <= size {
					t.Errorf("size %d: %d bytes, but one more fits", size, n)
				}
			}
			if n := o.MaxPlaintext(-1); n != 0 {
				t.Errorf("size -1: %d bytes", n)
			}
		})
	}
}

func TestSequenceExhausted(t *testing.T) {
	for _, tt := range []struct {
		esn  bool
		last uint64
	}{{false, math.MaxUint32}, {true, math.MaxUint64}} {
		t.Run(fmt.Sprintf("esn=%v", tt.esn), func(t *testing.T) {
			o, in := pairAfter(t, gcm128, ipsec.Transform{}, tt.esn, tt.last-1)
			if _, _, err := in.Open(nil, seal(t, o, "last")); err != nil {
				t.Errorf("last packet: %v", err)
			}
			dst := []byte("dst")
			for range 3 {
				out, err := o.Seal(dst, []byte("one more"), 17)
				if err != ipsec.ErrSequenceExhausted || !bytes.Equal(out, dst) {
					t.Errorf("after the last packet: %x, %v", out, err)
				}
			}
			if got := o.Counters(); got.Packets != 1 || got.Bytes != 4 {
				t.Errorf("counters %+v", got)
			}
		})
	}
}

// A packet beyond 2^32 is opened with the upper half of its number that both
// ends infer, and with no other.
func TestESNWrap(t *testing.T) {
	for _, s := range suites {
		t.Run(s.name, func(t *testing.T) {
			o, in := pairAfter(t, s.encr, s.integ, true, math.MaxUint32-5)
			var late []byte
			for i := range 10 {
				pkt := seal(t, o, "over the edge")
				if i == 2 {
					late = pkt
					continue
				}
				if _, _, err := in.Open(nil, pkt); err != nil {
					t.Fatalf("packet %d: %v", i, err)
				}
			}
			again := bytes.Clone(late)
			if _, _, err := in.Open(nil, late); err != nil {
				t.Errorf("late packet of the round before: %v", err)
			}
			if _, _, err := in.Open(nil, again); err != ipsec.ErrReplay {
				t.Errorf("the same again: %v", err)
			}
			_, other := pair(t, s.encr, s.integ, true)
			if _, _, err := other.Open(nil, seal(t, o, "second round")); err != ipsec.ErrIntegrity {
				t.Errorf("opened in the first round: %v", err)
			}
		})
	}
}

func TestOpenRefuses(t *testing.T) {
	eachSuite(t, func(t *testing.T, encr, integ ipsec.Transform, esn bool) {
		o, in := pair(t, encr, integ, esn)
		pkt := seal(t, o, "some payload")
		var forged, malformed uint64
		for i := range pkt {
			bad := bytes.Clone(pkt)
			bad[i] ^= 1
			payload, _, err := in.Open(nil, bad)
			if err == ipsec.ErrReplay && i == 7 {
				continue // number 0
			}
			if err != ipsec.ErrIntegrity || payload != nil {
				t.Errorf("byte %d changed: %x, %v", i, payload, err)
			}
			forged++
		}
		for i := range pkt {
			payload, _, err := in.Open(nil, bytes.Clone(pkt[:i]))
			switch err {
			case ipsec.ErrIntegrity:
				forged++
			case ipsec.ErrMalformed:
				malformed++
			default:
				t.Errorf("cut to %d bytes: %x, %v", i, payload, err)
			}
		}
		stranger, err := NewInbound(params(t, encr, integ, esn, 2))
		if err != nil {
			t.Fatal(err)
		}
		if _, _, err := stranger.Open(nil, bytes.Clone(pkt)); err != ipsec.ErrIntegrity {
			t.Errorf("other keys: %v", err)
		}
		want := ipsec.Counters{Replayed: 1, Forged: forged, Malformed: malformed}
		if got := in.Counters(); got != want {
			t.Errorf("counters %+v, want %+v", got, want)
		}
		if _, _, err := in.Open(nil, pkt); err != nil {
			t.Errorf("the packet itself: %v", err)
		}
	})
}

func TestReplay(t *testing.T) {
	o, err := NewOutbound(params(t, gcm128, ipsec.Transform{}, false, 1))
	if err != nil {
		t.Fatal(err)
	}
	p := params(t, gcm128, ipsec.Transform{}, false, 1)
	p.Window = 32
	in, err := NewInbound(p)
	if err != nil {
		t.Fatal(err)
	}
	var pkts [][]byte
	for range 40 {
		pkts = append(pkts, seal(t, o, "payload"))
	}
	open := func(i int) error {
		_, _, err := in.Open(nil, bytes.Clone(pkts[i]))
		return err
	}
	for _, s := range []struct {
		packet int
		want   error
	}{{5, nil}, {5, ipsec.ErrReplay}, {3, nil}, {39, nil}, {8, nil}, {7, ipsec.ErrReplay}, {39, ipsec.ErrReplay}, {38, nil}} {
		if err := open(s.packet); err != s.want {
			t.Errorf("packet %d: %v, want %v", s.packet, err, s.want)
		}
	}
	if got := in.Counters(); got.Packets != 5 || got.Replayed != 3 {
		t.Errorf("counters %+v", got)
	}
}

// Contents that the holder of the keys sealed, but no RFC allows.
func TestOpenBadPadding(t *testing.T) {
	tests := []struct {
		name     string
		contents string
		err      error
	}{
		{"right", "aabb010203040506070809" + "0a0b0c" + "0c04", nil},
		{"no padding", "aabbccddaabbccddaabbccddaabb" + "0004", nil},
		{"only padding", "0102030405060708090a0b0c0d0e" + "0e3b", nil},
		{"zeros", "aabb000000000000000000" + "000000" + "0c04", ipsec.ErrMalformed},
		{"last byte wrong", "aabb010203040506070809" + "0a0b0d" + "0c04", ipsec.ErrMalformed},
		{"longer than the contents", "0102030405060708090a0b0c0d0e" + "0f04", ipsec.ErrMalformed},
		{"longest", "0102030405060708090a0b0c0d0e" + "ff04", ipsec.ErrMalformed},
	}
	for _, s := range suites {
		for _, tt := range tests {
			t.Run(s.name+"/"+tt.name, func(t *testing.T) {
				o, in := pair(t, s.encr, s.integ, false)
				contents := unhex(t, tt.contents)
				pkt := binary.BigEndian.AppendUint32(nil, 0xc0ffee00)
				pkt = binary.BigEndian.AppendUint32(pkt, 1)
				suite, err := newSuite(params(t, s.encr, s.integ, false, 1))
				if err != nil {
					t.Fatal(err)
				}
				iv, icv, _ := suite.lens()
				pkt = append(append(pkt, make([]byte, iv)...), contents...)
				pkt = append(pkt, make([]byte, icv)...)
				suite.seal(pkt, 0)
				payload, _, err := in.Open(nil, pkt)
				if err != tt.err {
					t.Fatalf("%x, %v", payload, err)
				}
				// Its number counts as received only if it was opened.
				if _, _, again := in.Open(nil, seal(t, o, "payload")); (again == ipsec.ErrReplay) != (err == nil) {
					t.Errorf("the number again: %v", again)
				}
			})
		}
	}
}

func TestWipe(t *testing.T) {
	eachSuite(t, func(t *testing.T, encr, integ ipsec.Transform, esn bool) {
		po, pi := params(t, encr, integ, esn, 1), params(t, encr, integ, esn, 1)
		o, err := NewOutbound(po)
		if err != nil {
			t.Fatal(err)
		}
		in, err := NewInbound(pi)
		if err != nil {
			t.Fatal(err)
		}
		pkt := seal(t, o, "payload")
		for range 2 {
			o.Wipe()
			in.Wipe()
		}
		if out, err := o.Seal(nil, []byte("payload"), 17); err != ipsec.ErrClosed || out != nil {
			t.Errorf("Seal: %x, %v", out, err)
		}
		if _, _, err := in.Open(nil, pkt); err != ipsec.ErrClosed {
			t.Errorf("Open: %v", err)
		}
		for _, key := range [][]byte{po.Keys.Encr, po.Keys.Integ, pi.Keys.Encr, pi.Keys.Integ} {
			if !bytes.Equal(key, make([]byte, len(key))) {
				t.Errorf("key %x left", key)
			}
		}
		if got := o.Counters(); got.Packets != 1 {
			t.Errorf("counters %+v", got)
		}
	})
}

func TestNewRefuses(t *testing.T) {
	good := params(t, gcm128, ipsec.Transform{}, false, 1)
	cbc := params(t, cbc128, sha256, false, 1)
	tests := []struct {
		name    string
		base    ipsec.Params
		change  func(*ipsec.Params)
		err     error // nil for any
		inbound bool  // only an inbound SA minds
	}{
		{"SPI 0", good, func(p *ipsec.Params) { p.SPI = 0 }, nil, false},
		{"reserved SPI", good, func(p *ipsec.Params) { p.SPI = 255 }, nil, false},
		{"short key", good, func(p *ipsec.Params) { p.Keys.Encr = p.Keys.Encr[:16] }, xform.ErrKeyLength, false},
		{"AEAD with integrity", good, func(p *ipsec.Params) { p.Integ = sha256 }, xform.ErrUnsupported, false},
		{"AEAD with an integrity key", good, func(p *ipsec.Params) { p.Keys.Integ = make([]byte, 32) }, xform.ErrKeyLength, false},
		{"CBC without integrity", cbc, func(p *ipsec.Params) { p.Integ = ipsec.Transform{} }, xform.ErrUnsupported, false},
		{"CBC with a short integrity key", cbc, func(p *ipsec.Params) { p.Keys.Integ = make([]byte, 16) }, xform.ErrKeyLength, false},
		{"null encryption with a key", cbc, func(p *ipsec.Params) { p.Encr = encr(ipsec.EncrNull, 0) }, xform.ErrKeyLength, false},
		{"null encryption without integrity", good, func(p *ipsec.Params) { p.Encr, p.Keys.Encr = encr(ipsec.EncrNull, 0), nil }, xform.ErrUnsupported, false},
		{"no encryption", cbc, func(p *ipsec.Params) { p.Encr, p.Keys.Encr = ipsec.Transform{}, nil }, xform.ErrUnsupported, false},
		{"AES-GMAC with integrity", good, func(p *ipsec.Params) { p.Encr.ID, p.Integ = ipsec.EncrNullAESGMAC, sha256 }, xform.ErrUnsupported, false},
		{"the integrity of AH", cbc, func(p *ipsec.Params) { p.Integ = integ(ipsec.IntegAES128GMAC) }, xform.ErrUnsupported, false},
		{"small window", good, func(p *ipsec.Params) { p.Window = 31 }, nil, true},
		{"negative window", good, func(p *ipsec.Params) { p.Window = -1 }, nil, true},
		{"huge window", good, func(p *ipsec.Params) { p.Window = 65537 }, nil, true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			p := tt.base
			tt.change(&p)
			in, err := NewInbound(p)
			if err == nil || in != nil || tt.err != nil && !errors.Is(err, tt.err) {
				t.Errorf("NewInbound: %v", err)
			}
			o, err := NewOutbound(p)
			if (err == nil) != tt.inbound || (o == nil) == tt.inbound || tt.err != nil && !errors.Is(err, tt.err) {
				t.Errorf("NewOutbound: %v", err)
			}
		})
	}
}
