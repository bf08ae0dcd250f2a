package conntrack

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"github.com/ipsecfw/ipsecfw/filter/packet"
)

// Sizes of linux/inet_diag.h in bytes: of struct inet_diag_sockid, of what
// stands before it in a request and in an answer.
const (
	sockIDSize    = 48
	sockIDRequest = 8
	sockIDAnswer  = 4
)

// connected is the set of TCP states, as bits, of sockets that belong to a
// connection and whose applications may wait for it: all but TIME-WAIT, CLOSE
// and LISTEN.
const connected = 1<<netlink.TCP_ESTABLISHED | 1<<netlink.TCP_SYN_SENT | 1<<netlink.TCP_SYN_RECV |
	1<<netlink.TCP_FIN_WAIT1 | 1<<netlink.TCP_FIN_WAIT2 | 1<<netlink.TCP_CLOSE_WAIT |
	1<<netlink.TCP_LAST_ACK | 1<<netlink.TCP_CLOSING | 1<<netlink.TCP_NEW_SYN_REC

// diagID names one socket to the kernel: the family, and a struct
// inet_diag_sockid with the socket's interface and cookie.
type diagID struct {
	family uint8
	id     [sockIDSize]byte
}

// destroy destroys the TCP sockets of the cuts, and returns how many.
//
// The kernel is asked for all sockets first. Asked to destroy one by its
// addresses it would take the listener on the port for it when there is no
// connection (any more); its cookie is that of one socket.
func destroy(cuts []cut) (destroyed int, err error) {
	wanted := map[socket][]diagID{}
	for i := range cuts {
		if s := cuts[i].socket; s.local.IsValid() {
			wanted[s] = nil
		}
	}
	if len(wanted) == 0 {
		return 0, nil
	}
	if err := locate(wanted); err != nil {
		if unsupported(err) {
			return 0, nil
		}
		return 0, fmt.Errorf("list the TCP sockets: %w", err)
	}
	c, err := dial(unix.NETLINK_INET_DIAG)
	if err != nil {
		return 0, fmt.Errorf("destroy TCP sockets: %w", err)
	}
	defer c.close()
	failed, first := 0, error(nil)
	for _, ids := range wanted {
		// Two sockets of the same addresses are bound to interfaces, and the
		// entry does not say to which of them it belongs.
		if len(ids) != 1 {
			continue
		}
		request := nl.NewNetlinkRequest(nl.SOCK_DESTROY, unix.NLM_F_ACK)
		request.AddRawData(ids[0].request())
		switch err := c.do(request); {
		case err == nil:
			destroyed++
		case gone(err):
		case unsupported(err):
			return destroyed, nil
		default:
			failed++
			first = cmp.Or(first, err)
		}
	}
	if failed > 0 {
		return destroyed, fmt.Errorf("destroy %d TCP sockets: %w; it takes root (CAP_NET_ADMIN)", failed, first)
	}
	return destroyed, nil
}

// unsupported reports whether the kernel cannot list or destroy sockets at
// all.
func unsupported(err error) bool {
	return errors.Is(err, unix.EOPNOTSUPP) || errors.Is(err, unix.ENOENT) || errors.Is(err, unix.EPROTONOSUPPORT)
}

// locate adds to wanted the sockets that the kernel has.
func locate(wanted map[socket][]diagID) error {
	for _, family := range []uint8{unix.AF_INET, unix.AF_INET6} {
		request := nl.NewNetlinkRequest(nl.SOCK_DIAG_BY_FAMILY, unix.NLM_F_DUMP)
		request.AddRawData((&diagID{family: family}).request())
		err := request.ExecuteIter(unix.NETLINK_INET_DIAG, nl.SOCK_DIAG_BY_FAMILY, func(message []byte) bool {
			if s, id, ok := decodeSocket(message); ok {
				if ids, ok := wanted[s]; ok {
					wanted[s] = append(ids, id)
				}
			}
			return true
		})
		// A kernel without IPv6 has no sockets of it.
		if err != nil && !(family == unix.AF_INET6 && unsupported(err)) {
			return err
		}
	}
	return nil
}

// request returns a struct inet_diag_req_v2 for the socket.
func (d *diagID) request() []byte {
	b := make([]byte, sockIDRequest, sockIDRequest+sockIDSize)
	b[0], b[1] = d.family, packet.TCP
	binary.NativeEndian.PutUint32(b[4:], connected)
	return append(b, d.id[:]...)
}

// decodeSocket reads a struct inet_diag_msg. An IPv6 socket that speaks IPv4
// has IPv4 addresses.
func decodeSocket(message []byte) (s socket, d diagID, ok bool) {
	if len(message) < sockIDAnswer+sockIDSize {
		return s, d, false
	}
	d = diagID{message[0], [sockIDSize]byte(message[sockIDAnswer:])}
	n := addressBits(d.family) / 8
	end := func(port, address int) netip.AddrPort {
		a, _ := netip.AddrFromSlice(d.id[address : address+n])
		return netip.AddrPortFrom(a.Unmap(), binary.BigEndian.Uint16(d.id[port:]))
	}
	s = socket{end(0, 4), end(2, 20)}
	return s, d, s.local.IsValid() && s.remote.IsValid()
}
