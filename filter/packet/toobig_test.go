package packet

import (
	"bytes"
	"encoding/binary"
	"net/netip"
	"testing"
)

var (
	addr4a, addr4b = netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("192.0.2.2")
	addr6a, addr6b = netip.MustParseAddr("2001:db8::1"), netip.MustParseAddr("2001:db8::2")
)

func TestTooBig(t *testing.T) {
	for _, tt := range []struct {
		name   string
		v6     bool
		data   int
		quoted int // bytes of the packet that the error quotes
	}{
		{"IPv4", false, 3000, 548},
		{"IPv4, short", false, 20, 48},
		{"IPv6", true, 3000, 1232},
		{"IPv6, short", true, 20, 68},
	} {
		t.Run(tt.name, func(t *testing.T) {
			b := datagram(tt.v6, tt.data)
			var p, q Packet
			if err := Parse(b, &p); err != nil {
				t.Fatal(err)
			}
			e := AppendTooBig([]byte("before"), p.Dst, b, &p, 1234)[len("before"):]
			if err := Parse(e, &q); err != nil {
				t.Fatal(err)
			}
			if q.Src != p.Dst || q.Dst != p.Src || q.Len != len(e) || !VerifyChecksum(e, &q) {
				t.Errorf("the error is %+v: %x", q, e[:64])
			}
			if got := e[q.HeaderLen+8:]; !bytes.Equal(got, b[:tt.quoted]) {
				t.Errorf("it quotes %d bytes, or others, want %d", len(got), tt.quoted)
			}
			var x TooBig
			if !ParseTooBig(e, &q, &x) {
				t.Fatal("it cannot be read")
			}
			if x.MTU != 1234 || x.Length != len(b) || x.Src != p.Src || x.Dst != p.Dst || x.Protocol != UDP || !bytes.HasPrefix(b[p.HeaderLen:], x.Quoted) {
				t.Errorf("it says %+v", x)
			}
			for i := range e {
				bad := bytes.Clone(e)
				bad[i]++
				if Parse(bad, &q) == nil && ParseTooBig(bad, &q, &x) && i >= p.HeaderLen {
					t.Errorf("with byte %d changed it is believed", i)
				}
			}
		})
	}
}

// What a fragment header hides is found, of the first fragment.
func TestTooBigAboutFragment(t *testing.T) {
	for offset, want := range map[uint16]bool{0: true, 8: false} {
		esp := make([]byte, 100)
		f := append([]byte{ESP, 0, 0, 0, 0, 0, 0, 9}, esp...)
		binary.BigEndian.PutUint16(f[2:], offset|1)
		b := append(AppendIPv6Header(nil, addr6a, addr6b, fragment, 0, 64, len(f)), f...)
		p := Packet{Src: addr6a, Dst: addr6b, Len: len(b)}
		e := AppendTooBig(nil, addr6b, b, &p, 1280)
		var q Packet
		var x TooBig
		if err := Parse(e, &q); err != nil {
			t.Fatal(err)
		}
		if ok := ParseTooBig(e, &q, &x); ok != want || want && (x.Protocol != ESP || len(x.Quoted) != len(esp)) {
			t.Errorf("at %d: %v, %+v", offset, ok, x)
		}
	}
}

func FuzzParseTooBig(f *testing.F) {
	for _, v6 := range []bool{false, true} {
		b := datagram(v6, 100)
		var p Packet
		if err := Parse(b, &p); err != nil {
			f.Fatal(err)
		}
		f.Add(AppendTooBig(nil, p.Dst, b, &p, 1300))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		var p Packet
		var e TooBig
		if Parse(b, &p) != nil {
			return
		}
		FinishChecksum(b, &p)
		if ParseTooBig(b, &p, &e) && len(e.Quoted) > len(b) {
			t.Error("more is quoted than there is")
		}
	})
}
