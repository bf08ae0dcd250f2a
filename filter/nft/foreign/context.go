package foreign

import (
	"encoding/binary"
	"net/netip"

	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"

	"github.com/ipsecfw/ipsecfw/filter"
)

var bigEndian = binary.NativeEndian.Uint16([]byte{0, 1}) == 1

// metaSecPath asks whether the kernel's own IPsec opened the packet
// (NFT_META_SECPATH); it did not.
const metaSecPath = 25

// meta reads what the kernel knows of the packet beside its headers.
func (j *judge) meta(x *expr.Meta) truth {
	r := &j.registers
	if x.SourceRegister {
		if x.Key == expr.MetaKeyMARK {
			j.write(&j.mark, r.number(x.Register))
		}
		return yes
	}
	v4 := j.probe.Src.Is4()
	switch x.Key {
	case expr.MetaKeyPROTOCOL:
		protocol := uint16(unix.ETH_P_IPV6)
		if v4 {
			protocol = unix.ETH_P_IP
		}
		return r.set(x.Register, binary.BigEndian.AppendUint16(nil, protocol))
	case expr.MetaKeyNFPROTO:
		return r.set(x.Register, []byte{j.family()})
	case expr.MetaKeyL4PROTO:
		return r.set(x.Register, []byte{j.probe.Protocol})
	case expr.MetaKeyMARK:
		return r.setHost(x.Register, j.mark)
	case expr.MetaKeyPKTTYPE, metaSecPath: // to this host, and not opened
		return r.set(x.Register, []byte{unix.PACKET_HOST})
	case expr.MetaKeyIIF, expr.MetaKeyIIFNAME, expr.MetaKeyIIFTYPE:
		return j.device(x, j.in(), expr.MetaKeyIIF)
	case expr.MetaKeyOIF, expr.MetaKeyOIFNAME, expr.MetaKeyOIFTYPE:
		return j.device(x, j.out(), expr.MetaKeyOIF)
	}
	return r.unknown(x.Register, 16)
}

// write changes a mark, or perhaps does.
func (j *judge) write(mark *number, to number) {
	if j.unsure {
		to.known &= mark.known &^ (to.value ^ mark.value)
	}
	*mark = to
}

func (j *judge) family() byte {
	if j.probe.Src.Is4() {
		return unix.NFPROTO_IPV4
	}
	return unix.NFPROTO_IPV6
}

// in returns the interface by which the packet came, where the hook knows it;
// nil where there is none.
func (j *judge) in() *Interface {
	if j.direction == filter.Outbound {
		return nil
	}
	return &j.probe.In
}

// out returns the interface by which the packet goes, likewise.
func (j *judge) out() *Interface {
	switch j.at.chain.hook.number {
	case unix.NF_INET_PRE_ROUTING, unix.NF_INET_LOCAL_IN:
		return nil
	}
	return &j.probe.Out
}

// device reads the name, index or type of an interface. The kernel has an
// empty name and the index 0 for none, and no type.
func (j *judge) device(x *expr.Meta, of *Interface, index expr.MetaKey) truth {
	r := &j.registers
	switch x.Key {
	case index:
		if of != nil && of.Index == 0 {
			return r.setHost(x.Register, number{})
		}
		n := certain(0)
		if of != nil {
			n = certain(of.Index)
		}
		return r.setHost(x.Register, n)
	case expr.MetaKeyIIFTYPE, expr.MetaKeyOIFTYPE:
		switch {
		case of == nil:
			return no
		case of.Type == 0:
			return r.unknown(x.Register, 4)
		}
		return r.set(x.Register, binary.NativeEndian.AppendUint16(nil, of.Type))
	}
	switch {
	case of == nil:
		return r.set(x.Register, interfaceName(""))
	case of.Name == "":
		r.unknown(x.Register, unix.IFNAMSIZ)
		return yes
	}
	return r.set(x.Register, interfaceName(of.Name))
}

// interfaceName returns a name as the kernel keeps it.
func interfaceName(name string) []byte {
	b := make([]byte, unix.IFNAMSIZ)
	copy(b, name)
	return b
}

// ctConntrack is the priority of connection tracking at prerouting and output
// (NF_IP_PRI_CONNTRACK). Chains before it know nothing of the connection.
const ctConntrack = -200

