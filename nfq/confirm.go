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

// confirmed remembers which flows were confirmed lately. A flow that another
// one displaced is confirmed once more than need be.
type confirmed struct {
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

// due reports whether the packet's flow should be confirmed now, and
// remembers that it was.
func (c *confirmed) due(p *packet.Packet, now time.Time) bool {
	k := flowKey{p.Src, p.Dst, p.Protocol, p.SrcPort, p.DstPort}
	f := &c.flows[maphash.Comparable(c.seed, k)%uint64(len(c.flows))]
	if f.key == k && now.Sub(f.at) < confirmEvery {
		return false
	}
	f.key, f.at = k, now
	return true
}
