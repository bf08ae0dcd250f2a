package conntrack

import (
	"bytes"
	"encoding/binary"
	"iter"
	"net/netip"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// entry is a connection as connection tracking has it. What it calls original
// are the packets of the end that began it.
type entry struct{ original, reply tuple }

// tuple is what the packets of one direction bear when they come in by this
// host's first hook. Ports are zero in protocols that have none.
type tuple struct {
	src, dst           netip.AddrPort
	protocol           uint8
	hasICMP            bool
	icmpType, icmpCode uint8
}

// key identifies one entry to the kernel: the address family, then the
// attributes of its original tuple, its zone and its number, as they came. The
// number makes it the very same entry, and not a later one of the same tuple.
type key struct {
	family     uint8
	attributes [3][]byte
}

// clone returns the key in memory of its own.
func (k key) clone() key {
	for i, a := range k.attributes {
		k.attributes[i] = bytes.Clone(a)
	}
	return k
}

// Attributes of a tuple's protocol (linux/netfilter/nfnetlink_conntrack.h).
const (
	icmpTypeAttribute   = 5
	icmpCodeAttribute   = 6
	icmpv6TypeAttribute = 8
	icmpv6CodeAttribute = 9
)

// decode reads an entry from a message of the kernel: the nfgenmsg header and
// attributes. ok is false when it is no whole entry. The key holds parts of
// the message.
func decode(message []byte) (e entry, k key, ok bool) {
	if len(message) < nl.SizeofNfgenmsg {
		return e, k, false
	}
	k.family = message[0]
	for a := range attributes(message[nl.SizeofNfgenmsg:]) {
		switch a.kind {
		case nl.CTA_TUPLE_ORIG:
			e.original.decode(a.value)
			k.attributes[0] = a.whole
		case nl.CTA_TUPLE_REPLY:
			e.reply.decode(a.value)
		case nl.CTA_ZONE:
			k.attributes[1] = a.whole
		case nl.CTA_ID:
			k.attributes[2] = a.whole
		}
	}
	// Without its tuple, or with an empty one, a key would not be that of one
	// entry: the kernel would take a request to delete it for one to delete all.
	ok = k.attributes[0] != nil && e.original.whole(k.family) && e.reply.whole(k.family)
	return e, k, ok
}

func (t *tuple) decode(b []byte) {
	var src, dst netip.Addr
	var srcPort, dstPort uint16
	for a := range attributes(b) {
		for x := range attributes(a.value) {
			v := x.value
			switch a.kind {
			case nl.CTA_TUPLE_IP:
				switch x.kind {
				case nl.CTA_IP_V4_SRC, nl.CTA_IP_V6_SRC:
					src, _ = netip.AddrFromSlice(v)
				case nl.CTA_IP_V4_DST, nl.CTA_IP_V6_DST:
					dst, _ = netip.AddrFromSlice(v)
				}
			case nl.CTA_TUPLE_PROTO:
				switch {
				case x.kind == nl.CTA_PROTO_NUM && len(v) == 1:
					t.protocol = v[0]
				case x.kind == nl.CTA_PROTO_SRC_PORT && len(v) == 2:
					srcPort = binary.BigEndian.Uint16(v)
				case x.kind == nl.CTA_PROTO_DST_PORT && len(v) == 2:
					dstPort = binary.BigEndian.Uint16(v)
				case (x.kind == icmpTypeAttribute || x.kind == icmpv6TypeAttribute) && len(v) == 1:
					t.hasICMP, t.icmpType = true, v[0]
				case (x.kind == icmpCodeAttribute || x.kind == icmpv6CodeAttribute) && len(v) == 1:
					t.icmpCode = v[0]
				}
			}
		}
	}
	t.src, t.dst = netip.AddrPortFrom(src, srcPort), netip.AddrPortFrom(dst, dstPort)
}

// whole reports whether the tuple has both addresses, of the family.
func (t *tuple) whole(family uint8) bool {
	bits := addressBits(family)
	return bits != 0 && t.src.Addr().BitLen() == bits && t.dst.Addr().BitLen() == bits
}

// addressBits returns the bits of an address of a family, and 0 for a family
// that is neither of IP's.
func addressBits(family uint8) int {
	switch family {
	case unix.AF_INET:
		return 32
	case unix.AF_INET6:
		return 128
	}
	return 0
}

// attribute is a netlink attribute (struct nlattr).
type attribute struct {
	kind  uint16 // without its flags
	value []byte
	whole []byte // with header and padding
}

// attributes returns the attributes in b, up to the first that does not fit.
func attributes(b []byte) iter.Seq[attribute] {
	return func(yield func(attribute) bool) {
		for len(b) >= unix.SizeofNlAttr {
			n := int(binary.NativeEndian.Uint16(b))
			if n < unix.SizeofNlAttr || n > len(b) {
				return
			}
			padded := min((n+unix.NLA_ALIGNTO-1)&^(unix.NLA_ALIGNTO-1), len(b))
			kind := binary.NativeEndian.Uint16(b[2:]) &^ (unix.NLA_F_NESTED | unix.NLA_F_NET_BYTEORDER)
			if !yield(attribute{kind, b[unix.SizeofNlAttr:n], b[:padded]}) {
				return
			}
			b = b[padded:]
		}
	}
}
