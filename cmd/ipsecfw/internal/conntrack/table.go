package conntrack

import (
	"cmp"
	"fmt"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// list calls f with every entry, of both families. The key is valid until f
// returns. f must not ask the kernel for anything.
func list(f func(*entry, key)) error {
	request := newRequest(nl.IPCTNL_MSG_CT_GET, unix.NLM_F_DUMP, unix.AF_UNSPEC)
	return request.ExecuteIter(unix.NETLINK_NETFILTER, netlink.ConntrackTable<<8|nl.IPCTNL_MSG_CT_NEW, func(message []byte) bool {
		if e, k, ok := decode(message); ok {
			f(&e, k)
		}
		return true
	})
}

// remove deletes the entries of those cuts that say so, each by its key, and
// returns how many it found.
func remove(cuts []cut) (deleted int, err error) {
	c, err := dial(unix.NETLINK_NETFILTER)
	if err != nil {
		return 0, fmt.Errorf("delete entries of connection tracking: %w", err)
	}
	defer c.close()
	failed, first := 0, error(nil)
	for i := range cuts {
		if !cuts[i].deleted {
			continue
		}
		k := &cuts[i].key
		request := newRequest(nl.IPCTNL_MSG_CT_DELETE, unix.NLM_F_ACK, k.family)
		for _, a := range k.attributes {
			request.AddRawData(a)
		}
		switch err := c.do(request); {
		case err == nil:
			deleted++
		case gone(err):
		default:
			failed++
			first = cmp.Or(first, err)
		}
	}
	if failed > 0 {
		return deleted, fmt.Errorf("delete %d entries of connection tracking: %w", failed, first)
	}
	return deleted, nil
}

func newRequest(operation, flags int, family uint8) *nl.NetlinkRequest {
	request := nl.NewNetlinkRequest(netlink.ConntrackTable<<8|operation, flags)
	request.AddData(&nl.Nfgenmsg{NfgenFamily: family, Version: nl.NFNETLINK_V0})
	return request
}

// conn is a netlink socket for many requests that each get an acknowledgement.
type conn struct {
	protocol int
	handles  map[int]*nl.SocketHandle
}

// dial opens a netlink socket in the network namespace of the calling thread.
func dial(protocol int) (conn, error) {
	s, err := nl.Subscribe(protocol)
	if err != nil {
		return conn{}, fmt.Errorf("open a netlink socket: %w", err)
	}
	return conn{protocol, map[int]*nl.SocketHandle{protocol: {Socket: s}}}, nil
}

func (c conn) do(request *nl.NetlinkRequest) error {
	request.Sockets = c.handles
	_, err := request.Execute(c.protocol, 0)
	return err
}

func (c conn) close() { c.handles[c.protocol].Close() }
