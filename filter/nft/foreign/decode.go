package foreign

import (
	"encoding/binary"

	"github.com/google/nftables/expr"
	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// attributes calls f for each attribute in b, of which numbers are in network
// byte order.
func attributes(b []byte, f func(kind uint16, d *netlink.AttributeDecoder)) error {
	d, err := netlink.NewAttributeDecoder(b)
	if err != nil {
		return err
	}
	d.ByteOrder = binary.BigEndian
	for d.Next() {
		f(d.Type(), d)
	}
	return d.Err()
}

// decodeTable reads a table from its attributes; it is nil when the table is
// dormant, and holds no packet up.
func decodeTable(family byte, b []byte) (*table, error) {
	t := &table{family: family, chains: map[string]*chain{}, sets: map[string]*set{}}
	err := attributes(b, func(kind uint16, d *netlink.AttributeDecoder) {
		switch kind {
		case unix.NFTA_TABLE_NAME:
			t.name = d.String()
		case unix.NFTA_TABLE_FLAGS:
			if d.Uint32()&unix.NFT_TABLE_F_DORMANT != 0 {
				t.chains = nil
			}
		}
	})
	if err != nil || t.chains == nil {
		return nil, err
	}
	return t, nil
}

// decodeChain reads a chain without its rules, and the name of its table.
func decodeChain(b []byte) (c *chain, table string, err error) {
	c = &chain{}
	var h hook
	var accept, nat, hooked bool
	err = attributes(b, func(kind uint16, d *netlink.AttributeDecoder) {
		switch kind {
		case unix.NFTA_CHAIN_TABLE:
			table = d.String()
		case unix.NFTA_CHAIN_NAME:
			c.name = d.String()
		case unix.NFTA_CHAIN_TYPE:
			nat = d.String() == "nat"
		case unix.NFTA_CHAIN_POLICY:
			accept = d.Uint32() == verdictAccept
		case unix.NFTA_CHAIN_HOOK:
			hooked = true
			d.Do(func(b []byte) error {
				return attributes(b, func(kind uint16, d *netlink.AttributeDecoder) {
					switch kind {
					case unix.NFTA_HOOK_HOOKNUM:
						h.number = d.Uint32()
					case unix.NFTA_HOOK_PRIORITY:
						h.priority = int32(d.Uint32())
					}
				})
			})
		}
	})
	if hooked {
		h.nat, h.drop = nat, !accept
		c.hook = &h
	}
	return c, table, err
}

// decodeRule reads a rule, and the name of its chain.
func decodeRule(family byte, b []byte) (r rule, chain string, err error) {
	err = attributes(b, func(kind uint16, d *netlink.AttributeDecoder) {
		switch kind {
		case unix.NFTA_RULE_CHAIN:
			chain = d.String()
		case unix.NFTA_RULE_HANDLE:
			r.handle = d.Uint64()
		case unix.NFTA_RULE_EXPRESSIONS:
			d.Do(func(b []byte) error {
				r.expressions, err = decodeExpressions(family, b)
				return err
			})
		}
	})
	return r, chain, err
}

// decodeExpressions reads a list of expressions.
func decodeExpressions(family byte, b []byte) (out []any, err error) {
	err = attributes(b, func(_ uint16, d *netlink.AttributeDecoder) {
		d.Do(func(b []byte) error {
			x, err := decodeNamed(family, b)
			out = append(out, x)
			return err
		})
	})
	return out, err
}

// decodeNamed reads an expression from its name and data.
func decodeNamed(family byte, b []byte) (any, error) {
	var name string
	var data []byte
	err := attributes(b, func(kind uint16, d *netlink.AttributeDecoder) {
		switch kind {
		case unix.NFTA_EXPR_NAME:
			name = d.String()
		case unix.NFTA_EXPR_DATA:
			data = d.Bytes()
		}
	})
	if err != nil {
		return nil, err
	}
	return decodeExpression(family, name, data), nil
}

// decodeExpression reads the data of an expression. What cannot be read is
// opaque.
func decodeExpression(family byte, name string, data []byte) any {
	switch name {
	case "byteorder":
		return decodeByteorder(data)
	case "ct":
		return decodeCt(data)
	case "dynset":
		return decodeDynset(family, data)
	case "connlimit":
		return decodeConnlimit(data)
	case "immediate":
		if v, ok := decodeImmediateVerdict(data); ok {
			return v
		}
	case "bitwise":
		if shifts(data) {
			return opaque{name}
		}
	}
	x := known(name)
	if x == nil || expr.Unmarshal(family, data, x) != nil {
		return opaque{name}
	}
	return x
}

// known returns the expression of google/nftables of a name; nil if there is
// none that this package asks for.
func known(name string) expr.Any {
	switch name {
	case "bitwise":
		return &expr.Bitwise{}
	case "cmp":
		return &expr.Cmp{}
	case "counter":
		return &expr.Counter{}
	case "exthdr":
		return &expr.Exthdr{}
	case "fib":
		return &expr.Fib{}
	case "flow_offload":
		return &expr.FlowOffload{}
	case "immediate":
		return &expr.Immediate{}
	case "limit":
		return &expr.Limit{}
	case "log":
		return &expr.Log{}
	case "lookup":
		return &expr.Lookup{}
	case "masq":
		return &expr.Masq{}
	case "match":
		return &expr.Match{}
	case "meta":
		return &expr.Meta{}
	case "nat":
		return &expr.NAT{}
	case "notrack":
		return &expr.Notrack{}
	case "objref":
		return &expr.Objref{}
	case "payload":
		return &expr.Payload{}
	case "queue":
		return &expr.Queue{}
	case "quota":
		return &expr.Quota{}
	case "range":
		return &expr.Range{}
	case "redir":
		return &expr.Redir{}
	case "reject":
		return &expr.Reject{}
	case "synproxy":
		return &expr.SynProxy{}
	case "target":
		return &expr.Target{}
	}
	return nil
}

func decodeByteorder(b []byte) any {
	var x byteorder
	err := attributes(b, func(kind uint16, d *netlink.AttributeDecoder) {
		switch kind {
		case unix.NFTA_BYTEORDER_SREG:
			x.source = d.Uint32()
		case unix.NFTA_BYTEORDER_DREG:
			x.destination = d.Uint32()
		case unix.NFTA_BYTEORDER_LEN:
			x.length = d.Uint32()
		case unix.NFTA_BYTEORDER_SIZE:
			x.size = d.Uint32()
		}
	})
	if err != nil {
		return opaque{"byteorder"}
	}
	return x
}

func decodeCt(b []byte) any {
	var x ct
	err := attributes(b, func(kind uint16, d *netlink.AttributeDecoder) {
		switch kind {
		case unix.NFTA_CT_KEY:
			x.key = expr.CtKey(d.Uint32())
		case unix.NFTA_CT_DREG:
			x.register = d.Uint32()
		case unix.NFTA_CT_SREG:
			x.register, x.writes = d.Uint32(), true
		case unix.NFTA_CT_DIRECTION:
			x.reply = d.Uint8() != 0
		}
	})
	if err != nil {
		return opaque{"ct"}
	}
	return x
}

func decodeConnlimit(b []byte) any {
	var x expr.Connlimit
	err := attributes(b, func(kind uint16, d *netlink.AttributeDecoder) {
		switch kind {
		case expr.NFTA_CONNLIMIT_COUNT:
			x.Count = d.Uint32()
		case expr.NFTA_CONNLIMIT_FLAGS:
			x.Flags = d.Uint32()
		}
	})
	if err != nil {
		return opaque{"connlimit"}
	}
	return &x
}

// decodeDynset reads the expressions that an update of a set has: one
// (NFTA_DYNSET_EXPR), or a list.
func decodeDynset(family byte, b []byte) any {
	var x dynset
	err := attributes(b, func(kind uint16, d *netlink.AttributeDecoder) {
		switch kind {
		case unix.NFTA_DYNSET_EXPR:
			d.Do(func(b []byte) error {
				one, err := decodeNamed(family, b)
				x.expressions = append(x.expressions, one)
				return err
			})
		case expr.NFTA_DYNSET_EXPRESSIONS:
			d.Do(func(b []byte) (err error) {
				x.expressions, err = decodeExpressions(family, b)
				return err
			})
		}
	})
	if err != nil {
		return opaque{"dynset"}
	}
	return x
}

// shifts reports whether a bitwise expression is another than mask and xor.
func shifts(b []byte) bool {
	const operation = 6 // NFTA_BITWISE_OP; NFT_BITWISE_MASK_XOR is 0
	other := false
	err := attributes(b, func(kind uint16, d *netlink.AttributeDecoder) {
		if kind == operation {
			other = d.Uint32() != 0
		}
	})
	return err != nil || other
}

// decodeImmediateVerdict reads the verdict of an immediate expression; ok is
// false when it has data.
func decodeImmediateVerdict(b []byte) (v verdict, ok bool) {
	err := attributes(b, func(kind uint16, d *netlink.AttributeDecoder) {
		if kind == unix.NFTA_IMMEDIATE_DATA {
			d.Do(func(b []byte) error {
				x, err := decodeData(b)
				if x.verdict != nil {
					v, ok = *x.verdict, true
				}
				return err
			})
		}
	})
	return v, ok && err == nil
}

// datum is a value or a verdict (NFTA_DATA_*).
type datum struct {
	value   []byte
	verdict *verdict
}

func decodeData(b []byte) (x datum, err error) {
	err = attributes(b, func(kind uint16, d *netlink.AttributeDecoder) {
		switch kind {
		case unix.NFTA_DATA_VALUE:
			x.value = d.Bytes()
		case unix.NFTA_DATA_VERDICT:
			x.verdict = &verdict{}
			d.Do(func(b []byte) error {
				return attributes(b, func(kind uint16, d *netlink.AttributeDecoder) {
					switch kind {
					case unix.NFTA_VERDICT_CODE:
						x.verdict.code = int32(d.Uint32())
					case unix.NFTA_VERDICT_CHAIN:
						x.verdict.chain = d.String()
					}
				})
			})
		}
	})
	return x, err
}
