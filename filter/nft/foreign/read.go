package foreign

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/google/nftables/expr"
	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// What Read takes of other people's tables. Beyond it nothing is judged, or
// the set is unknown.
const (
	maxElements = 4096     // of a set
	maxBytes    = 32 << 20 // of all that the kernel says
	patience    = 3 * time.Second
	attempts    = 3 // while somebody changes the tables
)

// ErrTooLarge says that the tables of other owners are larger than Read takes.
var ErrTooLarge = errors.New("they are too large: more than 32 MiB, or more than three seconds")

// errChanged says that a table changed while it was read.
var errChanged = errors.New("the tables of other owners change all the time")

// Read reads the tables of the families inet, ip and ip6 in the network
// namespace of the calling thread, except for those of a name: our own. It
// takes root (CAP_NET_ADMIN). Sets that are too large are unknown to Judge; it
// fails with an error that wraps ErrTooLarge when all together is too large.
func Read(except string) (Tables, error) {
	var err error
	for range attempts {
		r := reader{left: maxBytes, deadline: time.Now().Add(patience)}
		var tables []*table
		tables, err = r.tables(except)
		if err == nil {
			return hang(tables), nil
		}
		if !errors.Is(err, errChanged) {
			break
		}
	}
	return Tables{}, fmt.Errorf("read the nftables tables of other owners: %w", err)
}

// reader reads what the kernel has, within bounds.
type reader struct {
	left     int // bytes
	deadline time.Time
	buffer   [64 << 10]byte // the kernel fills at most 32 KiB of it
}

// tables reads all tables with their rules and the sets that these ask.
func (r *reader) tables(except string) ([]*table, error) {
	type name struct {
		family byte
		table  string
	}
	var list []*table
	byName := map[name]*table{}
	var decoding error
	err := r.dump(unix.NFT_MSG_GETTABLE, unix.NFPROTO_UNSPEC, nil, func(family byte, b []byte) bool {
		var t *table
		t, decoding = decodeTable(family, b)
		ip := family == unix.NFPROTO_INET || family == unix.NFPROTO_IPV4 || family == unix.NFPROTO_IPV6
		if t != nil && ip && t.name != except {
			list = append(list, t)
			byName[name{family, t.name}] = t
		}
		return decoding == nil
	})
	if err := errors.Join(err, decoding); err != nil || len(list) == 0 {
		return nil, err
	}
	err = r.dump(unix.NFT_MSG_GETCHAIN, unix.NFPROTO_UNSPEC, nil, func(family byte, b []byte) bool {
		var c *chain
		var in string
		c, in, decoding = decodeChain(b)
		if t := byName[name{family, in}]; t != nil && decoding == nil {
			t.chains[c.name] = c
		}
		return decoding == nil
	})
	if err := errors.Join(err, decoding); err != nil {
		return nil, err
	}
	for _, t := range list {
		if err := r.rules(t); err != nil {
			return nil, fmt.Errorf("table %s %s: %w", familyName(t.family), t.name, err)
		}
		if err := r.sets(t); err != nil {
			return nil, fmt.Errorf("table %s %s: %w", familyName(t.family), t.name, err)
		}
	}
	return list, nil
}

// rules reads the rules of a table into its chains.
func (r *reader) rules(t *table) error {
	var decoding error
	err := r.dump(unix.NFT_MSG_GETRULE, t.family, []netlink.Attribute{text(unix.NFTA_RULE_TABLE, t.name)}, func(_ byte, b []byte) bool {
		var x rule
		var in string
		x, in, decoding = decodeRule(t.family, b)
		c := t.chains[in]
		if decoding == nil && c == nil {
			decoding = errChanged
		}
		if decoding == nil {
			c.rules = append(c.rules, x)
		}
		return decoding == nil
	})
	return errors.Join(err, decoding)
}

// sets reads the sets of a table that its rules look into.
func (r *reader) sets(t *table) error {
	asked := map[string]bool{}
	for _, c := range t.chains {
		for _, x := range c.rules {
			for _, e := range x.expressions {
				if l, ok := e.(*expr.Lookup); ok {
					asked[l.SetName] = true
				}
			}
		}
	}
	if len(asked) == 0 {
		return nil
	}
	var decoding error
	err := r.dump(unix.NFT_MSG_GETSET, t.family, []netlink.Attribute{text(unix.NFTA_SET_TABLE, t.name)}, func(_ byte, b []byte) bool {
		var s *set
		var name string
		s, name, _, decoding = decodeSet(b)
		if decoding == nil && asked[name] {
			t.sets[name] = s
		}
		return decoding == nil
	})
	if err := errors.Join(err, decoding); err != nil {
		return err
	}
	for name, s := range t.sets {
		if err := r.elements(t, name, s); err != nil {
			return fmt.Errorf("set %s: %w", name, err)
		}
	}
	return nil
}

