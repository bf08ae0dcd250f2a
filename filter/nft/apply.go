package nft

import (
	"errors"
	"fmt"
	"math"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"github.com/mdlayher/netlink"

	"github.com/ipsecfw/ipsecfw/filter"
)

// socketBuffer bounds in bytes what one transaction may send, and what the
// kernel may answer to it. All of a transaction is one message, 12 MB for
// 200,000 of the longest elements, and each part of it is acknowledged.
const socketBuffer = 64 << 20

// Apply puts the rules in force in the network namespace of the calling
// thread: one transaction replaces the table, and no packet meets neither the
// old rules nor the new. When it fails all is as it was. It needs
// CAP_NET_ADMIN.
func Apply(rs Ruleset) error {
	if len(rs.chains) == 0 {
		return errors.New("an empty ruleset would permit everything; make one with Compile")
	}
	c, err := dial()
	if err != nil {
		return err
	}
	table := &nftables.Table{Name: tableName, Family: nftables.TableFamilyINet}
	replace(c, table)
	if err := rs.add(c, table); err != nil {
		return err
	}
	if err := c.Flush(); err != nil {
		return fmt.Errorf("replace the nftables table inet %s: %w; it takes root (CAP_NET_ADMIN) and a kernel with nf_tables for inet, with its ct, fib and compat or queue expressions", tableName, err)
	}
	return nil
}

// Remove takes the table out of force in the network namespace of the calling
// thread. It is no error that there is none.
func Remove() error {
	c, err := dial()
	if err != nil {
		return err
	}
	table := &nftables.Table{Name: tableName, Family: nftables.TableFamilyINet}
	c.AddTable(table)
	c.DelTable(table)
	if err := c.Flush(); err != nil {
		return fmt.Errorf("delete the nftables table inet %s: %w; it takes root (CAP_NET_ADMIN)", tableName, err)
	}
	return nil
}

// Present reports whether the network namespace of the calling thread has the
// table.
func Present() (bool, error) {
	c, err := dial()
	if err != nil {
		return false, err
	}
	tables, err := c.ListTablesOfFamily(nftables.TableFamilyINet)
	if err != nil {
		return false, fmt.Errorf("list the nftables tables of family inet: %w; it takes root (CAP_NET_ADMIN)", err)
	}
	for _, t := range tables {
		if t.Name == tableName {
			return true, nil
		}
	}
	return false, nil
}

// NativeQueueAvailable reports whether the kernel has nft's own queue
// statement (CONFIG_NFT_QUEUE). It asks with a table that the same transaction
// deletes, which therefore never exists.
func NativeQueueAvailable() bool {
	c, err := dial()
	if err != nil {
		return false
	}
	table := &nftables.Table{Name: tableName + "_probe", Family: nftables.TableFamilyINet}
	c.AddTable(table)
	chain := c.AddChain(&nftables.Chain{Name: "probe", Table: table})
	c.AddRule(&nftables.Rule{Table: table, Chain: chain, Exprs: queue{native: true}.lower()})
	c.DelTable(table)
	return c.Flush() == nil
}

func dial() (*nftables.Conn, error) {
	c, err := nftables.New(nftables.WithSockOptions(
		func(c *netlink.Conn) error { return c.SetReadBuffer(socketBuffer) },
		func(c *netlink.Conn) error { return c.SetWriteBuffer(socketBuffer) },
	))
	if err != nil {
		return nil, fmt.Errorf("open a netlink socket to nftables: %w", err)
	}
	return c, nil
}

// replace makes the table empty. It is added first because one that is not
// there cannot be deleted.
func replace(c *nftables.Conn, table *nftables.Table) {
	c.AddTable(table)
	c.DelTable(table)
	c.AddTable(table)
}

// add puts all of the ruleset into the empty table, chain by chain.
func (rs Ruleset) add(c *nftables.Conn, table *nftables.Table) error {
	for i, s := range rs.sets {
		if err := s.add(c, table, uint32(i+1)); err != nil {
			return fmt.Errorf("set %s: %w", s.name, err)
		}
	}
	policy := nftables.ChainPolicyAccept
	for _, ch := range rs.chains {
		chain := &nftables.Chain{Name: ch.name, Table: table}
		if ch.hook != nil {
			chain.Type = nftables.ChainTypeFilter
			chain.Hooknum = hooks[ch.hook.name]
			chain.Priority = nftables.ChainPriorityRef(nftables.ChainPriority(ch.hook.priority))
			chain.Policy = &policy
		}
		c.AddChain(chain)
		for _, r := range ch.rules {
			var exprs []expr.Any
			for _, s := range r {
				exprs = append(exprs, s.lower()...)
			}
			c.AddRule(&nftables.Rule{Table: table, Chain: chain, Exprs: exprs})
		}
	}
	return nil
}

var hooks = map[string]*nftables.ChainHook{
	"prerouting":  nftables.ChainHookPrerouting,
	"input":       nftables.ChainHookInput,
	"postrouting": nftables.ChainHookPostrouting,
}

// elementOverhead is what an element takes in a message besides its key: three
// attribute headers, around the element, its key and the key's value.
const elementOverhead = 3 * 4

// add adds the set and its elements, as many to a message as the 16 bits of
// an attribute's length allow. The number identifies the set within the
// transaction.
func (s set) add(c *nftables.Conn, table *nftables.Table, number uint32) error {
	types := make([]nftables.SetDatatype, len(s.keys))
	for i, k := range s.keys {
		types[i] = k.field.info().datatype
	}
	keyType, err := nftables.ConcatSetType(types...)
	if err != nil {
		return err
	}
	named := &nftables.Set{
		Table: table, Name: s.name, ID: number,
		KeyType: keyType, Concatenation: len(types) > 1, KeyByteOrder: binaryutil.BigEndian,
		// With its size known the kernel makes a table of fixed size, and need
		// not grow it in the middle of the transaction.
		Size: uint32(len(s.tuples)),
	}
	if err := c.AddSet(named, nil); err != nil {
		return err
	}
	elements := make([]nftables.SetElement, len(s.tuples))
	for i := range s.tuples {
		elements[i].Key = s.element(&s.tuples[i])
	}
	most := (math.MaxUint16 - 4) / (elementOverhead + int(keyType.Bytes))
	for len(elements) > 0 {
		n := min(most, len(elements))
		if err := c.SetAddElements(named, elements[:n]); err != nil {
			return err
		}
		elements = elements[n:]
	}
	return nil
}

// element returns the key of a tuple: its fields one after another, each with
// zeros to the end of its last register.
func (s set) element(t *filter.Tuple) []byte {
	b := make([]byte, 0, 64) // all registers
	for _, k := range s.keys {
		b = k.field.appendValue(b, t)
		for len(b)%registerBytes != 0 {
			b = append(b, 0)
		}
	}
	return b
}
