package nfq

import (
	"hash/maphash"
	"net/netip"
	"time"

	"github.com/ipsecfw/ipsecfw/filter/packet"
)

// confirmEvery is how often a flow is confirmed that is sent by other means
// than a verdict. Connection tracking forgets no flow earlier, by default (30
// seconds for UDP without an answer).
const confirmEvery = 10 * time.Second

// lately remembers for which flows something was done a while ago. For a flow
// that another one displaced it is done once more than need be.
type lately struct {
	seed  maphash.Seed
	flows [1024]struct {
		key flowKey
		at  time.Time
	}
}

type flowKey struct {
	src, dst         netip.Addr
	protocol         uint8
	srcPort, dstPort uint16
}

func flowKeyOf(p *packet.Packet) flowKey {
	return flowKey{p.Src, p.Dst, p.Protocol, p.SrcPort, p.DstPort}
}

// due reports whether something that is to be done so often for a flow is due,
// and remembers that it was done.
func (c *lately) due(k flowKey, now time.Time, every time.Duration) bool {
	f := &c.flows[maphash.Comparable(c.seed, k)%uint64(len(c.flows))]
	if f.key == k && now.Sub(f.at) < every {
		return false
	}
	f.key, f.at = k, now
	return true
}
