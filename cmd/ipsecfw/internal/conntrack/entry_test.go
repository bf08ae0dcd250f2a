package conntrack

import (
	"encoding/binary"
	"net/netip"
	"slices"
	"testing"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"github.com/ipsecfw/ipsecfw/filter/packet"
)

// attr makes a netlink attribute, padded.
func attr(kind uint16, parts ...[]byte) []byte {
	value := slices.Concat(parts...)
	b := binary.NativeEndian.AppendUint16(nil, uint16(unix.SizeofNlAttr+len(value)))
	b = append(binary.NativeEndian.AppendUint16(b, kind), value...)
	for len(b)%unix.NLA_ALIGNTO != 0 {
		b = append(b, 0)
	}
	return b
}

func port(p uint16) []byte { return binary.BigEndian.AppendUint16(nil, p) }

// encode writes a tuple as the kernel does.
func (t *tuple) encode(kind uint16) []byte {
	src, dst, icmpType, icmpCode := uint16(nl.CTA_IP_V4_SRC), uint16(nl.CTA_IP_V4_DST), uint16(icmpTypeAttribute), uint16(icmpCodeAttribute)
	if t.src.Addr().Is6() {
		src, dst, icmpType, icmpCode = nl.CTA_IP_V6_SRC, nl.CTA_IP_V6_DST, icmpv6TypeAttribute, icmpv6CodeAttribute
	}
	proto := [][]byte{attr(nl.CTA_PROTO_NUM, []byte{t.protocol})}
	switch {
	case packet.HasPorts(t.protocol):
		proto = append(proto, attr(nl.CTA_PROTO_SRC_PORT, port(t.src.Port())), attr(nl.CTA_PROTO_DST_PORT, port(t.dst.Port())))
	case t.hasICMP:
		proto = append(proto, attr(icmpType, []byte{t.icmpType}), attr(icmpCode, []byte{t.icmpCode}))
	}
	return attr(kind|unix.NLA_F_NESTED,
		attr(nl.CTA_TUPLE_IP|unix.NLA_F_NESTED, attr(src, t.src.Addr().AsSlice()), attr(dst, t.dst.Addr().AsSlice())),
		attr(nl.CTA_TUPLE_PROTO|unix.NLA_F_NESTED, proto...))
}

// encode writes an entry as the kernel does, with what else it may say.
func (e *entry) encode(more ...[]byte) []byte {
	family := uint8(unix.AF_INET)
	if e.original.src.Addr().Is6() {
		family = unix.AF_INET6
	}
	return slices.Concat([]byte{family, 0, 0, 0}, e.original.encode(nl.CTA_TUPLE_ORIG), e.reply.encode(nl.CTA_TUPLE_REPLY), slices.Concat(more...))
}

func TestEntryRoundTrip(t *testing.T) {
	code := ping("10.2.0.2", "10.1.0.1", 8, 0)
	code.original.icmpCode = 3
	tests := []struct {
		name string
		want *entry
	}{
		{"TCP", connection(packet.TCP, "10.1.0.1:40000", "10.2.0.2:80")},
		{"UDP of IPv6", connection(packet.UDP, "[fd01::1]:40000", "[fd02::2]:53")},
		{"translated", connection(packet.TCP, "10.1.0.1:40000", "10.2.0.2:80", "10.3.0.3:8080", "10.9.0.9:5000")},
		{"SCTP", connection(packet.SCTP, "10.1.0.1:40000", "10.2.0.2:80")},
		{"no ports", connection(50, "10.1.0.1:0", "10.2.0.2:0")},
		{"ping", code},
		{"ping of IPv6", ping("fd01::1", "fd02::2", 128, 129)},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			status, zone, id := attr(nl.CTA_STATUS, []byte{0, 0, 1, 0x8e}), attr(nl.CTA_ZONE, []byte{0, 7}), attr(nl.CTA_ID, []byte{1, 2, 3, 4})
			message := tt.want.encode(status, id, zone)
			e, k, ok := decode(message)
			if !ok || e != *tt.want {
				t.Errorf("decoded %+v, %v, want %+v", e, ok, *tt.want)
			}
			k = k.clone()
			clear(message)
			want := [][]byte{tt.want.original.encode(nl.CTA_TUPLE_ORIG), zone, id}
			if !slices.EqualFunc(k.attributes[:], want, slices.Equal[[]byte]) {
				t.Errorf("the key is %x, want %x", k.attributes, want)
			}
		})
	}
}

