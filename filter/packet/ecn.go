package packet

import "encoding/binary"

// The ECN field in its two bits of the traffic class (RFC 3168 section 5).
const (
	ecnMask = 3
	notECT  = 0
	ect1    = 1
	ce      = 3
)

// Decapsulate gives the inner packet b, which Parse read into p, the ECN field
// that it has after the outer one, of a traffic class, was taken off (RFC 6040
// section 4.2). It returns false for a packet that is to be dropped: congestion
// was met on the way, and its sender would not understand that.
func Decapsulate(b []byte, p *Packet, outer uint8) bool {
	in, out := p.TrafficClass&ecnMask, outer&ecnMask
	switch {
	case in == notECT:
		return out != ce
	case in == ce || out != ce && out != ect1 || in == out:
		return true
	}
	p.TrafficClass = p.TrafficClass&^ecnMask | out
	if p.Is4() {
		old := binary.BigEndian.Uint16(b)
		b[1] = p.TrafficClass
		updateChecksum(b[10:12], old, binary.BigEndian.Uint16(b), false)
		return true
	}
	b[1] = b[1]&0x0f | p.TrafficClass<<4
	return true
}
