package nfq

import "sync/atomic"

// Counters counts packets by what became of them.
type Counters struct {
	Sealed, Opened atomic.Uint64 // ESP packets sent and received

	Held         atomic.Uint64 // waited for an SA
	Released     atomic.Uint64 // waited, and were sent
	Softened     atomic.Uint64 // waited, and were let go in clear: the peer does not speak IKE
	Abandoned    atomic.Uint64 // waited in vain: the negotiation failed
	HoldOverflow atomic.Uint64 // waited, and had to make room

	OutMalformed  atomic.Uint64 // not a packet that can be judged
	OutTooBig     atomic.Uint64 // larger than the path, and not to be fragmented; or than an IP packet
	OutTold       atomic.Uint64 // times that a sender was told of the size that gets through
	OutFragmented atomic.Uint64 // larger than the path, and sent in fragments of the sealed packet
	OutFragment   atomic.Uint64 // fragments, which transport mode does not protect
	OutMismatch   atomic.Uint64 // the SPD did not want it secured: the policy was changing
	OutFailed     atomic.Uint64 // sealing or sending failed

	InEarly        atomic.Uint64 // came before their SA, and waited
	InEarlyDropped atomic.Uint64 // likewise, but in vain, or there was no room
	InUnknownSPI   atomic.Uint64 // no such SA
	InRefused      atomic.Uint64 // replayed, forged or malformed ESP
	InMismatch     atomic.Uint64 // opened, but not what the SA or the SPD allows
	InNotNested    atomic.Uint64 // ESP without the AH around it that its rule wants, or with one that it does not
	InCongestion   atomic.Uint64 // congestion was met in a tunnel, which the sender does not understand (RFC 6040)
	InDummy        atomic.Uint64 // RFC 4303 section 2.6
	InFailed       atomic.Uint64 // the stack did not take it

	PathNarrower atomic.Uint64 // ICMP errors that made a path narrower
	PathDoubted  atomic.Uint64 // ICMP errors about an MTU that are about nothing we sent, or that came too fast

	QueueOverflow atomic.Uint64 // times that the kernel had more for us than its buffer holds
	QueueFlushed  atomic.Uint64 // packets that the kernel dropped before their verdict
	QueueCut      atomic.Uint64 // packets that did not fit into a message
}

// Map returns the counters by name.
func (c *Counters) Map() map[string]uint64 {
	return map[string]uint64{
		"sealed":                c.Sealed.Load(),
		"opened":                c.Opened.Load(),
		"held":                  c.Held.Load(),
		"held-released":         c.Released.Load(),
		"held-softened":         c.Softened.Load(),
		"held-abandoned":        c.Abandoned.Load(),
		"held-dropped":          c.HoldOverflow.Load(),
		"out-malformed":         c.OutMalformed.Load(),
		"out-too-big":           c.OutTooBig.Load(),
		"out-told":              c.OutTold.Load(),
		"out-fragmented":        c.OutFragmented.Load(),
		"out-fragment-dropped":  c.OutFragment.Load(),
		"out-policy-mismatch":   c.OutMismatch.Load(),
		"out-failed":            c.OutFailed.Load(),
		"in-early":              c.InEarly.Load(),
		"in-early-dropped":      c.InEarlyDropped.Load(),
		"in-unknown-spi":        c.InUnknownSPI.Load(),
		"in-refused":            c.InRefused.Load(),
		"in-policy-mismatch":    c.InMismatch.Load(),
		"in-not-nested":         c.InNotNested.Load(),
		"in-congestion-dropped": c.InCongestion.Load(),
		"in-dummy":              c.InDummy.Load(),
		"in-failed":             c.InFailed.Load(),
		"path-narrower":         c.PathNarrower.Load(),
		"path-icmp-doubted":     c.PathDoubted.Load(),
		"queue-overflow":        c.QueueOverflow.Load(),
		"queue-flushed":         c.QueueFlushed.Load(),
		"queue-cut-packet":      c.QueueCut.Load(),
	}
}
