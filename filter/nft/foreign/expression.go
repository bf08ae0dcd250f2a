package foreign

import (
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"

	"github.com/ipsecfw/ipsecfw/filter/packet"
)

// evaluate carries out an expression: whether the rule goes on after it, and
// the verdicts of which one holds if it does.
func (j *judge) evaluate(x any) (truth, []verdict) {
	r := &j.registers
	switch x := x.(type) {
	case verdict:
		return yes, []verdict{x}
	case *expr.Reject:
		return yes, []verdict{{code: verdictDrop}}
	case *expr.Queue, *expr.SynProxy:
		return yes, []verdict{{code: verdictQueue}}
	case *expr.Lookup:
		return j.lookup(x)
	case *expr.NAT:
		return yes, j.translate(x.Type == expr.NATTypeSourceNAT)
	case *expr.Masq:
		return yes, j.translate(true)
	case *expr.Redir:
		return yes, j.translate(false)
	case *expr.Match:
		return j.match(x), nil
	case *expr.Target:
		return j.target(x)

	case *expr.Immediate:
		return r.set(x.Register, x.Data), nil
	case *expr.Meta:
		return j.meta(x), nil
	case ct:
		return j.ct(x), nil
	case *expr.Payload:
		return j.payload(x), nil
	case *expr.Exthdr:
		return j.extension(x), nil
	case *expr.Fib:
		return j.fib(x), nil
	case *expr.Bitwise:
		return r.bitwise(x), nil
	case byteorder:
		return r.swap(x), nil
	case *expr.Cmp:
		return r.compare(x), nil
	case *expr.Range:
		return r.inRange(x), nil

	case *expr.Counter, *expr.Log, *expr.CtHelper, *expr.CtTimeout, *expr.CtExpect, *expr.SecMark, *expr.FlowOffload:
		return yes, nil
	case *expr.Notrack:
		j.untracked = yes
		if j.unsure {
			j.untracked = maybe
		}
		return yes, nil
	// What limits is taken as not exceeded.
	case *expr.Limit:
		return truthOf(!x.Over), nil
	case *expr.Quota:
		return truthOf(!x.Over), nil
	case *expr.Connlimit:
		return truthOf(x.Flags&expr.NFT_CONNLIMIT_F_INV == 0), nil
	case *expr.Objref:
		return object(x), nil
	case dynset:
		holds := yes
		for _, x := range x.expressions {
			h, _ := j.evaluate(x)
			holds = min(holds, h)
		}
		return holds, nil
	case opaque:
		return j.opaque(x)
	}
	return maybe, nil
}

// opaque is what an expression that is not known may do.
func (j *judge) opaque(x opaque) (truth, []verdict) {
	switch x.name {
	case "dup", "last": // it does nothing to the packet itself
		return yes, nil
	}
	j.registers = registers{} // it may have written to any
	switch x.name {
	case "bitwise", "byteorder", "cmp", "connlimit", "ct", "dynset", "exthdr", "fib", "hash", "immediate", "inner", "limit",
		"log", "lookup", "match", "meta", "numgen", "objref", "osf", "payload", "quota", "range", "rt", "socket", "tproxy", "tunnel", "xfrm":
		return maybe, nil // none of them has a verdict
	}
	return maybe, []verdict{{code: verdictQueue}}
}

// object reports whether a rule goes on after it asked a named object.
func object(x *expr.Objref) truth {
	switch x.Type {
	case unix.NFT_OBJECT_COUNTER, unix.NFT_OBJECT_CT_HELPER, unix.NFT_OBJECT_CT_TIMEOUT, unix.NFT_OBJECT_CT_EXPECT, unix.NFT_OBJECT_SECMARK:
		return yes
	}
	return maybe // it may be one that refuses what is under the limit
}

// lookup looks a key up in a set or map.
func (j *judge) lookup(x *expr.Lookup) (truth, []verdict) {
	decides := x.IsDestRegSet && x.DestRegister == unix.NFT_REG_VERDICT
	s := j.at.table.sets[x.SetName]
	if s == nil || s.unread {
		if decides {
			return j.opaque(opaque{"verdict map"})
		}
		return j.opaque(opaque{"lookup"})
	}
	key, known, ok := j.registers.at(x.SourceRegister, s.keyLen)
	if !ok {
		return j.opaque(opaque{"verdict map"})
	}
	hits, miss := s.find(key, known)
	held := truthOf(len(hits) > 0)
	for _, e := range hits {
		if miss || e.uncertain {
			held = maybe
		}
	}
	switch {
	case !x.IsDestRegSet && x.Invert:
		return held.not(), nil
	case !x.IsDestRegSet || held == no:
		return held, nil
	case decides:
		var verdicts []verdict
		for _, e := range hits {
			if e.verdict != nil {
				verdicts = append(verdicts, *e.verdict)
			}
		}
		return held, verdicts
	case len(hits) == 1:
		j.registers.set(x.DestRegister, hits[0].data)
	default:
		j.registers.unknown(x.DestRegister, s.dataLen)
	}
	return held, nil
}

