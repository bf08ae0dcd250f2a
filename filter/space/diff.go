package space

import (
	"cmp"
	"slices"
	"sort"

	"github.com/ipsecfw/ipsecfw/filter"
)

// Version tells two policies that are compared apart.
type Version uint8

// The versions.
const (
	Old Version = iota
	New
)

// Change is packets whose fate is another under the new policy.
type Change[T comparable] struct {
	Direction filter.Direction
	From, To  T
	Packets   Set
	Sample    Sample
}

// Diff returns the packets of the universe whose fate changes from one policy
// to another, one Change for each direction and pair of fates; none when both
// mean the same. Fate says what is to be told apart of a decision, which may
// have no entry, or be an exemption; it must not depend on the packet.
// Descriptions of the packets leave out multicast that both policies exempt.
//
// It looks only at packets that meet a filter or exemption which is not, with
// the same fate and in the same order, in both policies. The error wraps
// ErrUndecided; the changes that come with it are real, but not all.
func Diff[T comparable](old, new *Policy, fate func(Version, filter.Decision) T) ([]Change[T], error) {
	d := differ[T]{old: old, new: new, fate: fate, find: search{work: maxWork}, at: map[changeKey[T]]int{}}
	d.match()
	var err error
	for n := 0; n < planes && err == nil; n++ {
		err = d.plane(&old.planes[n], &new.planes[n])
	}
	slices.SortStableFunc(d.changes, func(a, b Change[T]) int { return cmp.Compare(a.Direction, b.Direction) })
	before, exempt := old.multicast()
	after, still := new.multicast()
	for i := range d.changes {
		c := &d.changes[i]
		c.Packets.unicast = exempt && still && fate(Old, before) == fate(New, after)
		c.Sample = c.Packets.better(c.Sample)
	}
	return d.changes, err
}

type differ[T comparable] struct {
	old, new *Policy
	fate     func(Version, filter.Decision) T
	find     search
	// mate is for each entry of one policy its place in the other, -1 for
	// none. Entries that have mates are in the same order in both.
	mate    [2][]int32
	changes []Change[T]
	at      map[changeKey[T]]int
}

type changeKey[T comparable] struct {
	direction filter.Direction
	from, to  T
}

// entryKey is all that matters of an entry.
type entryKey[T comparable] struct {
	selector                    filter.Selector
	mirrored, stateful, forward bool
	straight, mirror            T
}

func (d *differ[T]) key(v Version, e *filter.Entry) entryKey[T] {
	decision := filter.Decision{Action: e.Action, Entry: e}
	k := entryKey[T]{selector: e.Selector, mirrored: e.Mirrored, stateful: e.Stateful, forward: e.Forward, straight: d.fate(v, decision)}
	if e.Mirrored {
		decision.Mirror = true
		k.mirror = d.fate(v, decision)
	}
	return k
}

// match finds the entries that both policies have in the same order: as many
// as it can, by the longest increasing run of places.
func (d *differ[T]) match() {
	old, new := d.old.spd.Entries(), d.new.spd.Entries()
	d.mate = [2][]int32{make([]int32, len(old)), make([]int32, len(new))}
	for v := range d.mate {
		for i := range d.mate[v] {
			d.mate[v][i] = -1
		}
	}
	// Mostly all is the same but for a few entries.
	same := func(i, j int) bool {
		if d.key(Old, old[i]) != d.key(New, new[j]) {
			return false
		}
		d.mate[Old][i], d.mate[New][j] = int32(j), int32(i)
		return true
	}
	start := 0
	for start < len(old) && start < len(new) && same(start, start) {
		start++
	}
	end := len(old)
	shift := len(new) - len(old)
	for end > start && end+shift > start && same(end-1, end+shift-1) {
		end--
	}
	places := make(map[entryKey[T]][]int32, end-start)
	for i := start; i < end; i++ {
		k := d.key(Old, old[i])
		places[k] = append(places[k], int32(i))
	}
	candidate := make([]int32, len(new))
	before := make([]int32, len(new)) // the entry before, in the longest run that ends here
	var ends []int32                  // the last entries of runs of each length, the lowest there are
	for j := start; j < end+shift; j++ {
		k := d.key(New, new[j])
		list := places[k]
		if len(list) == 0 {
			continue
		}
		candidate[j], places[k] = list[0], list[1:]
		n := sort.Search(len(ends), func(n int) bool { return candidate[ends[n]] > candidate[j] })
		if before[j] = -1; n > 0 {
			before[j] = ends[n-1]
		}
		if n == len(ends) {
			ends = append(ends, 0)
		}
		ends[n] = int32(j)
	}
	if len(ends) == 0 {
		return
	}
	for j := ends[len(ends)-1]; j >= 0; j = before[j] {
		d.mate[New][j], d.mate[Old][candidate[j]] = candidate[j], j
	}
}

