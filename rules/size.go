package rules

import (
	"fmt"
	"strconv"
	"strings"
)

// Bounds of a number of bytes. Less than the lowest would replace keys so
// often that a busy SA does nothing else.
const (
	minSize = 1 << 20
	maxSize = 1_000_000_000_000_000_000
)

// sizeUnits are the units of a number of bytes, those of 1000 first and the
// largest first of each.
var sizeUnits = []struct {
	name  string
	bytes uint64
}{
	{"TB", 1e12}, {"GB", 1e9}, {"MB", 1e6}, {"kB", 1e3},
	{"TiB", 1 << 40}, {"GiB", 1 << 30}, {"MiB", 1 << 20}, {"KiB", 1 << 10},
}

const sizePattern = `^[0-9]+(TB|GB|MB|kB|TiB|GiB|MiB|KiB)?$`

// readSize returns a number of bytes, which may have a unit.
func (r *reader) readSize(n *node, name string, into *uint64) {
	s, ok := r.readScalar(n, name, name+": 10GB")
	if !ok {
		return
	}
	digits, unit := s, uint64(1)
	for _, u := range sizeUnits {
		if rest, ok := strings.CutSuffix(s, u.name); ok {
			digits, unit = rest, u.bytes
			break
		}
	}
	v, err := number(digits)
	switch {
	case err != nil || v < 0:
		r.report(n.at, fmt.Sprintf("%q is no number of bytes", s), fmt.Sprintf("write a whole number with its unit, as in %s: 10GB or %s: 500MiB", name, name))
	case uint64(v) > maxSize/unit || uint64(v)*unit < minSize:
		r.report(n.at, fmt.Sprintf("%q of %s is out of bounds", name, s), "write 1MiB to 1000000TB")
	default:
		*into = uint64(v) * unit
	}
}

// printSize writes a number of bytes with the largest unit that needs no
// fraction.
func printSize(n uint64) string {
	best, unit := n, ""
	for _, u := range sizeUnits {
		if n%u.bytes == 0 && n/u.bytes < best {
			best, unit = n/u.bytes, u.name
		}
	}
	return strconv.FormatUint(best, 10) + unit
}
