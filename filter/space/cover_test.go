package space

import (
	"errors"
	"testing"

	"github.com/ipsecfw/ipsecfw/filter"
)

// Many small covers of a large box, with and without a gap.
func TestUncovered(t *testing.T) {
	r := match(tcp(subnet("10.0.0.0/20"), filter.Me(), 443)).terms[0].box
	var covers []*box
	for n := range uint32(4096) {
		covers = append(covers, &match(tcp(filter.Address(host(n)), filter.Me(), 443)).terms[0].box)
	}
	find := search{work: 1_000_000}
	if _, ok, err := find.uncovered(r, covers); ok || err != nil {
		t.Errorf("covered by all its hosts: %v, %v", ok, err)
	}
	gap := append(covers[:1234:1234], covers[1235:]...)
	part, ok, err := find.uncovered(r, gap)
	if !ok || err != nil || part.src != covers[1234].src {
		t.Errorf("the gap is at %v: %v, %v", part.pick(likely), ok, err)
	}
	for _, work := range []int{0, 1, 100, 5000} {
		find := search{work: work}
		if _, ok, err := find.uncovered(r, covers); ok || !errors.Is(err, ErrUndecided) {
			t.Errorf("with work for %d comparisons: %v, %v; want neither a proof nor a gap", work, ok, err)
		}
	}
}
