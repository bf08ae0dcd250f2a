package nft

import (
	"errors"
	"fmt"

	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// Features are the parts of nf_tables that some kernels lack.
type Features struct {
	// Inet is tables of both families (NF_TABLES_INET). Without it there are
	// two tables.
	Inet bool
	// FIB is the type of an address by the host's routes (NFT_FIB and its
	// families). Without it Config has the broadcast addresses, and what came
	// in by an interface passes at postrouting as forwarded, under whatever
	// address it leaves.
	FIB bool
	// NativeQueue is nft's own queue statement (NFT_QUEUE), in place of the
	// target NFQUEUE of xtables (NFT_COMPAT).
	NativeQueue bool
}

// Probe asks the kernel what it has, in the network namespace of the calling
// thread. It asks with tables that the same transaction deletes, which
// therefore never exist. Without root (CAP_NET_ADMIN) it finds nothing.
func Probe() Features {
	f := Features{Inet: has(unix.NFPROTO_INET)}
	families := []byte{unix.NFPROTO_IPV4, unix.NFPROTO_IPV6}
	if f.Inet {
		families = []byte{unix.NFPROTO_INET}
	}
	f.FIB, f.NativeQueue = true, true
	for _, family := range families {
		f.FIB = f.FIB && has(family, is(daddrType, native(unix.RTN_BROADCAST)...))
		f.NativeQueue = f.NativeQueue && has(family, queue{native: true})
	}
	return f
}

// Lacks returns what the daemon cannot do without and the kernel has not, in
// the network namespace of the calling thread. It takes root (CAP_NET_ADMIN).
func Lacks() []string {
	family := byte(unix.NFPROTO_IPV4)
	if has(unix.NFPROTO_INET) {
		family = unix.NFPROTO_INET
	}
	if !has(family) {
		return []string{"nftables (nf_tables)"}
	}
	var out []string
	if !has(family, queue{native: true}) && !has(family, queue{}) {
		out = append(out, "NFQUEUE (nft_queue, or nft_compat with xt_NFQUEUE)")
	}
	if !has(family, match{ctState, native(expr.CtStateBitINVALID), expr.CmpOpNeq, native(0)}) {
		out = append(out, "connection tracking (nf_conntrack, nft_ct)")
	}
	return out
}

// has reports whether the kernel takes a rule in a table of a family.
func has(family byte, statements ...statement) bool {
	const chain = "probe"
	for n := range 10 { // a table of that name may be somebody's
		t, table := transaction{}, fmt.Sprintf("%s_probe%d", tableName, n)
		t.newTable(family, table)
		t.newChain(family, table, chain, nil)
		t.newRule(family, table, chain, statements)
		t.delTable(family, table)
		if err := t.commit(); !errors.Is(err, unix.EEXIST) {
			return err == nil
		}
	}
	return false
}
