package nft

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"net/netip"
	"strconv"
	"strings"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"

	"github.com/ipsecfw/ipsecfw/filter"
)

// field is something of a packet that rules look at.
type field uint8

const (
	nfproto field = iota // the family: NFPROTO_IPV4 or NFPROTO_IPV6
	l4proto              // upper-layer protocol, behind IPv6 extension headers
	iifname              //
	iif                  // the index, 0 at output and postrouting for what the host itself sends
	oifname
	iiftype // hardware type (ARPHRD)
	oiftype
	mark
	ctState       // bit mask
	ctDirection   // of the packet in its connection; without one it matches nothing
	saddrType     // RTN_LOCAL and so on, by the host's routes
	daddrType     // likewise
	ip4Saddr      // the addresses and the hop limit want a match of nfproto before
	ip4Daddr      //
	ip6Saddr      //
	ip6Daddr      //
	ip6HopLimit   //
	icmpType      // the types and codes want a match of nfproto and l4proto before
	icmpCode      //
	icmp6Type     //
	icmp6Code     //
	quoted4Head   // version and header length of the packet that an ICMP error quotes; like those after it
	quoted4Proto  //
	quoted4Src    // its port, if it has no IP options
	quoted6Next   //
	quoted6Src    // likewise
	fragment6Next // likewise, behind the fragment header of what is quoted
	fragment6Src  //
	tcpFlags      // wants a match of l4proto before
	transportSrc  // ports; a fragment other than the first has none and matches nothing
	transportDst  //
)

// fieldInfo is what the kernel and nft make of a field.
type fieldInfo struct {
	name     string // in nft's syntax
	datatype nftables.SetDatatype
	format   func(value []byte) string
	load     func(register uint32) expr.Any
}

// hostOrder reports whether the kernel has the field in a register as a number
// of its own, and not in network byte order.
func (f field) hostOrder() bool {
	switch f {
	case iiftype, oiftype, mark, ctState, saddrType, daddrType:
		return true
	}
	return false
}

var fields = [...]fieldInfo{
	nfproto:       {"meta nfproto", nftables.TypeNFProto, formatFamily, meta(expr.MetaKeyNFPROTO)},
	l4proto:       {"meta l4proto", nftables.TypeInetProto, formatProtocol, meta(expr.MetaKeyL4PROTO)},
	iifname:       {"iifname", nftables.TypeIFName, formatName, meta(expr.MetaKeyIIFNAME)},
	iif:           {"iif", nftables.TypeIFIndex, formatIndex, meta(expr.MetaKeyIIF)},
	oifname:       {"oifname", nftables.TypeIFName, formatName, meta(expr.MetaKeyOIFNAME)},
	iiftype:       {"meta iiftype", nftables.TypeARPHRD, formatHostOrder, meta(expr.MetaKeyIIFTYPE)},
	oiftype:       {"meta oiftype", nftables.TypeARPHRD, formatHostOrder, meta(expr.MetaKeyOIFTYPE)},
	mark:          {"meta mark", nftables.TypeMark, formatMark, meta(expr.MetaKeyMARK)},
	ctState:       {"ct state", nftables.TypeCTState, formatState, conntrack(expr.CtKeySTATE)},
	ctDirection:   {"ct direction", nftables.TypeCTDir, formatDirection, conntrack(expr.CtKeyDIRECTION)},
	saddrType:     {"fib saddr type", nftables.TypeFIBAddr, formatAddressType, addressType(true)},
	daddrType:     {"fib daddr type", nftables.TypeFIBAddr, formatAddressType, addressType(false)},
	ip4Saddr:      {"ip saddr", nftables.TypeIPAddr, formatAddr, network(12, 4)},
	ip4Daddr:      {"ip daddr", nftables.TypeIPAddr, formatAddr, network(16, 4)},
	ip6Saddr:      {"ip6 saddr", nftables.TypeIP6Addr, formatAddr, network(8, 16)},
	ip6Daddr:      {"ip6 daddr", nftables.TypeIP6Addr, formatAddr, network(24, 16)},
	ip6HopLimit:   {"ip6 hoplimit", nftables.TypeInteger, formatNumber, network(7, 1)},
	icmpType:      {"icmp type", nftables.TypeICMPType, formatNumber, transport(0, 1)},
	icmpCode:      {"icmp code", nftables.TypeICMPCode, formatNumber, transport(1, 1)},
	icmp6Type:     {"icmpv6 type", nftables.TypeICMP6Type, formatNumber, transport(0, 1)},
	icmp6Code:     {"icmpv6 code", nftables.TypeICMPV6Code, formatNumber, transport(1, 1)},
	quoted4Head:   {"@th,64,8", nftables.TypeInteger, formatNumber, transport(8, 1)},
	quoted4Proto:  {"@th,136,8", nftables.TypeInteger, formatNumber, transport(8+9, 1)},
	quoted4Src:    {"@th,224,16", nftables.TypeInteger, formatNumber, transport(8+20, 2)},
	quoted6Next:   {"@th,112,8", nftables.TypeInteger, formatNumber, transport(8+6, 1)},
	quoted6Src:    {"@th,384,16", nftables.TypeInteger, formatNumber, transport(8+40, 2)},
	fragment6Next: {"@th,384,8", nftables.TypeInteger, formatNumber, transport(8+40, 1)},
	fragment6Src:  {"@th,448,16", nftables.TypeInteger, formatNumber, transport(8+40+8, 2)},
	tcpFlags:      {"tcp flags", nftables.TypeTCPFlag, formatNumber, transport(13, 1)},
	transportSrc:  {"th sport", nftables.TypeInetService, formatNumber, transport(0, 2)},
	transportDst:  {"th dport", nftables.TypeInetService, formatNumber, transport(2, 2)},
}

