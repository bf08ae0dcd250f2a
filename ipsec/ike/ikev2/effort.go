package ikev2

import (
	"time"

	"github.com/ipsecfw/ipsecfw/ipsec/ike"
)

// effort is what a peer has lately made us compute: its key exchanges are done
// between the packets of all others, and cost it nothing to ask for.
type effort struct {
	spent float64
	last  time.Time
}

// What a peer may make us spend, where a key exchange with a common group
// counts as one. A peer of many Child SAs may want all of them at once.
const (
	effortAtOnce    = 200
	effortPerSecond = 10
	costlyEffort    = 10 // of a key exchange with a group that is ike.Costly
	rekeyEffort     = 20 // of one for a new IKE SA, besides
)

// spend takes note of a key exchange, and reports whether the peer may have it.
func (e *effort) spend(group uint16, now time.Time) bool {
	if ike.Costly(group) {
		return e.take(costlyEffort, now)
	}
	return e.take(1, now)
}

func (e *effort) take(n float64, now time.Time) bool {
	if d := now.Sub(e.last); d > 0 {
		e.spent, e.last = max(0, e.spent-d.Seconds()*effortPerSecond), now
	}
	if e.spent+n > effortAtOnce {
		return false
	}
	e.spent += n
	return true
}
