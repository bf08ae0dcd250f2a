package nft

import (
	"encoding/binary"
	"fmt"
	"strings"

	"github.com/google/nftables/expr"
	"github.com/google/nftables/xt"
)

// lowered is what becomes expressions of the kernel's rule machine.
type lowered interface {
	lower() []expr.Any
}

// Registers of the rule machine. It has sixteen of four bytes in a row, and
// old names for the same space; a set's key is read from one register on.
const (
	register      = 1 // NFT_REG_1, 16 bytes: the scratch register of all but lookups
	keyRegister   = 8 // NFT_REG32_00, where keys begin
	registerBytes = 4
)

// match ends the rule unless the field compares with value as op says. A mask
// is applied first.
type match struct {
	field field
	mask  []byte
	op    expr.CmpOp
	value []byte
}

func is(f field, value ...byte) match { return match{field: f, op: expr.CmpOpEq, value: value} }

func isNot(f field, value ...byte) match { return match{field: f, op: expr.CmpOpNeq, value: value} }

var operators = map[expr.CmpOp]string{
	expr.CmpOpEq: "== ", expr.CmpOpNeq: "!= ", expr.CmpOpGte: ">= ", expr.CmpOpLte: "<= ",
}

func (m match) String() string {
	info := m.field.info()
	left, operator := info.name, operators[m.op]
	if m.mask != nil {
		left += " & " + info.format(m.mask)
	} else if m.op == expr.CmpOpEq {
		operator = "" // understood
	}
	return left + " " + operator + info.format(m.value)
}

func (m match) lower() []expr.Any {
	out := []expr.Any{m.field.info().load(register)}
	if m.mask != nil {
		out = append(out, and(register, m.mask))
	}
	return append(out, &expr.Cmp{Op: m.op, Register: register, Data: m.value})
}

func and(register uint32, mask []byte) expr.Any {
	return &expr.Bitwise{SourceRegister: register, DestRegister: register, Len: uint32(len(mask)), Mask: mask, Xor: make([]byte, len(mask))}
}

// lookup ends the rule unless the set holds the packet's key; not, if it does.
// The set's element counts the packet when it is found, and does not count
// with not, which ends the rule there.
type lookup struct {
	name string
	keys []key
	not  bool
}

func (l lookup) String() string {
	parts := make([]string, len(l.keys))
	for i, k := range l.keys {
		parts[i] = k.String()
	}
	operator := " @"
	if l.not {
		operator = " != @"
	}
	return strings.Join(parts, " . ") + operator + l.name
}

func (l lookup) lower() []expr.Any {
	var out []expr.Any
	r := uint32(keyRegister)
	for _, k := range l.keys {
		info := k.field.info()
		out = append(out, info.load(r))
		if mask := k.mask(); mask != nil {
			out = append(out, and(r, mask))
		}
		r += (info.datatype.Bytes + registerBytes - 1) / registerBytes
	}
	return append(out, &expr.Lookup{SourceRegister: keyRegister, SetName: l.name, Invert: l.not})
}

// counter counts the packets and bytes that come to it.
type counter struct{}

func (counter) String() string    { return "counter" }
func (counter) lower() []expr.Any { return []expr.Any{&expr.Counter{}} }

// setMark sets the packet's mark.
type setMark uint32

func (s setMark) String() string {
	return "meta mark set " + formatMark(s.bytes())
}

func (s setMark) bytes() []byte { return binary.NativeEndian.AppendUint32(nil, uint32(s)) }

func (s setMark) lower() []expr.Any {
	return []expr.Any{
		&expr.Immediate{Register: register, Data: s.bytes()},
		&expr.Meta{Key: expr.MetaKeyMARK, SourceRegister: true, Register: register},
	}
}

// verdict ends the packet's way through the base chain, or with back only
// through the chain.
type verdict expr.VerdictKind

const (
	accept = verdict(expr.VerdictAccept)
	drop   = verdict(expr.VerdictDrop)
	back   = verdict(expr.VerdictReturn)
)

func (v verdict) String() string {
	switch v {
	case accept:
		return "accept"
	case back:
		return "return"
	}
	return "drop"
}

func (v verdict) lower() []expr.Any { return []expr.Any{&expr.Verdict{Kind: expr.VerdictKind(v)}} }

// gotoChain sends the packet to a chain, from which it does not return.
type gotoChain string

func (g gotoChain) String() string { return "goto " + string(g) }

func (g gotoChain) lower() []expr.Any {
	return []expr.Any{&expr.Verdict{Kind: expr.VerdictGoto, Chain: string(g)}}
}

// jumpChain sends the packet to a chain, from which it may return.
type jumpChain string

func (j jumpChain) String() string { return "jump " + string(j) }

func (j jumpChain) lower() []expr.Any {
	return []expr.Any{&expr.Verdict{Kind: expr.VerdictJump, Chain: string(j)}}
}

// queue hands the packet to whoever reads the queue, and drops it when nobody
// does.
type queue struct {
	number uint16
	native bool // nft's own statement; else the NFQUEUE target of xtables
}

func (q queue) String() string {
	if q.native {
		return fmt.Sprintf("queue to %d", q.number)
	}
	return fmt.Sprintf(`xt target "NFQUEUE" queue-num %d`, q.number)
}

func (q queue) lower() []expr.Any {
	if q.native {
		return []expr.Any{&expr.Queue{Num: q.number, Total: 1}}
	}
	// struct xt_NFQ_info_v3: first queue, number of queues, flags (none: no
	// bypass), each of 16 bits, padded to 8 bytes.
	info := xt.Unknown(make([]byte, 8))
	binary.NativeEndian.PutUint16(info, q.number)
	binary.NativeEndian.PutUint16(info[2:], 1)
	return []expr.Any{&expr.Target{Name: "NFQUEUE", Rev: 3, Info: &info}}
}