func (f field) info() *fieldInfo { return &fields[f] }

// appendValue appends what a tuple has in the field, in network byte order.
func (f field) appendValue(b []byte, t *filter.Tuple) []byte {
	switch f {
	case nfproto:
		return append(b, familyOf(t.V6()))
	case l4proto:
		return append(b, t.Protocol())
	case ip4Saddr, ip6Saddr:
		return appendAddr(b, t.Src())
	case ip4Daddr, ip6Daddr:
		return appendAddr(b, t.Dst())
	case transportSrc:
		return binary.BigEndian.AppendUint16(b, t.SrcPort())
	case transportDst:
		return binary.BigEndian.AppendUint16(b, t.DstPort())
	}
	panic("nft: a tuple has no " + f.info().name)
}

func appendAddr(b []byte, a netip.Addr) []byte {
	if a.Is4() {
		v := a.As4()
		return append(b, v[:]...)
	}
	v := a.As16()
	return append(b, v[:]...)
}

func meta(key expr.MetaKey) func(uint32) expr.Any {
	return func(register uint32) expr.Any { return &expr.Meta{Key: key, Register: register} }
}

func conntrack(key expr.CtKey) func(uint32) expr.Any {
	return func(register uint32) expr.Any { return &expr.Ct{Key: key, Register: register} }
}

func addressType(source bool) func(uint32) expr.Any {
	return func(register uint32) expr.Any {
		return &expr.Fib{Register: register, ResultADDRTYPE: true, FlagSADDR: source, FlagDADDR: !source}
	}
}

// network loads length bytes from an offset in the IPv4 or IPv6 header.
func network(offset, length uint32) func(uint32) expr.Any {
	return payload(expr.PayloadBaseNetworkHeader, offset, length)
}

// transport loads length bytes from an offset in the upper-layer header.
func transport(offset, length uint32) func(uint32) expr.Any {
	return payload(expr.PayloadBaseTransportHeader, offset, length)
}

func payload(base expr.PayloadBase, offset, length uint32) func(uint32) expr.Any {
	return func(register uint32) expr.Any {
		return &expr.Payload{DestRegister: register, Base: base, Offset: offset, Len: length}
	}
}

func formatFamily(b []byte) string {
	if b[0] == unix.NFPROTO_IPV4 {
		return "ipv4"
	}
	return "ipv6"
}

func formatProtocol(b []byte) string { return filter.ProtocolName(b[0]) }

func formatIndex(b []byte) string { return fmt.Sprint(binary.NativeEndian.Uint32(b)) }

func formatName(b []byte) string { return strconv.Quote(string(bytes.TrimRight(b, "\x00"))) }

func formatMark(b []byte) string { return fmt.Sprintf("%#08x", binary.NativeEndian.Uint32(b)) }

// states are the bits of ctState, in nft's order.
var states = []struct {
	bit  uint32
	name string
}{
	{expr.CtStateBitINVALID, "invalid"}, {expr.CtStateBitESTABLISHED, "established"},
	{expr.CtStateBitRELATED, "related"}, {expr.CtStateBitNEW, "new"},
}

func formatState(b []byte) string {
	var names []string
	for _, s := range states {
		if binary.NativeEndian.Uint32(b)&s.bit != 0 {
			names = append(names, s.name)
		}
	}
	if names == nil {
		return "0"
	}
	return strings.Join(names, ",")
}

func formatDirection(b []byte) string {
	if b[0] == original {
		return "original"
	}
	return "reply"
}

// formatHostOrder writes two bytes in the host's byte order.
func formatHostOrder(b []byte) string { return strconv.Itoa(int(binary.NativeEndian.Uint16(b))) }

func formatAddressType(b []byte) string {
	switch t := binary.NativeEndian.Uint32(b); t {
	case unix.RTN_LOCAL:
		return "local"
	case unix.RTN_BROADCAST:
		return "broadcast"
	default:
		return fmt.Sprint(t)
	}
}

func formatAddr(b []byte) string {
	a, _ := netip.AddrFromSlice(b)
	return a.String()
}

// formatNumber writes one or two bytes in network byte order.
func formatNumber(b []byte) string {
	n := 0
	for _, v := range b {
		n = n<<8 | int(v)
	}
	return strconv.Itoa(n)
}
