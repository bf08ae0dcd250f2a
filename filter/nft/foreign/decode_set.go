package foreign

import (
	"fmt"

	"github.com/google/nftables/expr"
	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// decodeSet reads a set without its elements, and its name and table.
func decodeSet(b []byte) (s *set, name, table string, err error) {
	const descriptionConcat, fieldLen = 2, 1 // NFTA_SET_DESC_CONCAT, NFTA_SET_FIELD_LEN
	s = &set{}
	field := func(b []byte) error {
		return attributes(b, func(kind uint16, d *netlink.AttributeDecoder) {
			if kind == fieldLen {
				s.fields = append(s.fields, int(d.Uint32()))
			}
		})
	}
	err = attributes(b, func(kind uint16, d *netlink.AttributeDecoder) {
		switch kind {
		case unix.NFTA_SET_TABLE:
			table = d.String()
		case unix.NFTA_SET_NAME:
			name = d.String()
		case unix.NFTA_SET_FLAGS:
			s.interval = d.Uint32()&unix.NFT_SET_INTERVAL != 0
		case unix.NFTA_SET_KEY_LEN:
			s.keyLen = int(min(d.Uint32(), maxKey))
		case unix.NFTA_SET_DATA_LEN:
			s.dataLen = int(min(d.Uint32(), maxKey))
		case unix.NFTA_SET_DESC:
			d.Nested(func(d *netlink.AttributeDecoder) error {
				for d.Next() {
					if d.Type() == descriptionConcat {
						d.Nested(func(d *netlink.AttributeDecoder) error {
							for d.Next() {
								d.Do(field)
							}
							return nil
						})
					}
				}
				return nil
			})
		}
	})
	for _, n := range s.fields {
		if n <= 0 || n > maxKey {
			return nil, "", "", fmt.Errorf("a field of %d bytes", n)
		}
	}
	return s, name, table, err
}

// maxKey is the longest key, in bytes: all registers.
const maxKey = 64

// decodeElements reads elements into a set, of which each has its own
// attributes in the list.
func (s *set) decodeElements(family byte, b []byte) error {
	return attributes(b, func(kind uint16, d *netlink.AttributeDecoder) {
		if kind != unix.NFTA_SET_ELEM_LIST_ELEMENTS {
			return
		}
		d.Do(func(b []byte) error {
			return attributes(b, func(_ uint16, d *netlink.AttributeDecoder) {
				d.Do(func(b []byte) error {
					e, catchall, err := decodeElement(family, b)
					if catchall {
						s.catchall = &e
					} else {
						s.elements = append(s.elements, e)
					}
					return err
				})
			})
		})
	})
}

// decodeElement reads one element.
func decodeElement(family byte, b []byte) (e element, catchall bool, err error) {
	const keyEnd, expressions = 10, 17 // NFTA_SET_ELEM_KEY_END, NFTA_SET_ELEM_EXPRESSIONS
	const flagCatchall = 2             // NFT_SET_ELEM_CATCHALL
	into := func(to *[]byte) func([]byte) error {
		return func(b []byte) error {
			x, err := decodeData(b)
			*to = x.value
			return err
		}
	}
	err = attributes(b, func(kind uint16, d *netlink.AttributeDecoder) {
		switch kind {
		case unix.NFTA_SET_ELEM_KEY:
			d.Do(into(&e.key))
		case keyEnd:
			d.Do(into(&e.end))
		case unix.NFTA_SET_ELEM_DATA:
			d.Do(func(b []byte) error {
				x, err := decodeData(b)
				e.data, e.verdict = x.value, x.verdict
				return err
			})
		case unix.NFTA_SET_ELEM_FLAGS:
			flags := d.Uint32()
			e.intervalEnd = flags&unix.NFT_SET_ELEM_INTERVAL_END != 0
			catchall = flags&flagCatchall != 0
		case unix.NFTA_SET_ELEM_EXPR:
			d.Do(func(b []byte) error {
				x, err := decodeNamed(family, b)
				e.uncertain = e.uncertain || !counts(x)
				return err
			})
		case expressions:
			d.Do(func(b []byte) error {
				list, err := decodeExpressions(family, b)
				for _, x := range list {
					e.uncertain = e.uncertain || !counts(x)
				}
				return err
			})
		}
	})
	return e, catchall, err
}

// counts reports whether an element's expression lets every packet by.
func counts(x any) bool {
	if _, counter := x.(*expr.Counter); counter {
		return true
	}
	return x == opaque{"last"}
}
