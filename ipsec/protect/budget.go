package protect

import (
	"sync/atomic"

	"github.com/ipsecfw/ipsecfw/ipsec"
)

// budget counts what an SA carries in one direction, and ends it where its limit
// is: to the packet, however many carry at the same time.
type budget struct {
	limit          ipsec.Limit
	packets, bytes atomic.Uint64
	over           atomic.Bool
}

// spend counts a packet with n bytes of payload; it reports false, and counts
// none, if that is more than the SA may carry.
func (b *budget) spend(n int) bool {
	packets, bytes := b.packets.Add(1), b.bytes.Add(uint64(n))
	l := &b.limit
	if l.Packets > 0 && packets > l.Packets || l.Bytes > 0 && bytes > l.Bytes {
		b.packets.Add(^uint64(0))
		b.bytes.Add(-uint64(n))
		b.end()
		return false
	}
	// Of all that add to a counter one alone finds the limit between what was
	// there before and what is there now.
	if l.SoftPackets > 0 && packets == l.SoftPackets || l.SoftBytes > 0 && bytes >= l.SoftBytes && bytes-uint64(n) < l.SoftBytes {
		b.tell()
	}
	return true
}

// end says that the SA carries nothing more.
func (b *budget) end() {
	if !b.over.Swap(true) {
		b.tell()
	}
}

func (b *budget) tell() {
	if b.limit.Reached != nil {
		b.limit.Reached()
	}
}
