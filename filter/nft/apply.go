package nft

import (
	"errors"
	"fmt"

	"github.com/google/nftables"
	"golang.org/x/sys/unix"
)

// Apply puts the rules in force in the network namespace of the calling
// thread: one transaction replaces the tables, and no packet meets neither the
// old rules nor the new. When it fails all is as it was. It needs
// CAP_NET_ADMIN.
func Apply(rs Ruleset) error {
	if len(rs.tables) == 0 {
		return errors.New("an empty ruleset would permit everything; make one with Compile")
	}
	t := transaction{}
	for i := range rs.tables {
		x := &rs.tables[i]
		// It is added first because one that is not there cannot be deleted.
		t.haveTable(x.family, tableName)
		t.delTable(x.family, tableName)
		t.newTable(x.family, tableName)
		t.fill(x)
	}
	if err := t.commit(); err != nil {
		return fmt.Errorf("replace the nftables table %s: %w; it takes root (CAP_NET_ADMIN) and a kernel with nf_tables and its ct, limit, log, reject and compat or queue expressions", &rs.tables[0], err)
	}
	return nil
}

// fill puts all of a table into the empty one in force.
func (t *transaction) fill(x *table) {
	for i := range x.sets {
		t.putSet(x.family, &x.sets[i])
	}
	// Chains to which others lead must be there first. Those at hooks come in
	// their order, each with its rules.
	for _, c := range x.chains {
		if c.hook == nil {
			t.newChain(x.family, tableName, c.name, nil)
		}
	}
	for i := range x.chains {
		c := &x.chains[i]
		if c.hook != nil {
			t.newChain(x.family, tableName, c.name, c.hook)
		}
		t.putRules(x.family, c)
	}
}

func (t *transaction) putSet(family byte, s *set) {
	t.newSet(family, tableName, s)
	t.newElements(family, tableName, s, all(s))
}

func (t *transaction) putRules(family byte, c *chain) {
	for _, r := range c.rules {
		t.newRule(family, tableName, c.name, r)
	}
}

// all yields the places of all elements of a set.
func all(s *set) func(yield func(int) bool) {
	return func(yield func(int) bool) {
		for i := range s.len() {
			if !yield(i) {
				return
			}
		}
	}
}

// tableFamilies are the families in which there may be a table of ours.
var tableFamilies = []byte{unix.NFPROTO_INET, unix.NFPROTO_IPV4, unix.NFPROTO_IPV6}

// Remove takes the tables out of force in the network namespace of the calling
// thread. It is no error that there are none.
func Remove() error {
	families, err := present()
	if err != nil || len(families) == 0 {
		return err
	}
	t := transaction{}
	for _, f := range families {
		t.haveTable(f, tableName) // it may have gone since
		t.delTable(f, tableName)
	}
	if err := t.commit(); err != nil {
		return fmt.Errorf("delete the nftables table %s: %w; it takes root (CAP_NET_ADMIN)", tableName, err)
	}
	return nil
}

// Present reports whether the network namespace of the calling thread has a
// table of ours.
func Present() (bool, error) {
	families, err := present()
	return len(families) > 0, err
}

// present returns the families in which there is a table of ours.
func present() ([]byte, error) {
	c, err := nftables.New()
	if err != nil {
		return nil, fmt.Errorf("open a netlink socket to nftables: %w", err)
	}
	var found []byte
	for _, f := range tableFamilies {
		tables, err := c.ListTablesOfFamily(nftables.TableFamily(f))
		if err != nil {
			return nil, fmt.Errorf("list the nftables tables of family %s: %w; it takes root (CAP_NET_ADMIN)", familyNames[f], err)
		}
		for _, t := range tables {
			if t.Name == tableName {
				found = append(found, f)
			}
		}
	}
	return found, nil
}
