package nft

import (
	"fmt"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// socketBuffer is what a socket's buffers have room for, in bytes, besides the
// messages of a transaction.
const socketBuffer = 1 << 20

func dial(send int) (*netlink.Conn, error) {
	c, err := netlink.Dial(unix.NETLINK_NETFILTER, &netlink.Config{MessageBufferSize: 64 << 10})
	if err != nil {
		return nil, fmt.Errorf("open a netlink socket to nftables: %w", err)
	}
	if err := c.SetWriteBuffer(send + socketBuffer); err != nil {
		c.Close()
		return nil, fmt.Errorf("make room for %d bytes in a netlink socket: %w", send, err)
	}
	// Of a transaction that fails all over, the kernel's first word is enough:
	// the others may be lost where there is no room for them.
	if err := c.SetOption(netlink.NoENOBUFS, true); err != nil {
		c.Close()
		return nil, fmt.Errorf("set up a netlink socket to nftables: %w", err)
	}
	return c, nil
}

// commit carries the transaction out in the network namespace of the calling
// thread.
func (t *transaction) commit() error {
	if t.err != nil {
		return t.err
	}
	c, err := dial(t.size)
	if err != nil {
		return err
	}
	defer c.Close()
	batch := func(kind netlink.HeaderType) netlink.Message {
		return netlink.Message{
			Header: netlink.Header{Type: kind, Flags: netlink.Request},
			Data:   []byte{unix.AF_UNSPEC, 0, 0, unix.NFNL_SUBSYS_NFTABLES}, // struct nfgenmsg
		}
	}
	messages := make([]netlink.Message, 0, len(t.messages)+2)
	messages = append(messages, batch(unix.NFNL_MSG_BATCH_BEGIN))
	messages = append(messages, t.messages...)
	messages = append(messages, batch(unix.NFNL_MSG_BATCH_END))
	// The kernel speaks of every message that fails, in their order, and then
	// of the last: whatever it says first is the outcome.
	messages[len(messages)-2].Header.Flags |= netlink.Acknowledge
	if _, err := c.SendMessages(messages); err != nil {
		return err
	}
	_, err = c.Receive()
	return err
}
