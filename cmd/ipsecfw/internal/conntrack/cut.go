// Package conntrack cuts the connections that a new policy refuses.
//
// nftables judges every packet, those of established connections too, so what
// a policy refuses ends with the transaction that puts it in force. What is
// left are the entries of connection tracking, by which other tables accept
// packets, and the sockets of this host, whose applications would wait for
// answers until they lose patience.
package conntrack

import (
	"errors"
	"fmt"
	"net/netip"

	"golang.org/x/sys/unix"

	"github.com/ipsecfw/ipsecfw/filter"
)

// Links says which addresses are the host's.
type Links interface{ Local(netip.Addr) bool }

// Result counts what Cut found and did.
type Result struct {
	Listed    int // entries of connection tracking
	Refused   int // of these, the connections that the policy refuses
	Deleted   int // of these, the entries that were deleted
	Destroyed int // sockets of this host that were destroyed
}

// Reset destroys the TCP sockets of this host whose connections spd refuses,
// as Cut does, and returns how many. It is for the moment before spd is in
// force: the reset by which the other end hears of it may leave the host still.
// Of a connection of which Reset destroys nothing, the other end hears nothing.
func Reset(spd *filter.SPD, links Links, interfaces []filter.Interface) (destroyed int, err error) {
	_, cuts, err := find(spd, links, interfaces)
	destroyed, sockets := destroy(cuts)
	return destroyed, errors.Join(err, sockets)
}

// Cut cuts the connections in the network namespace of the calling thread
// that spd refuses, when it is in force already: it destroys their TCP
// sockets on this host, and deletes their entries. A connection is refused
// when packets of one of its directions are blocked. One that is to be secured
// is left to the engine, whose packets are tracked in clear too.
//
// The interfaces are those by which connections can come and go: not the
// loopback, and not the engine's. An entry does not say by which one its
// packets do, so a connection is refused only if it is on every one of them.
// Without interfaces, a policy that asks for them refuses nothing.
//
// Sockets are destroyed as far as the kernel can: without
// CONFIG_INET_DIAG_DESTROY they stay. Cut does what it can in spite of an
// error, and the error says what it could not do. It needs CAP_NET_ADMIN.
func Cut(spd *filter.SPD, links Links, interfaces []filter.Interface) (Result, error) {
	r, cuts, err := find(spd, links, interfaces)
	// Sockets come first: a reset that can be sent still finds its entry, and
	// with it the translation of its addresses.
	var sockets, entries error
	r.Destroyed, sockets = destroy(cuts)
	r.Deleted, entries = remove(cuts)
	return r, errors.Join(err, sockets, entries)
}

// find returns what is to be cut of the connections that spd refuses.
func find(spd *filter.SPD, links Links, interfaces []filter.Interface) (r Result, cuts []cut, err error) {
	j := judge{spd, links, distinct(spd, interfaces)}
	err = list(func(e *entry, k key) {
		r.Listed++
		f := j.fate(e)
		if !f.refused {
			return
		}
		r.Refused++
		if f.deleted || f.socket.local.IsValid() {
			cuts = append(cuts, cut{f, k.clone()})
		}
	})
	if err != nil {
		err = fmt.Errorf("list the entries of connection tracking: %w; it takes root (CAP_NET_ADMIN) and a kernel with nf_conntrack_netlink", err)
	}
	return r, cuts, err
}

// cut is a refused connection of which something is to be cut.
type cut struct {
	fate
	key key
}

// gone reports whether the kernel says that what was to be cut is not there
// any more, or is another one under the same name.
func gone(err error) bool { return errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ESTALE) }
