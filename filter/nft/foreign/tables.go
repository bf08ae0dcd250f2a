package foreign

import (
	"cmp"
	"slices"

	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// Tables are the tables of other owners. The zero value is none, in which
// every packet passes. It is immutable, and safe for concurrent use.
type Tables struct {
	hooks [hookCount][]base // in order of priority
}

// The hooks at which IP packets pass (linux/netfilter.h).
const hookCount = unix.NF_INET_POST_ROUTING + 1

// table is one table, as it was read.
type table struct {
	family byte // NFPROTO_INET, NFPROTO_IPV4 or NFPROTO_IPV6
	name   string
	chains map[string]*chain
	sets   map[string]*set
}

// base is a chain that hangs at a hook.
type base struct {
	table *table
	chain *chain
}

// chain is a list of rules. Only a base chain has a hook.
type chain struct {
	name  string
	hook  *hook
	rules []rule
}

// hook says when the kernel sends packets through a chain.
type hook struct {
	number   uint32 // NF_INET_*
	priority int32
	nat      bool // only the first packet of a connection goes through it
	drop     bool // the policy is to drop
}

// rule is a list of expressions: those of google/nftables/expr, and here
// verdict, byteorder, ct, dynset and opaque.
type rule struct {
	handle      uint64
	expressions []any
}

// verdict is the expression that says what becomes of a packet.
type verdict struct {
	code  int32  // NF_* of linux/netfilter.h, NFT_* of linux/netfilter/nf_tables.h
	chain string // of jump and goto
}

// The verdicts that linux/netfilter/nf_tables.h adds to those of a hook.
const (
	verdictContinue = -1
	verdictJump     = -3
	verdictGoto     = -4
	verdictReturn   = -5
	verdictDrop     = 0
	verdictAccept   = 1
	verdictQueue    = 3
)

// byteorder swaps the bytes of numbers of a size, both in bytes, in the first
// length bytes of a register. From host to network order and back is the same.
type byteorder struct {
	source, destination uint32
	length, size        uint32
}

// dynset puts the packet into a set, and what the element counts decides.
type dynset struct{ expressions []any }

// ct reads what connection tracking knows into a register, or writes it.
type ct struct {
	key      expr.CtKey
	register uint32
	writes   bool
	reply    bool // of the answers, and not of what began the connection
}

// opaque is an expression that the package does not know.
type opaque struct{ name string }

// hang makes the tables of those that were read.
func hang(tables []*table) Tables {
	var out Tables
	for _, t := range tables {
		for _, c := range t.chains {
			if c.hook != nil && c.hook.number < hookCount {
				h := &out.hooks[c.hook.number]
				*h = append(*h, base{t, c})
			}
		}
	}
	for i := range out.hooks {
		slices.SortFunc(out.hooks[i], func(a, b base) int {
			return cmp.Or(
				cmp.Compare(a.chain.hook.priority, b.chain.hook.priority),
				cmp.Compare(a.table.name, b.table.name),
				cmp.Compare(a.table.family, b.table.family),
				cmp.Compare(a.chain.name, b.chain.name),
			)
		})
	}
	return out
}
