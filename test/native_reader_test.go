package test

import (
	"encoding/binary"
	"errors"
	"fmt"
	"sync"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"

	"github.com/ipsecfw/ipsecfw/nfq"
)

// bridgeQueue is a queue of packets that a bridge carries. The daemon's own
// reader is for IPv4 and IPv6, whose messages have another family.
type bridgeQueue struct {
	number uint16
	mu     sync.Mutex // of writing
	c      *netlink.Conn
}

// Messages and attributes of the queue (linux/netfilter/nfnetlink_queue.h).
const (
	queueSubsystem = 3 << 8 // NFNL_SUBSYS_QUEUE
	queueVerdict   = queueSubsystem | 1
	queueConfig    = queueSubsystem | 2

	configCommand, configBind       = 1, 1
	configParameters, configPackets = 2, 2

	queuePacketHeader  = 1
	queueVerdictHeader = 2
	queueLink          = 6
	queuePayload       = 10
)

func openBridgeQueue(number uint16) (*bridgeQueue, error) {
	c, err := netlink.Dial(unix.NETLINK_NETFILTER, nil)
	if err != nil {
		return nil, err
	}
	q := &bridgeQueue{number: number, c: c}
	for _, a := range []netlink.Attribute{
		{Type: configCommand, Data: []byte{configBind, 0, 0, 0}},
		{Type: configParameters, Data: []byte{0, 0, 0xff, 0xff, configPackets}}, // whole packets
	} {
		if err := q.send(queueConfig, a); err != nil {
			return nil, errors.Join(fmt.Errorf("configure queue %d: %w", number, err), c.Close())
		}
	}
	return q, nil
}

func (q *bridgeQueue) send(kind netlink.HeaderType, attributes ...netlink.Attribute) error {
	b, err := netlink.MarshalAttributes(attributes)
	if err != nil {
		return err
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	_, err = q.c.Send(netlink.Message{
		Header: netlink.Header{Type: kind, Flags: netlink.Request},
		Data:   append([]byte{unix.AF_UNSPEC, 0, byte(q.number >> 8), byte(q.number)}, b...), // struct nfgenmsg
	})
	return err
}

// read hands the packets of the queue to the engine, for good.
func (q *bridgeQueue) read(o *nfq.Outbound) error {
	for {
		messages, err := q.c.Receive()
		if err != nil {
			return err
		}
		for _, m := range messages {
			if m.Header.Type != queueSubsystem || len(m.Data) < 4 {
				continue
			}
			attributes, err := netlink.UnmarshalAttributes(m.Data[4:])
			if err != nil {
				return err
			}
			p := nfq.Queued{Queue: q}
			for _, a := range attributes {
				switch {
				case a.Type == queuePacketHeader && len(a.Data) >= 4:
					p.ID = binary.BigEndian.Uint32(a.Data)
				case a.Type == queueLink && len(a.Data) == 4:
					p.Link = int(binary.BigEndian.Uint32(a.Data))
				case a.Type == queuePayload:
					p.Packet = a.Data
				}
			}
			o.Work(p)
		}
	}
}

// Verdict implements nfq.Verdicts.
func (q *bridgeQueue) Verdict(id uint32, v nfq.Verdict, contents []byte) error {
	code := uint32(0) // NF_DROP
	switch v {
	case nfq.Held:
		return nil
	case nfq.Replace, nfq.Pass:
		code = 1 // NF_ACCEPT
	}
	header := binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint32(nil, code), id)
	attributes := []netlink.Attribute{{Type: queueVerdictHeader, Data: header}}
	if v == nfq.Replace {
		attributes = append(attributes, netlink.Attribute{Type: queuePayload, Data: contents})
	}
	return q.send(queueVerdict, attributes...)
}