// What is no whole entry has no key: the kernel takes a request without a
// tuple for one to delete every entry.
func TestDecodeRefuses(t *testing.T) {
	e := connection(packet.TCP, "10.1.0.1:40000", "10.2.0.2:80")
	v6 := connection(packet.TCP, "[fd01::1]:40000", "[fd02::2]:80")
	v4 := []byte{unix.AF_INET, 0, 0, 0}
	half := entry{e.original, v6.reply}
	cut := e.encode()
	tests := []struct {
		name    string
		message []byte
	}{
		{"nothing", nil},
		{"no header", v4[:3]},
		{"no attributes", v4},
		{"no original tuple", append(slices.Clone(v4), e.reply.encode(nl.CTA_TUPLE_REPLY)...)},
		{"no reply tuple", append(slices.Clone(v4), e.original.encode(nl.CTA_TUPLE_ORIG)...)},
		{"an empty tuple", slices.Concat(v4, attr(nl.CTA_TUPLE_ORIG), e.reply.encode(nl.CTA_TUPLE_REPLY))},
		{"two families", half.encode()},
		{"another family", append([]byte{unix.AF_INET6, 0, 0, 0}, cut[4:]...)},
		{"no family of IP", append([]byte{unix.AF_BRIDGE, 0, 0, 0}, cut[4:]...)},
		{"cut off", cut[:len(cut)-1]},
		{"an attribute shorter than its header", slices.Concat(v4, []byte{3, 0, 1, 0}, cut[4:])},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if e, k, ok := decode(tt.message); ok {
				t.Errorf("decoded %+v with key %x", e, k)
			}
		})
	}
}

func TestDecodeSocket(t *testing.T) {
	answer := func(family uint8, local, remote netip.AddrPort) []byte {
		b := make([]byte, 72)
		b[0], b[1] = family, netlink.TCP_ESTABLISHED
		copy(b[4:], port(local.Port()))
		copy(b[6:], port(remote.Port()))
		copy(b[8:], local.Addr().AsSlice())
		copy(b[24:], remote.Addr().AsSlice())
		copy(b[40:], []byte{3, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8})
		return b
	}
	tests := []struct {
		name                                 string
		family                               uint8
		local, remote, wantLocal, wantRemote string
	}{
		{"IPv4", unix.AF_INET, "10.1.0.1:80", "10.2.0.2:40000", "10.1.0.1:80", "10.2.0.2:40000"},
		{"IPv6", unix.AF_INET6, "[fd01::1]:80", "[fd02::2]:40000", "[fd01::1]:80", "[fd02::2]:40000"},
		{"IPv4 of an IPv6 socket", unix.AF_INET6, "[::ffff:10.1.0.1]:80", "[::ffff:10.2.0.2]:40000", "10.1.0.1:80", "10.2.0.2:40000"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			b := answer(tt.family, netip.MustParseAddrPort(tt.local), netip.MustParseAddrPort(tt.remote))
			s, id, ok := decodeSocket(b)
			if want := (socket{netip.MustParseAddrPort(tt.wantLocal), netip.MustParseAddrPort(tt.wantRemote)}); !ok || s != want {
				t.Errorf("socket %v, %v, want %v", s, ok, want)
			}
			if r := id.request(); r[0] != tt.family || r[1] != packet.TCP || !slices.Equal(r[8:], b[4:52]) {
				t.Errorf("the request does not name the socket: %x", r)
			}
		})
	}
	for _, b := range [][]byte{nil, make([]byte, 51), make([]byte, 72)} {
		if s, _, ok := decodeSocket(b); ok {
			t.Errorf("%d zeros are socket %v", len(b), s)
		}
	}
}

func FuzzDecode(f *testing.F) {
	f.Add(connection(packet.TCP, "10.1.0.1:40000", "10.2.0.2:80").encode())
	f.Add(ping("fd01::1", "fd02::2", 128, 129).encode(attr(nl.CTA_ZONE, []byte{0, 7}), attr(nl.CTA_ID, []byte{1, 2, 3, 4})))
	f.Fuzz(func(t *testing.T, message []byte) {
		e, k, ok := decode(message)
		if !ok {
			return
		}
		if len(k.attributes[0]) <= unix.SizeofNlAttr || e.original.src.Addr().BitLen() != e.reply.dst.Addr().BitLen() {
			t.Errorf("%x became %+v with key %x", message, e, k)
		}
	})
}
