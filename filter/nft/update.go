package nft

import (
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// ErrStale says that what is in force is not the ruleset that the caller
// takes it for; Apply puts one in force whatever there is.
var ErrStale = errors.New("the ruleset in force is another than expected")

// stale says of an error of the kernel that it comes from a table which is not
// as expected.
func stale(err error, x *table) error {
	for _, e := range []error{unix.ENOENT, unix.EEXIST, unix.ENFILE, unix.EBUSY} {
		if errors.Is(err, e) {
			return fmt.Errorf("%w: table %s: %w", ErrStale, x, err)
		}
	}
	if err != nil {
		return fmt.Errorf("change the nftables table %s: %w; it takes root (CAP_NET_ADMIN)", x, err)
	}
	return nil
}

// Update puts the ruleset next in force in place of old, in the network
// namespace of the calling thread. As with Apply one transaction changes all
// or nothing, but it takes only the differences: what does not change goes on
// counting and limiting, and the peers of AddSoft and AddResponse stay. The
// error wraps ErrStale when old is not in force, or has not left room for
// what next has more: then Apply does it.
func Update(old, next Ruleset) error {
	if len(old.tables) == 0 || len(old.tables) != len(next.tables) {
		return fmt.Errorf("%w: it has other tables", ErrStale)
	}
	t := transaction{}
	for i := range next.tables {
		a, b := &old.tables[i], &next.tables[i]
		if a.family != b.family {
			return fmt.Errorf("%w: it has other tables", ErrStale)
		}
		if err := t.update(a, b); err != nil {
			return err
		}
	}
	return stale(t.commit(), &next.tables[0])
}

// update makes of the table a in force the table b.
//
// The order counts: rules go before the sets and chains that they name, and
// come after them.
func (t *transaction) update(a, b *table) error {
	chains, sets := map[string]*chain{}, map[string]*set{}
	for i := range a.chains {
		chains[a.chains[i].name] = &a.chains[i]
	}
	for i := range a.sets {
		sets[a.sets[i].name] = &a.sets[i]
	}
	var fresh []*set
	var changed []*chain
	for i := range b.chains {
		c := &b.chains[i]
		was := chains[c.name]
		delete(chains, c.name)
		switch {
		case was == nil:
			changed = append(changed, c)
			t.newChain(b.family, tableName, c.name, c.hook)
		case (was.hook == nil) != (c.hook == nil) || c.hook != nil && *was.hook != *c.hook:
			return fmt.Errorf("%w: chain %s stands elsewhere", ErrStale, c.name)
		case c.name == string(secure) || !t.sameRules(was, c, b.family):
			// The kernel refuses to flush a chain that is not there, and so the
			// whole transaction, of which this one is always a part.
			changed = append(changed, c)
			t.flushChain(b.family, tableName, c.name)
		}
	}
	for name := range chains {
		t.flushChain(b.family, tableName, name)
	}
	for name := range chains {
		t.delChain(b.family, tableName, name)
	}
	for i := range b.sets {
		s := &b.sets[i]
		was := sets[s.name]
		switch {
		case was == nil:
			fresh = append(fresh, s)
			continue
		case !slices.Equal(was.keys, s.keys) || was.counted() != s.counted() || was.dynamic != s.dynamic:
			fresh = append(fresh, s)
			continue // it stays in sets, to be deleted
		case !s.dynamic:
			t.diff(b.family, was, s)
		}
		delete(sets, s.name)
	}
	for name := range sets {
		t.delSet(b.family, tableName, name)
	}
	for _, s := range fresh {
		t.putSet(b.family, s)
	}
	for _, c := range changed {
		t.putRules(b.family, c)
	}
	return t.err
}

// sameRules reports whether two chains have the same rules in the words of the
// kernel.
func (t *transaction) sameRules(a, b *chain, family byte) bool {
	if len(a.rules) != len(b.rules) {
		return false
	}
	var x, y transaction
	x.putRules(family, a)
	y.putRules(family, b)
	return slices.EqualFunc(x.messages, y.messages, func(m, n netlink.Message) bool { return slices.Equal(m.Data, n.Data) })
}

// diff adds to the set in force what is only in s, and deletes what is only in
// was. Most of two policies is the same and in the same place, counted from
// the beginning or from the end.
func (t *transaction) diff(family byte, was, s *set) {
	if was.len() == s.len() && was.tuples != nil && s.tuples != nil && &was.tuples[0] == &s.tuples[0] {
		return
	}
	oldEnd, newEnd := was.len(), s.len()
	for oldEnd > 0 && newEnd > 0 && same(was, oldEnd-1, s, newEnd-1) {
		oldEnd--
		newEnd--
	}
	gone := map[setKey]int{}
	var come []int
	for i := range max(oldEnd, newEnd) {
		if i < oldEnd && i < newEnd && same(was, i, s, i) {
			continue
		}
		if i < oldEnd {
			gone[was.key(i)] = i
		}
		if i < newEnd {
			come = append(come, i)
		}
	}
	come = slices.DeleteFunc(come, func(i int) bool {
		k := s.key(i)
		_, stays := gone[k]
		delete(gone, k)
		return stays
	})
	t.delElements(family, tableName, was, slices.Values(slices.Sorted(maps.Values(gone))))
	t.newElements(family, tableName, s, slices.Values(come))
}

// setKey is a key of a set, with zeros after it.
type setKey [64]byte

func (s *set) key(i int) (k setKey) {
	s.appendKey(k[:0], i)
	return k
}

// same reports whether two sets with the same fields have the same key at
// their places i and j.
func same(a *set, i int, b *set, j int) bool {
	if a.tuples != nil && b.tuples != nil {
		return a.tuples[i] == b.tuples[j]
	}
	return a.key(i) == b.key(j)
}
