package foreign

import "bytes"

// truth is what is known of a condition. The lesser of two is the truth of
// both together.
type truth uint8

const (
	no truth = iota
	maybe
	yes
)

func truthOf(is bool) truth {
	if is {
		return yes
	}
	return no
}

func (t truth) not() truth { return yes - t }

func allKnown(known []byte) bool {
	for _, k := range known {
		if k != 0xff {
			return false
		}
	}
	return true
}

// equal compares bytes of which some bits are known with others of the same
// length.
func equal(b, known, with []byte) truth {
	result := yes
	for i := range with {
		switch {
		case (b[i]^with[i])&known[i] != 0:
			return no
		case known[i] != 0xff:
			result = maybe
		}
	}
	return result
}

// less reports whether bytes of which some bits are known come before others
// of the same length.
func less(b, known, with []byte) truth {
	canBe, canNot, same := false, false, true
	for i := 0; i < len(with) && same; i++ {
		canBe = canBe || b[i]&known[i] < with[i]
		canNot = canNot || b[i]|^known[i] > with[i]
		same = (b[i]^with[i])&known[i] == 0
	}
	switch {
	case !canBe:
		return no
	case canNot || same:
		return maybe
	}
	return yes
}

// inRange reports whether bytes of which some bits are known are in a range,
// both ends inclusive.
func inRange(b, known, first, last []byte) truth {
	if bytes.Equal(first, last) {
		return equal(b, known, first)
	}
	above := max(less(b, known, last), equal(b, known, last))
	return min(less(b, known, first).not(), above)
}
