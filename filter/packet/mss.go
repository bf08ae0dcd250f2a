package packet

import "encoding/binary"

// TCP header flags (RFC 9293 section 3.1, RFC 3168 section 6.1).
const (
	flagFIN = 1 << 0
	flagSYN = 1 << 1
	flagRST = 1 << 2
	flagPSH = 1 << 3
	flagACK = 1 << 4
	flagURG = 1 << 5
	flagCWR = 1 << 7
)

// tcpHeader returns the TCP header of a packet, options included; ok is
// false when b is no TCP packet with a whole header.
func tcpHeader(b []byte, p *Packet) (h []byte, ok bool) {
	if p.Protocol != TCP || p.FragmentOffset != 0 || p.Len-p.HeaderLen < 20 {
		return nil, false
	}
	u := b[p.HeaderLen:p.Len]
	n := int(u[12]>>4) * 4
	if n < 20 || n > len(u) {
		return nil, false
	}
	return u[:n], true
}

// ClampMSS lowers the maximum segment size that a TCP SYN announces (RFC 9293
// section 3.7.1) to limit, in place, and corrects the checksum. It reports
// whether it changed the packet: it leaves alone what announces no more than
// the limit, or nothing, and what is not a SYN.
//
// The checksum must be complete: one that was left to hardware does not cover
// the option yet, so it is finished first.
func ClampMSS(b []byte, p *Packet, limit uint16) bool {
	const end, nop, mss = 0, 1, 2
	h, ok := tcpHeader(b, p)
	if !ok || h[13]&flagSYN == 0 {
		return false
	}
	for i := 20; i < len(h) && h[i] != end; {
		if h[i] == nop {
			i++
			continue
		}
		if len(h)-i < 2 || h[i+1] < 2 || int(h[i+1]) > len(h)-i {
			return false
		}
		if h[i] == mss && h[i+1] == 4 {
			old := binary.BigEndian.Uint16(h[i+2:])
			if old <= limit {
				return false
			}
			binary.BigEndian.PutUint16(h[i+2:], limit)
			updateChecksum(h[16:18], old, limit, i%2 != 0)
			return true
		}
		i += int(h[i+1])
	}
	return false
}

// updateChecksum corrects the checksum in field for a 16-bit word that
// changed from old to new (RFC 1624 section 3). A word at an odd offset
// straddles two words of the sum, which is as if its bytes were exchanged.
func updateChecksum(field []byte, old, new uint16, odd bool) {
	if odd {
		old, new = old<<8|old>>8, new<<8|new>>8
	}
	sum := uint64(^binary.BigEndian.Uint16(field)) + uint64(^old) + uint64(new)
	binary.BigEndian.PutUint16(field, ^Fold(sum))
}
