package packet

import (
	"bytes"
	"encoding/binary"
	"testing"
)

func TestClampMSS(t *testing.T) {
	for _, tt := range []struct {
		name    string
		flags   uint8
		options []byte
		want    []byte // the options afterwards; nil for no change
	}{
		{"syn", flagSYN, []byte{2, 4, 5, 0xb4}, []byte{2, 4, 5, 0x14}},
		{"syn and ack", flagSYN | flagACK, []byte{2, 4, 5, 0xb4}, []byte{2, 4, 5, 0x14}},
		{"at an odd offset", flagSYN, []byte{1, 2, 4, 5, 0xb4, 1, 1, 1}, []byte{1, 2, 4, 5, 0x14, 1, 1, 1}},
		{"behind others", flagSYN, []byte{3, 3, 7, 4, 2, 2, 4, 0xff, 0xff, 1, 1, 1}, []byte{3, 3, 7, 4, 2, 2, 4, 5, 0x14, 1, 1, 1}},
		{"the limit itself", flagSYN, []byte{2, 4, 5, 0x14}, nil},
		{"less", flagSYN, []byte{2, 4, 2, 0x18}, nil},
		{"none", flagSYN, []byte{1, 1, 4, 2}, nil},
		{"no options", flagSYN, nil, nil},
		{"not a syn", flagACK, []byte{2, 4, 5, 0xb4}, nil},
		{"behind the end", flagSYN, []byte{0, 0, 0, 0, 2, 4, 5, 0xb4}, nil},
		{"option too long", flagSYN, []byte{3, 9, 2, 4}, nil},
		{"option too short", flagSYN, []byte{3, 1, 2, 4, 5, 0xb4, 0, 0}, nil},
		{"option cut off", flagSYN, []byte{1, 1, 1, 2}, nil},
		{"mss of another length", flagSYN, []byte{2, 3, 9, 0}, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			for _, b := range [][]byte{ip4(TCP, nil, tcpSegment(tt.flags, tt.options, nil)), ip6(destOptions, ext(TCP, 0), tcpSegment(tt.flags, tt.options, []byte("fast open")))} {
				var p Packet
				if err := Parse(b, &p); err != nil {
					t.Fatal(err)
				}
				FinishChecksum(b, &p)
				before := bytes.Clone(b)
				if got := ClampMSS(b, &p, 1300); got != (tt.want != nil) {
					t.Fatalf("ClampMSS = %v", got)
				}
				if tt.want == nil {
					if !bytes.Equal(b, before) {
						t.Error("changed")
					}
					continue
				}
				if got := b[p.HeaderLen+20:][:len(tt.want)]; !bytes.Equal(got, tt.want) {
					t.Errorf("options %x, want %x", got, tt.want)
				}
				if !VerifyChecksum(b, &p) {
					t.Error("checksum is wrong afterwards")
				}
			}
		})
	}
}

func TestClampMSSNotTCP(t *testing.T) {
	b := ip4(UDP, nil, udpDatagram("a datagram as long as a SYN"))
	var p Packet
	if err := Parse(b, &p); err != nil {
		t.Fatal(err)
	}
	if ClampMSS(b, &p, 100) {
		t.Error("changed a UDP packet")
	}
}

// A SYN comes from anyone: whatever its options, the checksum is as right
// after as before, and the option is no more than the limit.
func FuzzClampMSS(f *testing.F) {
	for _, b := range seeds() {
		f.Add(b, uint16(1300))
	}
	f.Add(ip4(TCP, nil, tcpSegment(flagSYN, []byte{1, 2, 4, 5, 0xb4, 1, 1, 1}, nil)), uint16(0))
	f.Fuzz(func(t *testing.T, b []byte, limit uint16) {
		var p Packet
		if Parse(b, &p) != nil {
			return
		}
		finished := FinishChecksum(b, &p)
		before := bytes.Clone(b)
		if !ClampMSS(b, &p, limit) {
			if !bytes.Equal(b, before) {
				t.Fatal("changed, but says it did not")
			}
			return
		}
		if finished && !VerifyChecksum(b, &p) {
			t.Fatalf("checksum is wrong: %x", b)
		}
		if ClampMSS(b, &p, limit) {
			t.Fatal("clamped twice")
		}
	})
}

// RFC 1624 section 4: the case in which another formula gives the wrong zero.
func TestUpdateChecksum(t *testing.T) {
	field := []byte{0xdd, 0x2f}
	updateChecksum(field, 0x5555, 0x3285, false)
	if got := binary.BigEndian.Uint16(field); got != 0x0000 {
		t.Errorf("checksum %04x, want 0000", got)
	}
}