// elements reads the elements of a set, unless there are too many.
func (r *reader) elements(t *table, name string, s *set) error {
	var decoding error
	of := []netlink.Attribute{text(unix.NFTA_SET_ELEM_LIST_TABLE, t.name), text(unix.NFTA_SET_ELEM_LIST_SET, name)}
	err := r.dump(unix.NFT_MSG_GETSETELEM, t.family, of, func(_ byte, b []byte) bool {
		decoding = s.decodeElements(t.family, b)
		// An interval has two, its beginning and its end, and before the first
		// may be one more.
		s.unread = len(s.elements) > 2*maxElements+1 || !s.interval && len(s.elements) > maxElements
		return decoding == nil && !s.unread
	})
	if s.unread {
		s.elements = nil
	}
	s.finish()
	return errors.Join(err, decoding)
}

func text(kind uint16, s string) netlink.Attribute {
	return netlink.Attribute{Type: kind, Data: append([]byte(s), 0)}
}

// dump asks the kernel for all objects of a kind and gives each one's family
// and attributes to take, until that returns false. They are the callee's to
// keep.
func (r *reader) dump(kind uint16, family byte, of []netlink.Attribute, take func(family byte, b []byte) bool) error {
	attrs, err := netlink.MarshalAttributes(of)
	if err != nil {
		return err
	}
	// A socket of its own: to close it ends a dump that is not read to its end.
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_NETFILTER)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	wait := unix.NsecToTimeval(int64(patience))
	if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &wait); err != nil {
		return err
	}
	request := binary.NativeEndian.AppendUint32(nil, uint32(unix.NLMSG_HDRLEN+4+len(attrs)))
	request = binary.NativeEndian.AppendUint16(request, unix.NFNL_SUBSYS_NFTABLES<<8|kind)
	request = binary.NativeEndian.AppendUint16(request, unix.NLM_F_REQUEST|unix.NLM_F_DUMP)
	request = append(request, 1, 0, 0, 0, 0, 0, 0, 0) // sequence number, port
	request = append(request, family, unix.NFNETLINK_V0, 0, 0)
	request = append(request, attrs...)
	if err := unix.Sendto(fd, request, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return err
	}
	for {
		n, _, err := unix.Recvfrom(fd, r.buffer[:], 0)
		switch {
		case err == unix.EINTR:
			continue
		case err != nil:
			return fmt.Errorf("the kernel does not answer: %w", err)
		}
		if r.left -= n; r.left < 0 || time.Now().After(r.deadline) {
			return ErrTooLarge
		}
		done, err := messages(slices.Clone(r.buffer[:n]), take)
		if done || err != nil {
			return err
		}
	}
}

// messages gives the objects in a datagram of a dump to take; done says that
// no more is to come, or to be taken.
func messages(b []byte, take func(family byte, b []byte) bool) (done bool, err error) {
	const generic = 4 // struct nfgenmsg
	for len(b) >= unix.NLMSG_HDRLEN {
		size := int(binary.NativeEndian.Uint32(b))
		if size < unix.NLMSG_HDRLEN || size > len(b) {
			return false, errors.New("the kernel's answer is cut off")
		}
		kind, flags, body := binary.NativeEndian.Uint16(b[4:]), binary.NativeEndian.Uint16(b[6:]), b[unix.NLMSG_HDRLEN:size]
		b = b[min((size+3)&^3, len(b)):]
		switch {
		case flags&unix.NLM_F_DUMP_INTR != 0:
			return false, errChanged
		case (kind == unix.NLMSG_ERROR || kind == unix.NLMSG_DONE) && len(body) >= 4:
			if errno := -int32(binary.NativeEndian.Uint32(body)); errno != 0 {
				return false, kernelError(unix.Errno(errno))
			}
			return true, nil
		case kind == unix.NLMSG_DONE:
			return true, nil
		case len(body) >= generic:
			if !take(body[0], body[generic:]) {
				return true, nil
			}
		}
	}
	return false, nil
}

// kernelError says what an error of the kernel's is about. What was there a
// moment ago and is gone has changed.
func kernelError(errno unix.Errno) error {
	switch errno {
	case unix.ENOENT, unix.EINTR:
		return errChanged
	case unix.EPERM:
		return fmt.Errorf("%w; it takes root (CAP_NET_ADMIN)", errno)
	}
	return errno
}
