package ah

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hmac"
	stdsha256 "crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"testing"

	"github.com/ipsecfw/ipsecfw/ipsec"
	"github.com/ipsecfw/ipsecfw/ipsec/xform"
)

func integ(id uint16) ipsec.Transform { return ipsec.Transform{Type: ipsec.TypeInteg, ID: id} }

// params returns the parameters of an SA with keys that follow from a byte.
func params(t testing.TB, integ ipsec.Transform, esn, outer6 bool, first byte) ipsec.Params {
	t.Helper()
	_, n, err := xform.KeyLens(ipsec.Transform{}, integ)
	if err != nil {
		t.Fatal(err)
	}
	key := make([]byte, n)
	for i := range key {
		key[i] = first + 3*byte(i)
	}
	return ipsec.Params{SPI: 0xc0ffee00, Integ: integ, ESN: esn, Outer6: outer6, Keys: ipsec.Keys{Integ: key}}
}

// pair returns both ends of an SA that has used some sequence numbers.
func pair(t testing.TB, integ ipsec.Transform, esn, outer6 bool, last uint64) (*Outbound, *Inbound) {
	t.Helper()
	p, q := params(t, integ, esn, outer6, 1), params(t, integ, esn, outer6, 1)
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

// eachSuite runs a test with every integrity algorithm, with and without ESN,
// before both IP headers.
func eachSuite(t *testing.T, test func(t *testing.T, integ ipsec.Transform, esn, outer6 bool)) {
	for _, tr := range ipsec.Transforms(ipsec.ProtoAH, ipsec.TypeInteg) {
		for _, esn := range []bool{false, true} {
			for _, outer6 := range []bool{false, true} {
				t.Run(fmt.Sprintf("%s/esn=%v/IPv6=%v", tr, esn, outer6), func(t *testing.T) { test(t, tr, esn, outer6) })
			}
		}
	}
}

// ipHeader returns an IP header for n bytes of payload.
func ipHeader(outer6 bool, n int) []byte {
	if outer6 {
		h := make([]byte, 40)
		h[0], h[3], h[6], h[7], h[23], h[39] = 0x6f, 9, Protocol, 64, 1, 2
		binary.BigEndian.PutUint16(h[4:], uint16(n))
		return h
	}
	h := []byte{0x45, 0xb8, 0, 0, 0x12, 0x34, 0x40, 0, 64, Protocol, 0xaa, 0xbb, 192, 0, 2, 1, 192, 0, 2, 2}
	binary.BigEndian.PutUint16(h[2:], uint16(len(h)+n))
	return h
}

// seal returns an IP packet, and the length of its header.
func seal(t testing.TB, o *Outbound, outer6 bool, payload string) (ip []byte, headerLen int) {
	t.Helper()
	h := ipHeader(outer6, len(payload)+o.Overhead(len(payload)))
	ip, err := o.Seal(h, []byte(payload), 17)
	if err != nil {
		t.Fatal(err)
	}
	o.Finish(ip, len(h))
	return ip, len(h)
}

func TestRoundTrip(t *testing.T) {
	eachSuite(t, func(t *testing.T, integ ipsec.Transform, esn, outer6 bool) {
		o, in := pair(t, integ, esn, outer6, 0)
		if !o.CoversHeader() || o.Protocol() != 51 {
			t.Error("it is not AH")
		}
		var total uint64
		for n := range 40 {
			payload := bytes.Repeat([]byte{byte(n)}, n)
			ip, hlen := seal(t, o, outer6, string(payload))
			header, pkt := ip[:hlen], ip[hlen:]
			if o.MaxPlaintext(len(pkt)) != n || o.Overhead(n) != o.HeaderLen() || len(pkt) != n+o.HeaderLen() {
				t.Errorf("%d bytes: a packet of %d", n, len(pkt))
			}
			if len(pkt[:o.HeaderLen()])%align(outer6) != 0 || int(pkt[1]) != o.HeaderLen()/4-2 || binary.BigEndian.Uint32(pkt[4:]) != 0xc0ffee00 || binary.BigEndian.Uint32(pkt[8:]) != uint32(n+1) {
				t.Errorf("header %x", pkt[:o.HeaderLen()])
			}
			before := bytes.Clone(header)
			got, next, err := in.Open(header, pkt)
			if err != nil || !bytes.Equal(got, payload) || next != 17 {
				t.Fatalf("%d bytes: Open = %x, %d, %v", n, got, next, err)
			}
			if !bytes.Equal(header, before) {
				t.Errorf("the IP header is now %x", header)
			}
			total += uint64(n)
		}
		want := ipsec.Counters{Packets: 40, Bytes: total}
		if o.Counters() != want || in.Counters() != want {
			t.Errorf("counters %+v and %+v, want %+v", o.Counters(), in.Counters(), want)
		}
	})
}

// The lengths of AH, with its padding (RFC 4302 section 3.3.3.2.1).
func TestHeaderLen(t *testing.T) {
	for _, tt := range []struct {
		integ     uint16
		four, six int
	}{
		{ipsec.IntegHMACSHA1, 24, 24},
		{ipsec.IntegAESXCBC, 24, 24},
		{ipsec.IntegAESCMAC, 24, 24},
		{ipsec.IntegHMACSHA256, 28, 32},
		{ipsec.IntegHMACSHA384, 36, 40},
		{ipsec.IntegHMACSHA512, 44, 48},
		{ipsec.IntegAES128GMAC, 36, 40},
		{ipsec.IntegAES256GMAC, 36, 40},
	} {
		four, _ := pair(t, integ(tt.integ), false, false, 0)
		six, _ := pair(t, integ(tt.integ), false, true, 0)
		if four.HeaderLen() != tt.four || six.HeaderLen() != tt.six {
			t.Errorf("%s: %d and %d bytes", integ(tt.integ), four.HeaderLen(), six.HeaderLen())
		}
	}
}

// A packet taken apart with the standard library alone.
func TestICV(t *testing.T) {
	for _, esn := range []bool{false, true} {
		last := uint64(0)
		if esn {
			last = 7 << 32
		}
		covered := []byte{0x45, 0, 0, 55, 0x12, 0x34, 0, 0, 0, 51, 0, 0, 192, 0, 2, 1, 192, 0, 2, 2}
		o, _ := pair(t, integ(ipsec.IntegHMACSHA256), esn, false, last)
		ip, _ := seal(t, o, false, "payload")
		h := []byte{17, 5, 0, 0, 0xc0, 0xff, 0xee, 0, 0, 0, 0, 1}
		mac := hmac.New(stdsha256.New, params(t, integ(ipsec.IntegHMACSHA256), esn, false, 1).Keys.Integ)
		mac.Write(covered)
		mac.Write(h)
		mac.Write(make([]byte, 16))
		mac.Write([]byte("payload"))
		if esn {
			mac.Write([]byte{0, 0, 0, 7})
		}
		if want := mac.Sum(nil)[:16]; !bytes.Equal(ip[20:32], h) || !bytes.Equal(ip[32:48], want) {
			t.Errorf("esn=%v: AH %x, want %x %x", esn, ip[20:48], h, want)
		}

		// RFC 4543 section 4: the IV is the sequence number, and covered.
		o, _ = pair(t, integ(ipsec.IntegAES256GMAC), esn, false, last)
		ip, _ = seal(t, o, false, "payload")
		keymat := params(t, integ(ipsec.IntegAES256GMAC), esn, false, 1).Keys.Integ
		block, err := aes.NewCipher(keymat[:32])
		if err != nil {
			t.Fatal(err)
		}
		gcm, err := cipher.NewGCM(block)
		if err != nil {
			t.Fatal(err)
		}
		iv := binary.BigEndian.AppendUint64(nil, last+1)
		covered[3] = 63
		h[1] = 7
		aad := append(append(append(append(bytes.Clone(covered), h...), iv...), make([]byte, 16)...), "payload"...)
		if esn {
			aad = append(aad, 0, 0, 0, 7)
		}
		want := gcm.Seal(nil, append(bytes.Clone(keymat[32:]), iv...), nil, aad)
		if !bytes.Equal(ip[20:32], h) || !bytes.Equal(ip[32:40], iv) || !bytes.Equal(ip[40:56], want) {
			t.Errorf("esn=%v: AH %x, want %x %x %x", esn, ip[20:56], h, iv, want)
		}
	}
}

// Finish finds the upper half of a sequence number, though the SA has gone on.
func TestFinishLate(t *testing.T) {
	o, in := pair(t, integ(ipsec.IntegHMACSHA256), true, false, math.MaxUint32-2)
	var ips [][]byte
	for range 6 {
		ip, err := o.Seal(ipHeader(false, 7+o.Overhead(7)), []byte("payload"), 17)
		if err != nil {
			t.Fatal(err)
		}
		ips = append(ips, ip)
	}
	for i, ip := range ips {
		o.Finish(ip, 20)
		if _, _, err := in.Open(ip[:20], ip[20:]); err != nil {
			t.Errorf("packet %d: %v", i, err)
		}
	}
	if _, _, err := in.Open(ips[0][:20], ips[0][20:]); err != ipsec.ErrReplay {
		t.Errorf("the first again: %v", err)
	}
}

// What may change on the way is not covered, and all else is.
func TestOpenRefuses(t *testing.T) {
	eachSuite(t, func(t *testing.T, integ ipsec.Transform, esn, outer6 bool) {
		o, in := pair(t, integ, esn, outer6, 0)
		ip, hlen := seal(t, o, outer6, "some payload")
		mutable := map[int]byte{1: 0xff, 6: 0xc0, 8: 0xff, 10: 0xff, 11: 0xff} // IPv4, with the bits that may change
		if outer6 {
			mutable = map[int]byte{0: 0x0f, 1: 0xff, 2: 0xff, 3: 0xff, 7: 0xff}
		}
		numbers := map[int]bool{hlen + 11: true} // that make it another packet
		for i := range ip {
			for bit := byte(1); bit != 0; bit <<= 1 {
				bad := bytes.Clone(ip)
				bad[i] ^= bit
				if bad[i]&^mutable[i] == ip[i]&^mutable[i] {
					fresh := pairIn(t, integ, esn, outer6)
					if _, _, err := fresh.Open(bad[:hlen], bad[hlen:]); err != nil {
						t.Errorf("byte %d changed to %02x: %v", i, bad[i], err)
					}
					continue
				}
				payload, _, err := in.Open(bad[:hlen], bad[hlen:])
				if payload != nil || err != ipsec.ErrIntegrity && err != ipsec.ErrMalformed && (err != ipsec.ErrReplay || !numbers[i]) {
					t.Errorf("byte %d changed to %02x: %x, %v", i, bad[i], payload, err)
				}
			}
		}
		for i := hlen; i < len(ip); i++ {
			short := bytes.Clone(ip[:i])
			if payload, _, err := in.Open(short[:hlen], short[hlen:]); err != ipsec.ErrIntegrity && err != ipsec.ErrMalformed {
				t.Errorf("cut to %d bytes: %x, %v", i, payload, err)
			}
		}
		for _, header := range [][]byte{nil, {}, ip[:hlen-1], ip[:1], make([]byte, 20)} {
			if payload, _, err := in.Open(header, bytes.Clone(ip[hlen:])); err != ipsec.ErrIntegrity && err != ipsec.ErrMalformed {
				t.Errorf("header %x: %x, %v", header, payload, err)
			}
		}
		stranger, err := NewInbound(params(t, integ, esn, outer6, 2))
		if err != nil {
			t.Fatal(err)
		}
		if _, _, err := stranger.Open(ip[:hlen], bytes.Clone(ip[hlen:])); err != ipsec.ErrIntegrity {
			t.Errorf("other keys: %v", err)
		}
		if c := in.Counters(); c.Packets != 0 || c.Forged == 0 || c.Malformed == 0 {
			t.Errorf("counters %+v", c)
		}
		if _, _, err := in.Open(ip[:hlen], ip[hlen:]); err != nil {
			t.Errorf("the packet itself: %v", err)
		}
	})
}

func pairIn(t *testing.T, integ ipsec.Transform, esn, outer6 bool) *Inbound {
	t.Helper()
	_, in := pair(t, integ, esn, outer6, 0)
	return in
}

// Linux pads to 64 bits with IPv4 too; with IPv6 there is one length alone.
func TestPaddingOfOthers(t *testing.T) {
	for _, outer6 := range []bool{false, true} {
		o, _ := pair(t, integ(ipsec.IntegHMACSHA256), false, !outer6, 0) // made for the other one
		_, in := pair(t, integ(ipsec.IntegHMACSHA256), false, outer6, 0)
		ip, hlen := seal(t, o, outer6, "payload")
		_, _, err := in.Open(ip[:hlen], ip[hlen:])
		if outer6 && err != ipsec.ErrMalformed || !outer6 && err != nil {
			t.Errorf("IPv6=%v: %v", outer6, err)
		}
	}
}

func TestNewRefuses(t *testing.T) {
	good := params(t, integ(ipsec.IntegHMACSHA256), false, false, 1)
	for _, tt := range []struct {
		name   string
		change func(*ipsec.Params)
		err    error // nil for any
	}{
		{"SPI 0", func(p *ipsec.Params) { p.SPI = 0 }, nil},
		{"encryption", func(p *ipsec.Params) { p.Encr = ipsec.Transform{Type: ipsec.TypeEncr, ID: ipsec.EncrNull} }, xform.ErrUnsupported},
		{"a key of encryption", func(p *ipsec.Params) { p.Keys.Encr = make([]byte, 16) }, xform.ErrUnsupported},
		{"no integrity", func(p *ipsec.Params) { p.Integ = ipsec.Transform{} }, xform.ErrUnsupported},
		{"NONE", func(p *ipsec.Params) { p.Integ.ID = ipsec.IntegNone }, xform.ErrUnsupported},
		{"a short key", func(p *ipsec.Params) { p.Keys.Integ = p.Keys.Integ[:31] }, xform.ErrKeyLength},
	} {
		p := good
		tt.change(&p)
		in, err := NewInbound(p)
		if err == nil || in != nil || tt.err != nil && !errors.Is(err, tt.err) {
			t.Errorf("%s: NewInbound: %v", tt.name, err)
		}
		o, err := NewOutbound(p)
		if err == nil || o != nil || tt.err != nil && !errors.Is(err, tt.err) {
			t.Errorf("%s: NewOutbound: %v", tt.name, err)
		}
	}
}

func TestWipe(t *testing.T) {
	p := params(t, integ(ipsec.IntegHMACSHA256), false, false, 1)
	o, err := NewOutbound(p)
	if err != nil {
		t.Fatal(err)
	}
	_, in := pair(t, integ(ipsec.IntegHMACSHA256), false, false, 0)
	ip, hlen := seal(t, o, false, "payload")
	half, err := o.Seal(ipHeader(false, 7+o.Overhead(7)), []byte("payload"), 17)
	if err != nil {
		t.Fatal(err)
	}
	o.Wipe()
	if !bytes.Equal(p.Keys.Integ, make([]byte, 32)) {
		t.Error("the key is left")
	}
	o.Finish(half, hlen)
	if _, _, err := in.Open(half[:hlen], half[hlen:]); err != ipsec.ErrIntegrity {
		t.Errorf("finished after the end: %v", err)
	}
	in.Wipe()
	if _, _, err := in.Open(ip[:hlen], ip[hlen:]); err != ipsec.ErrClosed {
		t.Errorf("Open: %v", err)
	}
	if _, err := o.Seal(nil, nil, 17); err != ipsec.ErrClosed {
		t.Errorf("Seal: %v", err)
	}
}
