package wire

import (
	"bytes"
	"encoding/binary"
	"reflect"
	"testing"
)

// stepped is gcm with padding to whole blocks, as ciphers with blocks have it.
type stepped struct{ gcm }

func (s stepped) SealedLen(n int) int { return s.gcm.SealedLen(s.padded(n)) }

func (s stepped) padded(n int) int { return (n + 16) / 16 * 16 }

func (s stepped) Seal(dst, aad, plaintext []byte) ([]byte, error) {
	n := s.padded(len(plaintext))
	padded := append(bytes.Clone(plaintext), make([]byte, n-len(plaintext))...)
	padded[n-1] = byte(n - len(plaintext))
	return s.gcm.Seal(dst, aad, padded)
}

func (s stepped) Open(aad, body []byte) ([]byte, error) {
	p, err := s.gcm.Open(aad, body)
	if err != nil {
		return nil, err
	}
	return p[:len(p)-int(p[len(p)-1])], nil
}

var fragmentHeader = Header{SPIi: 1, SPIr: 2, Version: Version2, Exchange: IKEAuth, Initiator: true, MessageID: 1}

// fragmentOf decodes the fragment that a message holds.
func fragmentOf(t *testing.T, msg []byte) *Fragment {
	t.Helper()
	_, outer, err := Decode(msg)
	if err != nil || len(outer) != 1 {
		t.Fatalf("%v %v", outer, err)
	}
	return outer[0].(*Fragment)
}

// put adds a message to a reassembly as a receiver does.
func put(t *testing.T, r *Reassembly, msg []byte, c Opener) {
	t.Helper()
	f := fragmentOf(t, msg)
	if !r.Wants(f) {
		return
	}
	plain, err := Unseal(msg, f.Body, c)
	if err != nil {
		t.Fatal(err)
	}
	if !r.Add(f, plain, 1<<16) {
		t.Fatalf("fragment %d of %d was not taken", f.Number, f.Total)
	}
}

func TestFragments(t *testing.T) {
	first, plain, err := EncodePayloads(everything())
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name string
		Sealer
	}{{"GCM", newGCM(t)}, {"blocks", stepped{newGCM(t)}}} {
		for _, size := range []int{110, 137, 500, 576 - 32, 1280 - 52, 4000} {
			msgs, err := SealFragments(fragmentHeader, first, plain, c.Sealer, size)
			if err != nil {
				t.Fatalf("%s, %d: %v", c.name, size, err)
			}
			var r Reassembly
			for i, msg := range msgs {
				if len(msg) > size || i < len(msgs)-1 && len(msg) < size-16 {
					t.Errorf("%s: fragment %d of %d has %d bytes, at most %d were asked for", c.name, i+1, len(msgs), len(msg), size)
				}
				f := fragmentOf(t, msg)
				if int(f.Number) != i+1 || int(f.Total) != len(msgs) || (f.Inner == NoNextPayload) != (i > 0) {
					t.Errorf("%s: fragment %d of %d reads %d of %d with %s", c.name, i+1, len(msgs), f.Number, f.Total, f.Inner)
				}
				if _, _, whole := r.Whole(); whole {
					t.Fatalf("%s: whole before the end", c.name)
				}
				put(t, &r, msg, c.Sealer.(Opener))
			}
			gotFirst, got, whole := r.Whole()
			if !whole || gotFirst != first || !bytes.Equal(got, plain) {
				t.Errorf("%s, %d: whole %v, first %s, %d of %d bytes", c.name, size, whole, gotFirst, len(got), len(plain))
			}
		}
	}
}

// TestFragmentLayout checks the drawing of RFC 7383 section 2.5, and that all
// in front of the IV is authenticated.
func TestFragmentLayout(t *testing.T) {
	c := newGCM(t)
	_, plain, err := EncodePayloads([]Payload{&VendorID{Data: fill(100, 9)}})
	if err != nil {
		t.Fatal(err)
	}
	msgs, err := SealFragments(fragmentHeader, TypeVendorID, plain, c, 28+8+8+60+1+16)
	if err != nil || len(msgs) != 2 {
		t.Fatalf("%d fragments, %v", len(msgs), err)
	}
	want := unhex(t, "0000000000000001 0000000000000002 35 20 23 08 00000001 00000079"+
		"2b 00 005d 0001 0002 0707070707070707")
	if !bytes.Equal(msgs[0][:len(want)], want) {
		t.Errorf("fragment 1\n got %x\nwant %x", msgs[0][:len(want)], want)
	}
	want = unhex(t, "0000000000000001 0000000000000002 35 20 23 08 00000001 00000069"+
		"00 00 004d 0002 0002 0707070707070707")
	if !bytes.Equal(msgs[1][:len(want)], want) {
		t.Errorf("fragment 2\n got %x\nwant %x", msgs[1][:len(want)], want)
	}
	for i := range msgs[0] {
		forged := bytes.Clone(msgs[0])
		forged[i] ^= 1
		if _, err := Unseal(forged, forged[36:], c); err == nil {
			t.Errorf("byte %d is not authenticated", i)
		}
	}
}

