package foreign

import (
	"encoding/binary"
	"net/netip"

	"github.com/google/nftables/expr"
	"github.com/google/nftables/xt"

	"github.com/ipsecfw/ipsecfw/filter"
	"github.com/ipsecfw/ipsecfw/filter/packet"
)

// match evaluates a match of xtables, as iptables-nft uses them. Numbers in
// those that google/nftables does not decode are in the host's byte order.
func (j *judge) match(m *expr.Match) truth {
	raw, _ := m.Info.(*xt.Unknown)
	p := j.probe
	switch info := m.Info.(type) {
	case *xt.Comment:
		return yes
	case *xt.Tcp:
		if p.Protocol != packet.TCP {
			return no
		}
		holds := min(j.port(0, info.SrcPorts, info.InvFlags&xt.TcpInvSrcPorts != 0),
			j.port(2, info.DstPorts, info.InvFlags&xt.TcpInvDestPorts != 0))
		switch {
		case info.Option != 0:
			holds = min(holds, maybe)
		case info.FlagsMask != 0 && p.State != filter.StateNew:
			holds = min(holds, maybe)
		case info.FlagsMask != 0:
			holds = min(holds, truthOf((tcpSYN&info.FlagsMask == info.FlagsCmp) != (info.InvFlags&xt.TcpInvFlags != 0)))
		}
		return holds
	case *xt.Udp:
		if p.Protocol != packet.UDP {
			return no
		}
		return min(j.port(0, info.SrcPorts, info.InvFlags&xt.UdpInvSrcPorts != 0),
			j.port(2, info.DstPorts, info.InvFlags&xt.UdpInvDestPorts != 0))
	case *xt.AddrType:
		return min(j.addressIn(p.Src, filter.Outbound, info.Source, info.InvertSource),
			j.addressIn(p.Dst, filter.Inbound, info.Dest, info.InvertDest))
	case *xt.AddrTypeV1:
		const invertSource, invertDestination = 1, 2 // XT_ADDRTYPE_INVERT_*
		return min(j.addressIn(p.Src, filter.Outbound, info.Source, info.Flags&invertSource != 0),
			j.addressIn(p.Dst, filter.Inbound, info.Dest, info.Flags&invertDestination != 0))
	case *xt.ConntrackMtinfo1:
		return j.connection(info.MatchFlags, info.InvertFlags, uint32(info.StateMask))
	case *xt.ConntrackMtinfo2:
		return j.connection(info.MatchFlags, info.InvertFlags, uint32(info.StateMask))
	case *xt.ConntrackMtinfo3:
		return j.connection(info.MatchFlags, info.InvertFlags, uint32(info.StateMask))
	}
	if raw == nil {
		return maybe
	}
	return j.rawMatch(m.Name, m.Rev, *raw)
}

// rawMatch evaluates matches by the bytes of their structures in
// linux/netfilter/xt_*.h and linux/netfilter_ipv{4,6}/*.h.
func (j *judge) rawMatch(name string, revision uint32, b []byte) truth {
	p := j.probe
	switch {
	case name == "limit": // taken as not exceeded
		return yes
	case name == "state" && len(b) >= 4:
		return j.connection(uint16(xt.ConntrackState), 0, binary.NativeEndian.Uint32(b))
	case name == "mark" && revision == 1 && len(b) >= 9:
		mark, mask := binary.NativeEndian.Uint32(b), binary.NativeEndian.Uint32(b[4:])
		holds := maybe
		switch {
		case (j.mark.value^mark)&mask&j.mark.known != 0, mark&^mask != 0:
			holds = no
		case mask&^j.mark.known == 0:
			holds = yes
		}
		return invert(holds, b[8] != 0)
	case name == "multiport" && revision == 1 && len(b) >= 48:
		return j.multiport(b)
	case (name == "icmp" || name == "icmp6") && len(b) >= 4:
		const anyType = 0xff // of ICMP only
		if !p.icmp() {
			return no
		}
		any4 := name == "icmp" && b[0] == anyType
		return truthOf((any4 || b[0] == p.ICMPType && b[1] <= p.ICMPCode && p.ICMPCode <= b[2]) != (b[3]&1 != 0))
	// A probe has no extension headers, and what it has not no inversion finds.
	case name == "rt", name == "frag", name == "hbh", name == "dst":
		return no
	}
	return maybe
}

