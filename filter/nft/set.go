package nft

import (
	"fmt"
	"strings"

	"github.com/google/nftables"
)

// counted reports whether the set's elements count packets.
func (s *set) counted() bool { return s.entries != nil }

// len returns how many elements the set has.
func (s *set) len() int {
	if s.tuples != nil {
		return len(s.tuples)
	}
	return len(s.elements)
}

// capacity is how many elements the set may come to have while the ruleset is
// in force. With its capacity known the kernel makes a table of fixed size,
// and need not grow it in the middle of a transaction.
func (s *set) capacity() uint32 { return uint32(s.len() + s.len()/4 + 256) }

// appendKey appends the key of an element: its field, or its fields one after
// another, each with zeros to the end of its last register.
func (s *set) appendKey(b []byte, i int) []byte {
	if s.tuples == nil {
		return append(b, s.elements[i].key...)
	}
	start := len(b)
	for _, k := range s.keys {
		b = k.field.appendValue(b, &s.tuples[i])
		for len(s.keys) > 1 && (len(b)-start)%registerBytes != 0 {
			b = append(b, 0)
		}
	}
	return b
}

// datatype returns the type of the set's keys. In one of several fields each
// field takes whole registers.
func (s *set) datatype() (nftables.SetDatatype, error) {
	types := make([]nftables.SetDatatype, len(s.keys))
	for i, k := range s.keys {
		types[i] = k.field.info().datatype
	}
	if len(types) == 1 {
		return types[0], nil
	}
	return nftables.ConcatSetType(types...)
}

func (s *set) typeName() string {
	names := make([]string, len(s.keys))
	for i, k := range s.keys {
		names[i] = k.field.info().datatype.Name
	}
	return strings.Join(names, " . ")
}

func (s *set) elementNames() string {
	elements := make([]string, s.len())
	for i := range elements {
		b := s.appendKey(nil, i)
		parts := make([]string, len(s.keys))
		for j, k := range s.keys {
			info := k.field.info()
			width := int(info.datatype.Bytes)
			parts[j] = info.format(b[:width])
			b = b[min(len(b), (width+registerBytes-1)&^(registerBytes-1)):]
		}
		elements[i] = strings.Join(parts, " . ")
		if s.tuples == nil && s.elements[i].timeout > 0 {
			elements[i] += fmt.Sprintf(" timeout %dms", s.elements[i].timeout)
		}
	}
	return strings.Join(elements, ", ")
}

// String writes what a packet is looked up by.
func (k key) String() string {
	info := k.field.info()
	if mask := k.mask(); mask != nil {
		return info.name + " & " + info.format(mask)
	}
	return info.name
}

// mask returns the bits of the field that count, or nil when all do.
func (k key) mask() []byte {
	width := int(k.field.info().datatype.Bytes)
	if k.bits >= 8*width {
		return nil
	}
	mask := make([]byte, width)
	for i := range k.bits {
		mask[i/8] |= 0x80 >> (i % 8)
	}
	return mask
}