func TestFragmentRefused(t *testing.T) {
	for _, tt := range []struct{ name, body string }{
		{"half of its numbers", "0001"},
		{"number 0", "0000 0002 aabb"},
		{"number beyond the total", "0003 0002 aabb"},
		{"total 0", "0000 0000 aabb"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			b := append(make([]byte, headerLen), chainOf(false, unhex(t, tt.body))...)
			b[16], b[17] = byte(TypeFragment), Version2
			binary.BigEndian.PutUint32(b[24:], uint32(len(b)))
			_, _, err := Decode(b)
			wantError(t, err, TypeFragment)
			_, err = DecodePayloads(TypeFragment, b[headerLen:])
			wantError(t, err, TypeFragment)
		})
	}
	for _, f := range []*Fragment{{}, {Number: 2, Total: 1}, {Number: 2, Total: 2, Inner: TypeSA}} {
		_, err := Encode(fragmentHeader, []Payload{f})
		wantError(t, err, TypeFragment)
	}
	_, err := Encode(fragmentHeader, []Payload{&Fragment{Number: 1, Total: 1}, &VendorID{}})
	wantError(t, err, TypeFragment)
}

func TestSealFragmentsRefused(t *testing.T) {
	c := newGCM(t)
	for _, tt := range []struct {
		name    string
		n, size int
	}{
		{"no room for a byte", 100, 28 + 8 + 8 + 1 + 16},
		{"less than the headers", 100, 10},
		{"too many fragments", 300, 28 + 8 + 8 + 1 + 16 + 1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := SealFragments(fragmentHeader, TypeVendorID, make([]byte, tt.n), c, tt.size)
			wantError(t, err, TypeFragment)
		})
	}
	if _, err := SealFragments(fragmentHeader, TypeVendorID, make([]byte, 9), failingSealer{c}, 200); err == nil {
		t.Error("a cipher that fails")
	}
}

// TestReassembly has the cases of RFC 7383 section 2.6.
func TestReassembly(t *testing.T) {
	c := newGCM(t)
	first, plain, err := EncodePayloads(everything())
	if err != nil {
		t.Fatal(err)
	}
	cut := func(size int) [][]byte {
		msgs, err := SealFragments(fragmentHeader, first, plain, c, size)
		if err != nil {
			t.Fatal(err)
		}
		return msgs
	}
	large, small := cut(900), cut(300)
	for _, tt := range []struct {
		name  string
		come  [][]byte
		whole bool
	}{
		{"in reverse", reversed(large), true},
		{"each twice", append(append([][]byte{}, large[:2]...), append(append([][]byte{}, large[:2]...), large[2:]...)...), true},
		{"one missing", large[1:], false},
		{"the first twice and one missing", append([][]byte{large[0], large[0]}, large[2:]...), false},
		{"smaller ones displace larger ones", append(append([][]byte{}, large[:1]...), small...), true},
		{"larger ones do not displace smaller ones", append(append([][]byte{}, small[:2]...), large...), false},
		{"larger ones between smaller ones", append(append(append([][]byte{}, small[:2]...), large...), small[2:]...), true},
		{"none", nil, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var r Reassembly
			for _, msg := range tt.come {
				put(t, &r, msg, c)
			}
			gotFirst, got, whole := r.Whole()
			if whole != tt.whole || whole && (gotFirst != first || !bytes.Equal(got, plain)) {
				t.Errorf("whole %v, first %s, %d bytes of %d", whole, gotFirst, len(got), len(plain))
			}
		})
	}
}

func reversed(msgs [][]byte) (out [][]byte) {
	for i := range msgs {
		out = append(out, msgs[len(msgs)-1-i])
	}
	return out
}