// ct reads what connection tracking knows of the packet.
func (j *judge) ct(x ct) truth {
	r, p := &j.registers, j.probe
	if x.writes {
		if x.key == expr.CtKeyMARK {
			j.write(&j.ctMark, r.number(x.register))
		}
		return yes
	}
	state := j.state()
	fresh := state == certain(expr.CtStateBitNEW)
	switch x.key {
	case expr.CtKeySTATE:
		return r.setHost(x.register, state)
	case expr.CtKeyMARK:
		if state.known != 0 {
			return r.setHost(x.register, j.ctMark)
		}
	case expr.CtKeyDIRECTION:
		if tracked := fresh || state == certain(expr.CtStateBitESTABLISHED); tracked {
			direction := byte(0)
			if p.State == filter.StateReply {
				direction = 1
			}
			return r.set(x.register, []byte{direction})
		}
	}
	if !fresh {
		return r.unknown(x.register, 64)
	}
	switch x.key {
	case expr.CtKeySTATUS:
		const natDone = 1<<7 | 1<<8 // whether a chain of type nat has been by
		return r.setHost(x.register, number{0, ^uint32(natDone)})
	case expr.CtKeyL3PROTOCOL:
		return r.set(x.register, []byte{j.family()})
	case expr.CtKeyPROTOCOL:
		return r.set(x.register, []byte{p.Protocol})
	case expr.CtKeySRC, unix.NFT_CT_SRC_IP, unix.NFT_CT_SRC_IP6:
		if !x.reply {
			return r.set(x.register, p.Src.AsSlice())
		}
	case expr.CtKeyDST, unix.NFT_CT_DST_IP, unix.NFT_CT_DST_IP6:
		if !x.reply {
			return r.set(x.register, p.Dst.AsSlice())
		}
	case expr.CtKeyPROTOSRC:
		if !x.reply && len(j.transport.data) >= 4 {
			return r.set(x.register, binary.BigEndian.AppendUint16(nil, p.SrcPort))
		}
	case expr.CtKeyPROTODST:
		if !x.reply && len(j.transport.data) >= 4 {
			return r.set(x.register, binary.BigEndian.AppendUint16(nil, p.DstPort))
		}
	}
	return r.unknown(x.register, 64)
}

// state is the state of the connection in the bits that rules ask for.
func (j *judge) state() number {
	h := j.at.chain.hook
	early := (h.number == unix.NF_INET_PRE_ROUTING || h.number == unix.NF_INET_LOCAL_OUT) && h.priority < ctConntrack
	switch {
	case j.untracked == yes:
		return certain(expr.CtStateBitUNTRACKED)
	case j.untracked == maybe:
		return number{}
	case early:
		return certain(expr.CtStateBitINVALID)
	}
	switch j.probe.State {
	case filter.StateNew:
		return certain(expr.CtStateBitNEW)
	case filter.StateOriginal, filter.StateReply:
		return certain(expr.CtStateBitESTABLISHED)
	case filter.StateInvalid:
		return certain(expr.CtStateBitINVALID)
	}
	return number{}
}

// fib asks the host's routes. Where the packet comes from is taken as
// reachable by the interface that it came in by.
func (j *judge) fib(x *expr.Fib) truth {
	r, p := &j.registers, j.probe
	switch {
	case x.ResultADDRTYPE && x.FlagDADDR:
		return r.setHost(x.Register, certain(addressType(p.Dst, j.direction == filter.Inbound)))
	case x.ResultADDRTYPE && x.FlagSADDR:
		return r.setHost(x.Register, certain(addressType(p.Src, j.direction == filter.Outbound)))
	case !x.FlagSADDR || j.direction == filter.Outbound:
	case x.FlagPRESENT:
		return r.set(x.Register, []byte{1})
	case x.ResultOIF && p.In.Index != 0:
		return r.setHost(x.Register, certain(p.In.Index))
	case x.ResultOIFNAME && p.In.Name != "":
		return r.set(x.Register, interfaceName(p.In.Name))
	}
	return r.unknown(x.Register, 64)
}

// addressType returns what routes say of an address (RTN_* of
// linux/rtnetlink.h), of which is known whether it is the host's own.
func addressType(a netip.Addr, own bool) uint32 {
	switch {
	case a == netip.AddrFrom4([4]byte{255, 255, 255, 255}):
		return unix.RTN_BROADCAST
	case a.IsMulticast():
		return unix.RTN_MULTICAST
	case own || a.IsLoopback():
		return unix.RTN_LOCAL
	}
	return unix.RTN_UNICAST
}
