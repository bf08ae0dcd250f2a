package rules

import "slices"

// distinct is a list in which nothing comes twice.
type distinct[T comparable] struct {
	list []T
	seen map[T]struct{} // once the list is long
}

// add appends a value unless it is in the list, and reports whether it did.
func (d *distinct[T]) add(v T) bool {
	if d.seen == nil {
		if slices.Contains(d.list, v) {
			return false
		}
		if d.list = append(d.list, v); len(d.list) > 2*few {
			d.seen = make(map[T]struct{}, 2*len(d.list))
			for _, x := range d.list {
				d.seen[x] = struct{}{}
			}
		}
		return true
	}
	if _, ok := d.seen[v]; ok {
		return false
	}
	d.seen[v] = struct{}{}
	d.list = append(d.list, v)
	return true
}

// reset empties the list and keeps its room.
func (d *distinct[T]) reset() { d.list, d.seen = d.list[:0], nil }
