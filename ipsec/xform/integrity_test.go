package xform

import (
	"bytes"
	"errors"
	"fmt"
	"testing"

	"github.com/ipsecfw/ipsecfw/ipsec"
)

// An ICV is the MAC of header, packet and, with ESN, the upper half of the
// sequence number.
func TestIntegrity(t *testing.T) {
	for _, tr := range ipsec.Transforms(ipsec.ProtoAH, ipsec.TypeInteg) {
		for _, esn := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s/esn=%v", tr, esn), func(t *testing.T) {
				_, n, err := KeyLens(ipsec.Transform{}, tr)
				if err != nil {
					t.Fatal(err)
				}
				i, err := NewIntegrity(tr, testKey(n, 1), esn)
				if err != nil {
					t.Fatal(err)
				}
				m, err := NewMAC(tr, testKey(n, 1))
				if err != nil {
					t.Fatal(err)
				}
				iv := []byte("an IV of")[:i.IVLen]
				if i.IVLen > 0 {
					m.Hash.(*gmacHash).setIV(iv)
				}
				m.Write([]byte("headerpacket"))
				if esn {
					m.Write([]byte{0, 0, 0, 9})
				}
				want := m.Sum(nil)[:m.ICVLen]

				header, pkt, icv := []byte("header"), []byte("packet"), make([]byte, i.ICVLen)
				i.Put(icv, iv, header, pkt, 9)
				if !bytes.Equal(icv, want) {
					t.Errorf("ICV %x, want %x", icv, want)
				}
				if !i.Check(icv, iv, header, pkt, 9) || !i.Check(icv, iv, nil, []byte("headerpacket"), 9) {
					t.Error("refused")
				}
				if i.Check(icv, iv, header, pkt, 8) == esn {
					t.Error("another upper half")
				}
				bad := bytes.Clone(icv)
				bad[len(bad)-1] ^= 1
				if i.Check(bad, iv, header, pkt, 9) || i.Check(icv[1:], iv, header, pkt, 9) || i.Check(icv, iv, header, pkt[1:], 9) {
					t.Error("taken though changed")
				}
				if n := testing.AllocsPerRun(50, func() {
					i.Put(icv, iv, header, pkt, 9)
					i.Check(icv, iv, header, pkt, 9)
				}); n != 0 && !raceEnabled {
					t.Errorf("%v allocations", n)
				}
			})
		}
	}
	if _, err := NewIntegrity(sha2_128, make([]byte, 31), false); !errors.Is(err, ErrKeyLength) {
		t.Errorf("short key: %v", err)
	}
	if _, err := NewIntegrity(noInteg, nil, false); !errors.Is(err, ErrUnsupported) {
		t.Errorf("no algorithm: %v", err)
	}
}
