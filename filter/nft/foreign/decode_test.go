package foreign

import (
	"encoding/binary"
	"errors"
	"testing"

	"github.com/google/nftables/expr"
	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// nested makes the bytes of attributes.
func nested(t testing.TB, all ...netlink.Attribute) []byte {
	t.Helper()
	b, err := netlink.MarshalAttributes(all)
	must(t, err)
	return b
}

func attribute(kind uint16, data []byte) netlink.Attribute {
	return netlink.Attribute{Type: kind, Data: data}
}

func be32(n uint32) []byte { return binary.BigEndian.AppendUint32(nil, n) }

// named makes the bytes of an expression in a list.
func named(t testing.TB, name string, data []byte) []byte {
	return nested(t, attribute(unix.NFTA_EXPR_NAME, append([]byte(name), 0)), attribute(unix.NFTA_EXPR_DATA, data))
}

func TestDecodeExpression(t *testing.T) {
	jump := nested(t, attribute(unix.NFTA_IMMEDIATE_DREG, be32(0)), attribute(unix.NFTA_IMMEDIATE_DATA,
		nested(t, attribute(unix.NFTA_DATA_VERDICT, nested(t,
			attribute(unix.NFTA_VERDICT_CODE, []byte{0xff, 0xff, 0xff, 0xfd}), attribute(unix.NFTA_VERDICT_CHAIN, []byte("to\x00")))))))
	limit, err := expr.MarshalExprData(unix.NFPROTO_INET, &expr.Limit{Over: true, Unit: expr.LimitTimeSecond})
	must(t, err)
	tests := []struct {
		name string
		data []byte
		is   func(x any) bool
	}{
		{"immediate", jump, func(x any) bool { return x == verdict{verdictJump, "to"} }},
		{"ct", nested(t, attribute(unix.NFTA_CT_KEY, be32(unix.NFT_CT_PROTO_DST)), attribute(unix.NFTA_CT_DREG, be32(1)), attribute(unix.NFTA_CT_DIRECTION, []byte{1})),
			func(x any) bool { return x == ct{key: expr.CtKeyPROTODST, register: 1, reply: true} }},
		{"ct", nested(t, attribute(unix.NFTA_CT_KEY, be32(unix.NFT_CT_MARK)), attribute(unix.NFTA_CT_SREG, be32(2))),
			func(x any) bool { return x == ct{key: expr.CtKeyMARK, register: 2, writes: true} }},
		{"byteorder", nested(t, attribute(unix.NFTA_BYTEORDER_SREG, be32(1)), attribute(unix.NFTA_BYTEORDER_DREG, be32(2)),
			attribute(unix.NFTA_BYTEORDER_LEN, be32(4)), attribute(unix.NFTA_BYTEORDER_SIZE, be32(2))),
			func(x any) bool { return x == byteorder{1, 2, 4, 2} }},
		{"bitwise", nested(t, attribute(6, be32(1))), func(x any) bool { return x == opaque{"bitwise"} }},
		{"dynset", nested(t, attribute(unix.NFTA_DYNSET_EXPR, named(t, "limit", limit))), func(x any) bool {
			d, ok := x.(dynset)
			return ok && len(d.expressions) == 1 && d.expressions[0].(*expr.Limit).Over
		}},
		{"connlimit", nested(t, attribute(expr.NFTA_CONNLIMIT_FLAGS, be32(1))), func(x any) bool { return x.(*expr.Connlimit).Flags == 1 }},
		{"connlimit", nested(t, attribute(expr.NFTA_CONNLIMIT_FLAGS, []byte{1})), func(x any) bool { return x == opaque{"connlimit"} }},
		{"limit", nested(t, attribute(unix.NFTA_LIMIT_UNIT, []byte{1})), func(x any) bool { return x == opaque{"limit"} }},
		{"osf", nil, func(x any) bool { return x == opaque{"osf"} }},
		{"notrack", nil, func(x any) bool { _, ok := x.(*expr.Notrack); return ok }},
	}
	for _, tt := range tests {
		x, err := decodeNamed(unix.NFPROTO_INET, named(t, tt.name, tt.data))
		if err != nil || !tt.is(x) {
			t.Errorf("%s: %#v, %v", tt.name, x, err)
		}
	}
}

func TestMessages(t *testing.T) {
	message := func(kind, flags uint16, body ...byte) []byte {
		b := binary.NativeEndian.AppendUint32(nil, uint32(unix.NLMSG_HDRLEN+len(body)))
		b = binary.NativeEndian.AppendUint16(b, kind)
		b = binary.NativeEndian.AppendUint16(b, flags)
		return append(append(b, make([]byte, 8)...), body...)
	}
	errno := func(e unix.Errno) []byte { return binary.NativeEndian.AppendUint32(nil, -uint32(e)) }
	object := message(0xa00, 0, 2, 0, 0, 0)
	tests := []struct {
		name  string
		b     []byte
		taken int
		done  bool
		err   error
	}{
		{"objects", append(object, object...), 2, false, nil},
		{"the end", append(object, message(unix.NLMSG_DONE, 0, 0, 0, 0, 0)...), 1, true, nil},
		{"the end alone", message(unix.NLMSG_DONE, 0), 0, true, nil},
		{"interrupted", append(object, message(0xa00, unix.NLM_F_DUMP_INTR, 2, 0, 0, 0)...), 1, false, errChanged},
		{"gone", message(unix.NLMSG_ERROR, 0, errno(unix.ENOENT)...), 0, false, errChanged},
		{"not allowed", message(unix.NLMSG_ERROR, 0, errno(unix.EPERM)...), 0, false, unix.EPERM},
		{"an error at the end", message(unix.NLMSG_DONE, 0, errno(unix.EINTR)...), 0, false, errChanged},
	}
	for _, tt := range tests {
		taken := 0
		done, err := messages(tt.b, func(family byte, _ []byte) bool {
			taken++
			return family == 2
		})
		if done != tt.done || !errors.Is(err, tt.err) || taken != tt.taken {
			t.Errorf("%s: done %v, error %v, %d taken", tt.name, done, err, taken)
		}
	}
	if _, err := messages(object[:17], func(byte, []byte) bool { return true }); err == nil {
		t.Error("a message that is cut off is taken")
	}
}

// FuzzDecode looks for bytes that make the decoders, or the judge of what they
// decoded, panic.
func FuzzDecode(f *testing.F) {
	cmp, err := expr.MarshalExprData(unix.NFPROTO_INET, &expr.Cmp{Register: 1, Data: []byte{1}})
	must(f, err)
	f.Add(nested(f, attribute(unix.NFTA_RULE_CHAIN, []byte("c\x00")), attribute(unix.NFTA_RULE_EXPRESSIONS, nested(f, attribute(unix.NFTA_LIST_ELEM, named(f, "cmp", cmp))))))
	f.Add(nested(f, attribute(unix.NFTA_SET_ELEM_LIST_ELEMENTS, nested(f, attribute(unix.NFTA_LIST_ELEM, nested(f, attribute(unix.NFTA_SET_ELEM_KEY, nested(f, attribute(unix.NFTA_DATA_VALUE, []byte{0, 80})))))))))
	for _, name := range []string{"bitwise", "byteorder", "ct", "dynset", "exthdr", "fib", "immediate", "lookup", "match", "meta", "payload", "range", "target"} {
		f.Add(nested(f, attribute(unix.NFTA_RULE_EXPRESSIONS, nested(f, attribute(unix.NFTA_LIST_ELEM, named(f, name, nested(f, attribute(1, be32(1)), attribute(2, be32(2)))))))))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		decodeTable(unix.NFPROTO_INET, b)
		decodeChain(b)
		s, _, _, err := decodeSet(b)
		if err != nil {
			s = &set{keyLen: 2, dataLen: 2}
		}
		s.decodeElements(unix.NFPROTO_IPV4, b)
		s.finish()
		r, _, _ := decodeRule(unix.NFPROTO_IPV4, b)
		c := &chain{name: "c", hook: &hook{number: unix.NF_INET_LOCAL_IN}, rules: []rule{r, {2, []any{&expr.Lookup{SourceRegister: 1}}}}}
		x := &table{family: unix.NFPROTO_INET, chains: map[string]*chain{"c": c}, sets: map[string]*set{"": s}}
		hang([]*table{x}).Judge(in, tcp("192.0.2.1", "10.0.0.1", 80))
	})
}
