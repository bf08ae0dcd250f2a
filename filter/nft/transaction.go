package nft

import (
	"encoding/binary"
	"fmt"
	"math"

	"github.com/google/nftables/expr"
	"github.com/google/nftables/userdata"
	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// transaction is a batch of messages to nf_tables, of which all take effect or
// none. It encodes them itself, because a set of a large policy has hundreds
// of thousands of elements.
type transaction struct {
	messages []netlink.Message
	size     int // bytes of data
	sets     uint32
	err      error // the first of encoding
}

// Attributes that package unix does not have (linux/netfilter/nf_tables.h).
const (
	setDescConcat = 2  // NFTA_SET_DESC_CONCAT
	setExpr       = 17 // NFTA_SET_EXPR
	setConcat     = 0x80
)

// message is a message in the making: a header of nfnetlink and attributes.
type message struct {
	b    []byte
	open []int // where the nested attributes that are not closed begin
}

func (m *message) bytes(kind uint16, v []byte) {
	m.b = binary.NativeEndian.AppendUint16(m.b, uint16(4+len(v)))
	m.b = binary.NativeEndian.AppendUint16(m.b, kind)
	m.b = append(m.b, v...)
	for len(m.b)%4 != 0 {
		m.b = append(m.b, 0)
	}
}

func (m *message) text(kind uint16, s string) { m.bytes(kind, append([]byte(s), 0)) }

func (m *message) number(kind uint16, n uint32) { m.bytes(kind, binary.BigEndian.AppendUint32(nil, n)) }

func (m *message) number64(kind uint16, n uint64) {
	m.bytes(kind, binary.BigEndian.AppendUint64(nil, n))
}

// nest opens an attribute of attributes; end closes the last.
func (m *message) nest(kind uint16) {
	m.open = append(m.open, len(m.b))
	m.b = binary.NativeEndian.AppendUint16(m.b, 0)
	m.b = binary.NativeEndian.AppendUint16(m.b, kind|unix.NLA_F_NESTED)
}

func (m *message) end() {
	at := m.open[len(m.open)-1]
	m.open = m.open[:len(m.open)-1]
	binary.NativeEndian.PutUint16(m.b[at:], uint16(len(m.b)-at))
}

// header begins a message about a table family (struct nfgenmsg).
func header(family byte, capacity int) *message {
	return &message{b: append(make([]byte, 0, capacity), family, 0, 0, 0)}
}

func (t *transaction) add(kind int, flags netlink.HeaderFlags, m *message) {
	t.size += len(m.b) + unix.NLMSG_HDRLEN
	t.messages = append(t.messages, netlink.Message{
		Header: netlink.Header{Type: netlink.HeaderType(unix.NFNL_SUBSYS_NFTABLES<<8 | kind), Flags: netlink.Request | flags},
		Data:   m.b,
	})
}

// newTable makes a table. It is an error when it is there.
func (t *transaction) newTable(family byte, table string) {
	t.table(unix.NFT_MSG_NEWTABLE, netlink.Create|netlink.Excl, family, table)
}

// haveTable makes a table if it is not there.
func (t *transaction) haveTable(family byte, table string) {
	t.table(unix.NFT_MSG_NEWTABLE, netlink.Create, family, table)
}

func (t *transaction) delTable(family byte, table string) {
	t.table(unix.NFT_MSG_DELTABLE, 0, family, table)
}

func (t *transaction) table(kind int, flags netlink.HeaderFlags, family byte, table string) {
	m := header(family, 64)
	m.text(unix.NFTA_TABLE_NAME, table)
	if kind == unix.NFT_MSG_NEWTABLE {
		m.number(unix.NFTA_TABLE_FLAGS, 0)
	}
	t.add(kind, flags, m)
}

func (t *transaction) newChain(family byte, table, name string, h *hook) {
	m := header(family, 128)
	m.text(unix.NFTA_CHAIN_TABLE, table)
	m.text(unix.NFTA_CHAIN_NAME, name)
	if h != nil {
		m.nest(unix.NFTA_CHAIN_HOOK)
		m.number(unix.NFTA_HOOK_HOOKNUM, hooks[h.name])
		m.number(unix.NFTA_HOOK_PRIORITY, uint32(h.priority))
		m.end()
		m.number(unix.NFTA_CHAIN_POLICY, 1) // NF_ACCEPT
		m.text(unix.NFTA_CHAIN_TYPE, "filter")
	}
	t.add(unix.NFT_MSG_NEWCHAIN, netlink.Create|netlink.Excl, m)
}

var hooks = map[string]uint32{
	"prerouting":  unix.NF_INET_PRE_ROUTING,
	"input":       unix.NF_INET_LOCAL_IN,
	"forward":     unix.NF_INET_FORWARD,
	"output":      unix.NF_INET_LOCAL_OUT,
	"postrouting": unix.NF_INET_POST_ROUTING,
}

func (t *transaction) delChain(family byte, table, name string) {
	m := header(family, 128)
	m.text(unix.NFTA_CHAIN_TABLE, table)
	m.text(unix.NFTA_CHAIN_NAME, name)
	t.add(unix.NFT_MSG_DELCHAIN, 0, m)
}

// flushChain deletes all rules of a chain.
func (t *transaction) flushChain(family byte, table, chain string) {
	m := header(family, 128)
	m.text(unix.NFTA_RULE_TABLE, table)
	m.text(unix.NFTA_RULE_CHAIN, chain)
	t.add(unix.NFT_MSG_DELRULE, 0, m)
}

// newRule puts a rule at the end of a chain.
func (t *transaction) newRule(family byte, table, chain string, r rule) {
	m := header(family, 512)
	m.text(unix.NFTA_RULE_TABLE, table)
	m.text(unix.NFTA_RULE_CHAIN, chain)
	m.nest(unix.NFTA_RULE_EXPRESSIONS)
	for _, s := range r {
		for _, e := range s.lower() {
			b, err := expr.Marshal(family, e)
			if err != nil && t.err == nil {
				t.err = fmt.Errorf("encode the statement %q: %w", s, err)
			}
			m.bytes(unix.NFTA_LIST_ELEM|unix.NLA_F_NESTED, b)
		}
	}
	m.end()
	t.add(unix.NFT_MSG_NEWRULE, netlink.Create|netlink.Append, m)
}

// newSet makes a set without its elements.
func (t *transaction) newSet(family byte, table string, s *set) {
	kind, err := s.datatype()
	if err != nil && t.err == nil {
		t.err = fmt.Errorf("set %s: %w", s.name, err)
	}
	t.sets++
	var flags uint32
	if len(s.keys) > 1 {
		flags |= setConcat
	}
	if s.timeouts {
		flags |= unix.NFT_SET_TIMEOUT
	}
	m := header(family, 256)
	m.text(unix.NFTA_SET_TABLE, table)
	m.text(unix.NFTA_SET_NAME, s.name)
	m.number(unix.NFTA_SET_ID, t.sets) // identifies the set within the transaction
	m.number(unix.NFTA_SET_FLAGS, flags)
	m.number(unix.NFTA_SET_KEY_TYPE, kind.GetNFTMagic())
	m.number(unix.NFTA_SET_KEY_LEN, kind.Bytes)
	m.nest(unix.NFTA_SET_DESC)
	if !s.dynamic {
		m.number(unix.NFTA_SET_DESC_SIZE, s.capacity())
	}
	if len(s.keys) > 1 {
		m.nest(setDescConcat)
		for _, k := range s.keys {
			m.nest(unix.NFTA_LIST_ELEM)
			m.number(1, k.field.info().datatype.Bytes) // NFTA_SET_FIELD_LEN
			m.end()
		}
		m.end()
	}
	m.end()
	order := uint32(2)
	if s.keys[0].field.hostOrder() {
		order = 1
	}
	m.bytes(unix.NFTA_SET_USERDATA, userdata.AppendUint32(nil, userdata.NFTNL_UDATA_SET_KEYBYTEORDER, order)) // for nft, to print it
	if s.counted() {
		m.nest(setExpr)
		m.text(unix.NFTA_EXPR_NAME, "counter")
		m.end()
	}
	t.add(unix.NFT_MSG_NEWSET, netlink.Create|netlink.Excl, m)
}

func (t *transaction) delSet(family byte, table, name string) {
	m := header(family, 128)
	m.text(unix.NFTA_SET_TABLE, table)
	m.text(unix.NFTA_SET_NAME, name)
	t.add(unix.NFT_MSG_DELSET, 0, m)
}

// newElements adds elements to a set: those at the places in the set of which
// each yields one. It is an error when one is there.
func (t *transaction) newElements(family byte, table string, s *set, places func(yield func(int) bool)) {
	t.elements(unix.NFT_MSG_NEWSETELEM, netlink.Create|netlink.Excl, family, table, s, places)
}

// haveElements adds the elements that are not there.
func (t *transaction) haveElements(family byte, table string, s *set, places func(yield func(int) bool)) {
	t.elements(unix.NFT_MSG_NEWSETELEM, netlink.Create, family, table, s, places)
}

// delElements deletes elements. It is an error when one is not there.
func (t *transaction) delElements(family byte, table string, s *set, places func(yield func(int) bool)) {
	t.elements(unix.NFT_MSG_DELSETELEM, 0, family, table, s, places)
}

// maxElement is more than an element takes in a message: two keys of IPv6,
// three other fields, a timeout, and the headers of attributes.
const maxElement = 128

// elements puts as many elements into a message as the 16 bits of an
// attribute's length allow.
func (t *transaction) elements(kind int, flags netlink.HeaderFlags, family byte, table string, s *set, places func(yield func(int) bool)) {
	var m *message
	done := func() {
		m.end()
		t.add(kind, flags, m)
		m = nil
	}
	key := make([]byte, 0, 64) // all registers
	for i := range places {
		if m == nil {
			m = header(family, math.MaxUint16+256)
			m.text(unix.NFTA_SET_ELEM_LIST_TABLE, table)
			m.text(unix.NFTA_SET_ELEM_LIST_SET, s.name)
			m.nest(unix.NFTA_SET_ELEM_LIST_ELEMENTS)
		}
		key = s.appendKey(key[:0], i)
		m.nest(unix.NFTA_LIST_ELEM)
		m.nest(unix.NFTA_SET_ELEM_KEY)
		m.bytes(unix.NFTA_DATA_VALUE, key)
		m.end()
		if s.tuples == nil && s.elements[i].timeout > 0 && kind == unix.NFT_MSG_NEWSETELEM {
			m.number64(unix.NFTA_SET_ELEM_TIMEOUT, s.elements[i].timeout)
		}
		m.end()
		if len(m.b)-m.open[0] > math.MaxUint16-maxElement {
			done()
		}
	}
	if m != nil {
		done()
	}
}