func TestReassemblyBounded(t *testing.T) {
	var r Reassembly
	if r.Wants(&Fragment{Number: 1, Total: MaxFragments + 1}) {
		t.Error("wants a message of too many fragments")
	}
	f := func(n uint16) *Fragment { return &Fragment{Number: n, Total: 3} }
	if !r.Add(f(1), make([]byte, 60), 100) || r.Add(f(2), make([]byte, 41), 100) || !r.Add(f(2), make([]byte, 40), 100) {
		t.Error("100 bytes are not the most")
	}
	if r.Size() != 100 || r.Wants(f(2)) || !r.Wants(f(3)) {
		t.Errorf("%d bytes; wants 2: %v, wants 3: %v", r.Size(), r.Wants(f(2)), r.Wants(f(3)))
	}
	if r.Add(f(3), []byte{1}, 100) || !r.Add(f(3), nil, 100) {
		t.Error("the last fragment")
	}
	if !r.Add(&Fragment{Number: 2, Total: 4}, make([]byte, 90), 100) || r.Size() != 90 {
		t.Errorf("%d bytes after a later attempt began", r.Size())
	}
}

// FuzzFragments cuts what it is given, loses, repeats and mixes the fragments
// as it is told, and mixes in those of another attempt: what comes out is what
// went in, or nothing.
func FuzzFragments(f *testing.F) {
	f.Add([]byte("some payloads, or what looks like them"), uint8(40), []byte{0, 1, 2, 3})
	f.Add([]byte("x"), uint8(1), []byte{0, 0, 0x80})
	f.Add([]byte{}, uint8(5), []byte{0})
	f.Fuzz(func(t *testing.T, plain []byte, size uint8, order []byte) {
		c := clearText{}
		if len(plain) > 4000 {
			plain = plain[:4000]
		}
		room := headerLen + fragmentLen + int(size)
		a, errA := SealFragments(fragmentHeader, TypeVendorID, plain, c, room+16)
		b, errB := SealFragments(fragmentHeader, TypeVendorID, plain, c, room+40)
		if errA != nil || errB != nil {
			t.Fatalf("%d bytes in fragments of %d: %v %v", len(plain), size, errA, errB)
		}
		var r Reassembly
		for _, o := range order {
			from := a
			if o >= 0x80 && len(a) > len(b) { // which a sender has to see to
				from = b
			}
			put(t, &r, from[int(o&0x7f)%len(from)], c)
		}
		if first, got, ok := r.Whole(); ok && (first != TypeVendorID || !bytes.Equal(got, plain)) {
			t.Fatalf("%s %x came of %x", first, got, plain)
		}
	})
}

// clearText is a cipher that is none.
type clearText struct{}

func (clearText) SealedLen(n int) int { return n }
func (clearText) Seal(dst, _, plaintext []byte) ([]byte, error) {
	return append(dst, plaintext...), nil
}
func (clearText) Open(_, body []byte) (plaintext []byte, _ error) { return body, nil }

// FuzzOpened has the whole way of a datagram whose sender holds the keys: the
// header, the SK or SKF payload, and what is inside.
func FuzzOpened(f *testing.F) {
	_, plain, err := EncodePayloads(everything())
	if err != nil {
		f.Fatal(err)
	}
	whole, err := Seal(fragmentHeader, everything()[0].Type(), plain, clearText{})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(whole)
	parts, err := SealFragments(fragmentHeader, everything()[0].Type(), plain[:60], clearText{}, 200)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(parts[0])
	f.Fuzz(func(t *testing.T, b []byte) {
		h, outer, err := Decode(b)
		if err != nil || len(outer) != 1 {
			return
		}
		var first PayloadType
		var plain []byte
		switch p := outer[0].(type) {
		case *Encrypted:
			first = p.Inner
			plain, err = Unseal(b, p.Body, clearText{})
		case *Fragment:
			var r Reassembly
			if !r.Wants(p) || !r.Add(p, p.Body, maxMessage) {
				return
			}
			var ok bool
			if first, plain, ok = r.Whole(); !ok {
				return
			}
		}
		if err != nil {
			t.Fatal(err)
		}
		ps, err := DecodePayloads(first, plain)
		if err != nil || len(ps) == 0 {
			return
		}
		if s := Describe(h, ps); len(s) > maxDescription+100 {
			t.Errorf("a description of %d bytes", len(s))
		}
		again, out, err := EncodePayloads(ps)
		if err != nil || again != first {
			t.Fatalf("encode: %v, first %s", err, again)
		}
		if ps2, err := DecodePayloads(first, out); err != nil || !reflect.DeepEqual(ps, ps2) {
			t.Fatalf("again: %v\n got %+v\nwant %+v", err, ps2, ps)
		}
	})
}