func invert(t truth, not bool) truth {
	if not {
		return t.not()
	}
	return t
}

// port reports whether the port at an offset of the transport header is in a
// range, both ends inclusive.
func (j *judge) port(at int, in [2]uint16, not bool) truth {
	if len(j.transport.data) < 4 {
		return maybe
	}
	first, last := binary.BigEndian.AppendUint16(nil, in[0]), binary.BigEndian.AppendUint16(nil, in[1])
	if in == [2]uint16{0, 65535} {
		return truthOf(!not)
	}
	return invert(inRange(j.transport.data[at:at+2], j.transport.known[at:at+2], first, last), not)
}

// multiport evaluates struct xt_multiport_v1: which ports, how many, 15 ports,
// for each whether it begins a range that the next one ends, and the inversion.
func (j *judge) multiport(b []byte) truth {
	const source, destination, either = 0, 1, 2
	if !packet.HasPorts(j.probe.Protocol) {
		return no
	}
	holds := no
	for i := 0; i < int(min(b[1], 15)); i++ {
		port := func(i int) uint16 { return binary.NativeEndian.Uint16(b[2+2*i:]) }
		in := [2]uint16{port(i), port(i)}
		if b[32+i] != 0 && i < 14 {
			i++
			in[1] = port(i)
		}
		switch b[0] {
		case source:
			holds = max(holds, j.port(0, in, false))
		case destination:
			holds = max(holds, j.port(2, in, false))
		case either:
			holds = max(holds, j.port(0, in, false), j.port(2, in, false))
		}
	}
	return invert(holds, b[47] != 0)
}

// connection evaluates the match conntrack, where it asks for the state only:
// bit 0 is for invalid, then those of established, related and new.
func (j *judge) connection(flags, inverted uint16, mask uint32) truth {
	const translated = 1<<6 | 1<<7 // XT_CONNTRACK_STATE_SNAT, _DNAT
	const untracked = 1 << 8       // XT_CONNTRACK_STATE_UNTRACKED
	state := j.state()
	if flags&^uint16(xt.ConntrackState|xt.ConntrackStateAlias) != 0 || flags&uint16(xt.ConntrackState) == 0 || state.known == 0 {
		return maybe
	}
	bits := state.value // those of nft are the same, but for one
	if bits == expr.CtStateBitUNTRACKED {
		bits = untracked
	}
	holds := truthOf(bits&mask != 0)
	if holds == no && mask&translated != 0 && j.probe.State != filter.StateNew {
		holds = maybe
	}
	return invert(holds, inverted&uint16(xt.ConntrackState) != 0)
}

// addressIn evaluates the match addrtype for one address, which is the host's
// own in packets of a direction. A mask of 0 asks nothing.
func (j *judge) addressIn(a netip.Addr, own filter.Direction, mask uint16, not bool) truth {
	if mask == 0 {
		return yes
	}
	return truthOf((mask&(1<<addressType(a, j.direction == own)) != 0) != not)
}

// target evaluates a target of xtables.
func (j *judge) target(t *expr.Target) (truth, []verdict) {
	switch t.Name {
	case "REJECT", "DROP":
		return yes, []verdict{{code: verdictDrop}}
	case "ACCEPT":
		return yes, []verdict{{code: verdictAccept}}
	case "NFQUEUE", "SYNPROXY", "TPROXY":
		return yes, []verdict{{code: verdictQueue}}
	case "SNAT", "MASQUERADE":
		return yes, j.translate(true)
	case "DNAT", "REDIRECT", "NETMAP":
		return yes, j.translate(false)
	case "MARK", "CONNMARK":
		j.mark.known, j.ctMark.known = 0, 0
		return yes, nil
	case "CT":
		j.untracked = maybe
		return yes, nil
	case "LOG", "NFLOG", "TRACE", "AUDIT", "TCPMSS", "CHECKSUM", "CLASSIFY", "DSCP", "TOS", "TTL", "HL", "TEE", "SET", "SECMARK", "CONNSECMARK":
		return yes, nil
	}
	j.registers = registers{}
	return maybe, []verdict{{code: verdictQueue}}
}
