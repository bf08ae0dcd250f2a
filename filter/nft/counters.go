package nft

import (
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"

	"github.com/ipsecfw/ipsecfw/filter"
)

// Counter is how many packets a filter has decided on, and their bytes from
// the IP header on. A TCP packet that is to be cut later counts as one.
type Counter struct{ Packets, Bytes uint64 }

// Counters returns what each filter of rs, which is in force in the network
// namespace of the calling thread, has decided on since its elements were
// made; filters that have decided on nothing are left out. An update leaves
// alone what it does not change.
func Counters(rs Ruleset) (map[*filter.Entry]Counter, error) {
	out := map[*filter.Entry]Counter{}
	var key []byte
	for i := range rs.tables {
		x := &rs.tables[i]
		for j := range x.sets {
			s := &x.sets[j]
			if !s.counted() {
				continue
			}
			// There are many elements, and few of them see packets.
			busy := map[string]Counter{}
			err := readSet(x, s.name, func(e *read) {
				if e.Packets > 0 {
					busy[string(e.key)] = e.Counter
				}
			})
			if err != nil {
				return nil, err
			}
			for n := 0; n < s.len() && len(busy) > 0; n++ {
				key = s.appendKey(key[:0], n)
				if c, ok := busy[string(key)]; ok {
					sum := out[s.entries[n]]
					out[s.entries[n]] = Counter{sum.Packets + c.Packets, sum.Bytes + c.Bytes}
					delete(busy, string(key))
				}
			}
		}
	}
	return out, nil
}

// read is an element that is in force.
type read struct {
	key     []byte
	expires time.Duration
	Counter
}

// readSet calls f with each element of a set in force. What it is given is
// good only during the call.
func readSet(x *table, name string, f func(*read)) error {
	c, err := dial(0)
	if err != nil {
		return err
	}
	defer c.Close()
	m := header(x.family, 128)
	m.text(unix.NFTA_SET_ELEM_LIST_TABLE, tableName)
	m.text(unix.NFTA_SET_ELEM_LIST_SET, name)
	_, err = c.Send(netlink.Message{
		Header: netlink.Header{Type: unix.NFNL_SUBSYS_NFTABLES<<8 | unix.NFT_MSG_GETSETELEM, Flags: netlink.Request | netlink.Dump},
		Data:   m.b,
	})
	if err != nil {
		return fmt.Errorf("set %s of table %s: %w", name, x, err)
	}
	for m, err := range c.ReceiveIter() {
		if err == nil && len(m.Data) < 4 {
			err = errors.New("the kernel's answer is too short")
		}
		if err != nil {
			return fmt.Errorf("set %s: %w", name, stale(err, x))
		}
		each(m.Data[4:], func(kind uint16, list []byte) {
			if kind == unix.NFTA_SET_ELEM_LIST_ELEMENTS {
				each(list, func(_ uint16, element []byte) {
					e := read{}
					e.parse(element)
					f(&e)
				})
			}
		})
	}
	return nil
}

// parse reads the attributes of an element.
func (e *read) parse(b []byte) {
	each(b, func(kind uint16, v []byte) {
		switch kind {
		case unix.NFTA_SET_ELEM_KEY:
			each(v, func(kind uint16, v []byte) {
				if kind == unix.NFTA_DATA_VALUE {
					e.key = v
				}
			})
		case unix.NFTA_SET_ELEM_EXPIRATION:
			e.expires = time.Duration(number64(v)) * time.Millisecond
		case unix.NFTA_SET_ELEM_EXPR:
			each(v, func(kind uint16, v []byte) {
				if kind == unix.NFTA_EXPR_DATA {
					each(v, func(kind uint16, v []byte) {
						switch kind {
						case unix.NFTA_COUNTER_PACKETS:
							e.Packets = number64(v)
						case unix.NFTA_COUNTER_BYTES:
							e.Bytes = number64(v)
						}
					})
				}
			})
		}
	})
}

func number64(v []byte) uint64 {
	if len(v) != 8 {
		return 0
	}
	return binary.BigEndian.Uint64(v)
}

// each calls f with each of the attributes in b.
func each(b []byte, f func(kind uint16, value []byte)) {
	for len(b) >= 4 {
		n := int(binary.NativeEndian.Uint16(b))
		if n < 4 || n > len(b) {
			return
		}
		f(binary.NativeEndian.Uint16(b[2:])&^(unix.NLA_F_NESTED|unix.NLA_F_NET_BYTEORDER), b[4:n])
		b = b[min((n+3)&^3, len(b)):]
	}
}