// translate gives the packet another source, or another destination. Either
// ends the base chain.
func (j *judge) translate(source bool) []verdict {
	if source {
		if !j.unsure && j.masked == (Where{}) {
			j.masked = j.rule
		}
		j.network.forget(j.network.srcAt, j.network.addrLen)
		if packet.HasPorts(j.probe.Protocol) {
			j.transport.forget(0, 2)
		}
	} else {
		j.translated = j.rule
	}
	return []verdict{{code: verdictAccept}}
}

// payload reads from the packet's headers, or writes to them.
func (j *judge) payload(x *expr.Payload) truth {
	h := &header{}
	switch x.Base {
	case expr.PayloadBaseNetworkHeader:
		h = &j.network
	case expr.PayloadBaseTransportHeader:
		h = &j.transport
	}
	if x.OperationType == expr.PayloadWrite {
		h.forget(int(min(x.Offset, 1<<16)), int(min(x.Len, 1<<16)))
		return yes
	}
	end := uint64(x.Offset) + uint64(x.Len)
	if end > uint64(len(h.data)) {
		return j.registers.unknown(x.DestRegister, int(min(x.Len, 64)+3)&^3) // the packet may end before
	}
	return j.registers.store(x.DestRegister, h.data[x.Offset:end], h.known[x.Offset:end])
}

// extension reads an IPv6 extension header, an IPv4 option or a TCP option.
// A probe has none of the first two, and may have any of the last.
func (j *judge) extension(x *expr.Exthdr) truth {
	const ip4Option, flagPresent = 2, 1
	switch {
	case x.DestRegister == 0:
		return yes // it changes an option
	case x.Op == expr.ExthdrOpTcpopt && j.probe.Protocol == packet.TCP, x.Op > ip4Option:
		return j.registers.unknown(x.DestRegister, 64)
	case x.Flags&flagPresent != 0:
		return j.registers.set(x.DestRegister, []byte{0})
	}
	return no
}

func (r *registers) bitwise(x *expr.Bitwise) truth {
	n := int(x.Len)
	if n < 0 || n > len(x.Mask) || n > len(x.Xor) {
		*r = registers{}
		return maybe
	}
	from, known, ok := r.at(x.SourceRegister, n)
	to, mask, fits := r.at(x.DestRegister, n)
	if !ok || !fits {
		*r = registers{}
		return maybe
	}
	for i := range n {
		to[i], mask[i] = from[i]&x.Mask[i]^x.Xor[i], known[i]|^x.Mask[i]
	}
	return yes
}

func (r *registers) swap(x byteorder) truth {
	from, known, ok := r.at(x.source, int(min(x.length, 65)))
	to, mask, fits := r.at(x.destination, int(min(x.length, 65)))
	if !ok || !fits || x.size == 0 || x.length%x.size != 0 {
		*r = registers{}
		return maybe
	}
	var data, bits [64]byte
	for i := range from {
		size := int(x.size)
		k := i/size*size + size - 1 - i%size
		data[k], bits[k] = from[i], known[i]
	}
	if !bigEndian {
		copy(to, data[:])
		copy(mask, bits[:])
	}
	return yes
}

func (r *registers) compare(x *expr.Cmp) truth {
	b, known, ok := r.at(x.Register, len(x.Data))
	if !ok {
		return maybe
	}
	switch x.Op {
	case expr.CmpOpEq:
		return equal(b, known, x.Data)
	case expr.CmpOpNeq:
		return equal(b, known, x.Data).not()
	case expr.CmpOpLt:
		return less(b, known, x.Data)
	case expr.CmpOpLte:
		return max(less(b, known, x.Data), equal(b, known, x.Data))
	case expr.CmpOpGt:
		return max(less(b, known, x.Data), equal(b, known, x.Data)).not()
	case expr.CmpOpGte:
		return less(b, known, x.Data).not()
	}
	return maybe
}

func (r *registers) inRange(x *expr.Range) truth {
	b, known, ok := r.at(x.Register, len(x.FromData))
	if !ok || len(x.FromData) != len(x.ToData) {
		return maybe
	}
	switch held := inRange(b, known, x.FromData, x.ToData); x.Op {
	case expr.CmpOpEq: // NFT_RANGE_EQ
		return held
	case expr.CmpOpNeq: // NFT_RANGE_NEQ
		return held.not()
	}
	return maybe
}