// mates returns for each layer of a policy's plane, and for the place where
// no filter matches, the place of its mate in the other's, -1 for none.
func (d *differ[T]) mates(v Version, mine, other *plane) []int32 {
	out := make([]int32, len(mine.layers)+1)
	for i := range mine.layers {
		half := mine.layers[i].half
		out[i] = -1
		if half >= 0 {
			if e := d.mate[v][half/2]; e >= 0 {
				out[i] = other.at[2*e+half&1]
			}
			continue
		}
		for j := range other.layers {
			if other.layers[j].box == mine.layers[i].box && other.layers[j].half == half &&
				d.fate(v, mine.decision(i)) == d.fate(1-v, other.decision(j)) {
				out[i] = int32(j)
			}
			if other.layers[j].half >= 0 {
				break
			}
		}
	}
	out[len(mine.layers)] = -1
	if none := (filter.Decision{Action: filter.Permit}); d.fate(Old, none) == d.fate(New, none) {
		out[len(mine.layers)] = int32(len(other.layers))
	}
	return out
}

// plane finds the changes of one direction and family. Each packet is decided
// by one layer of the old policy and one of the new. When these have no mates
// the packet may change. When they are mates it does not; and they cannot both
// have mates without being mates, because the mate of the earlier one would
// decide.
func (d *differ[T]) plane(old, new *plane) error {
	mateOld, mateNew := d.mates(Old, old, new), d.mates(New, new, old)
	for i := range mateOld {
		if mateOld[i] >= 0 {
			continue
		}
		// Of new layers with mates only those whose mate comes after i: the
		// others' mates decide before i does.
		if err := d.touched(old, new, mateOld, mateNew, i, func(place int32) (int, int, bool) {
			return i, int(place), mateNew[place] < 0 || int(mateNew[place]) > i
		}, new); err != nil {
			return err
		}
	}
	for j := range mateNew {
		if mateNew[j] >= 0 {
			continue
		}
		if err := d.touched(old, new, mateOld, mateNew, j, func(place int32) (int, int, bool) {
			return int(place), j, mateOld[place] >= 0 && int(mateOld[place]) > j
		}, old); err != nil {
			return err
		}
	}
	return nil
}

// touched finds the changes of packets that a layer without a mate decides,
// paired with layers of the other policy.
func (d *differ[T]) touched(old, new *plane, mateOld, mateNew []int32, at int, pair func(place int32) (i, j int, ok bool), other *plane) error {
	mine := old
	if other == old {
		mine = new
	}
	region, ok := mine.box(at, &mine.whole)
	if !ok {
		return nil
	}
	places := append(other.find(&region, everything), int32(len(other.layers)))
	if d.find.work -= len(places); d.find.work < 0 {
		return ErrUndecided
	}
	for _, place := range places {
		i, j, ok := pair(place)
		if !ok {
			continue
		}
		from, to := d.fate(Old, old.decision(i)), d.fate(New, new.decision(j))
		if from == to {
			continue
		}
		common, ok := other.box(int(place), &region)
		if !ok {
			continue
		}
		covers := old.covers(&common, i)
		for _, before := range new.find(&common, j) {
			// The mates of the others are among the old ones.
			if m := mateNew[before]; m < 0 || int(m) >= i {
				covers = append(covers, &new.layers[before].box)
			}
		}
		part, ok, err := d.find.uncovered(common, covers)
		if err != nil {
			return err
		}
		if ok {
			d.add(from, to, common, covers, &part)
		}
	}
	return nil
}

func (d *differ[T]) add(from, to T, b box, covers []*box, part *box) {
	k := changeKey[T]{b.direction, from, to}
	n, ok := d.at[k]
	if !ok {
		n = len(d.changes)
		d.at[k] = n
		d.changes = append(d.changes, Change[T]{Direction: b.direction, From: from, To: to, Sample: part.pick(likely)})
	}
	d.changes[n].Packets.add(b, covers)
}
