package ike

import (
	"slices"

	"github.com/ipsecfw/ipsecfw/ipsec"
)

// distinct chooses one of the transforms for each key exchange, so that no
// method but NONE comes twice (RFC 9370 section 2.2.1). An earlier key exchange
// has the first choice, as long as it leaves one to all later ones.
func distinct(exchanges [][]ipsec.Transform) (chosen []ipsec.Transform, ok bool) {
	var taken []uint16
	for i, candidates := range exchanges {
		j := slices.IndexFunc(candidates, func(x ipsec.Transform) bool {
			return !slices.Contains(taken, x.ID) && matchable(exchanges[i+1:], append(slices.Clip(taken), x.ID))
		})
		if j < 0 {
			return nil, false
		}
		chosen = append(chosen, candidates[j])
		if candidates[j].ID != ipsec.GroupNone {
			taken = append(taken, candidates[j].ID)
		}
	}
	return chosen, true
}

// matchable reports whether each key exchange can have a method of its own that
// is not taken. It searches for augmenting paths, whose number the peer cannot
// make large as it could that of all combinations.
func matchable(exchanges [][]ipsec.Transform, taken []uint16) bool {
	owner := map[uint16]int{} // which exchange has a method
	var seat func(i int, tried map[uint16]bool) bool
	seat = func(i int, tried map[uint16]bool) bool {
		for _, x := range exchanges[i] {
			if x.ID == ipsec.GroupNone {
				return true
			}
			if tried[x.ID] || slices.Contains(taken, x.ID) {
				continue
			}
			tried[x.ID] = true
			if j, held := owner[x.ID]; !held || seat(j, tried) {
				owner[x.ID] = i
				return true
			}
		}
		return false
	}
	for i := range exchanges {
		if !seat(i, map[uint16]bool{}) {
			return false
		}
	}
	return true
}

// repeated returns a key exchange that comes twice in a chosen proposal.
func repeated(p ipsec.Proposal) (ipsec.Transform, bool) {
	var taken []uint16
	for _, t := range p.Transforms {
		if !keyExchange(t.Type) || t.ID == ipsec.GroupNone {
			continue
		}
		if slices.Contains(taken, t.ID) {
			return t, true
		}
		taken = append(taken, t.ID)
	}
	return ipsec.Transform{}, false
}
