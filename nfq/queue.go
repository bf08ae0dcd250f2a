package nfq

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"

	nfqueue "github.com/florianl/go-nfqueue/v2"
	"golang.org/x/sys/unix"
)

// queueLen is how many packets the kernel keeps for a queue, those that are
// held included.
const queueLen = 8192

// queueBuffer is the size of the queue's socket buffer, in bytes.
const queueBuffer = 16 << 20

// Flags in NFQA_SKB_INFO, from linux/netfilter/nfnetlink_queue.h.
const (
	skbChecksumNotReady = 1
	skbGSO              = 2
)

// Queue is one queue of the kernel's NFQUEUE.
type Queue struct {
	number   uint16
	mark     uint32 // of what we sealed
	nf       *nfqueue.Nfqueue
	counters *Counters
	failed   chan error // has room for one
}

// OpenQueue opens a queue. With gso set its packets come as large as the
// stack made them, with checksums unfinished: that is for TCP alone, since
// the message does not say where to cut anything else. What goes on sealed has
// the mark of the engine's own sockets.
func OpenQueue(number uint16, gso bool, mark uint32, counters *Counters) (*Queue, error) {
	cfg := nfqueue.Config{
		NfQueue:      number,
		MaxQueueLen:  queueLen,
		MaxPacketLen: 0xffff,
		Copymode:     nfqueue.NfQnlCopyPacket,
		AfFamily:     unix.AF_UNSPEC,
	}
	if gso {
		cfg.Flags = nfqueue.NfQaCfgFlagGSO
	}
	nf, err := nfqueue.Open(&cfg)
	if err != nil {
		return nil, fmt.Errorf("open packet queue %d: %w; it needs root and the kernel's NETFILTER_NETLINK_QUEUE", number, err)
	}
	// A container without the right to exceed the system's limit does with less.
	if err := nf.Con.SetReadBuffer(queueBuffer); err != nil && !errors.Is(err, unix.EPERM) {
		return nil, errors.Join(fmt.Errorf("size the buffer of packet queue %d: %w", number, err), nf.Close())
	}
	return &Queue{number, mark, nf, counters, make(chan error, 1)}, nil
}

// Worker takes the packets of a queue, one after another.
type Worker interface {
	// Work does with a packet what is to be done, and gives the verdict, unless
	// it is held.
	Work(q Queued)
}

// Start makes the kernel bring packets to a worker, until ctx ends. The queue
// may have one reader.
func (q *Queue) Start(ctx context.Context, worker Worker) error {
	err := q.nf.RegisterWithErrorFunc(ctx, func(a nfqueue.Attribute) int {
		if p, ok := q.packet(a); ok {
			worker.Work(p)
		}
		return 0
	}, func(err error) int {
		switch {
		case ctx.Err() != nil:
			return 1
		case errors.Is(err, unix.ENOBUFS):
			q.counters.QueueOverflow.Add(1)
			return 0
		case errors.Is(err, unix.ENOENT):
			// The answer to a verdict: the packet is no more. The kernel
			// empties all queues when a chain or a table is replaced.
			q.counters.QueueFlushed.Add(1)
			return 0
		}
		q.failed <- err
		return 1
	})
	if err != nil {
		return fmt.Errorf("take packet queue %d: %w; another program may read it", q.number, err)
	}
	return nil
}

// Wait returns when ctx ends, or with an error when the kernel gives no more:
// packets of the queue are dropped from then on.
func (q *Queue) Wait(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case err := <-q.failed:
		return fmt.Errorf("read packet queue %d: %w", q.number, err)
	}
}

// Close gives the queue up, after the end of Start's ctx. The kernel drops what
// is still in it.
func (q *Queue) Close() error { return q.nf.Close() }

func (q *Queue) packet(a nfqueue.Attribute) (p Queued, ok bool) {
	if a.PacketID == nil || a.Payload == nil {
		return p, false
	}
	p = Queued{ID: *a.PacketID, Packet: *a.Payload, Queue: q}
	p.Forwarded = a.Hook != nil && *a.Hook == unix.NF_INET_FORWARD
	switch {
	case a.OutDev != nil:
		p.Link = int(*a.OutDev)
	case a.InDev != nil:
		p.Link = int(*a.InDev)
	}
	if a.CapLen != nil && int(*a.CapLen) > len(p.Packet) {
		q.counters.QueueCut.Add(1)
		q.nf.SetVerdict(p.ID, nfqueue.NfDrop)
		return p, false
	}
	if a.SkbInfo != nil && len(*a.SkbInfo) >= 4 {
		info := binary.BigEndian.Uint32(*a.SkbInfo)
		p.ChecksumPending, p.Segments = info&skbChecksumNotReady != 0, info&skbGSO != 0
	}
	return p, true
}

// Verdict implements Verdicts.
func (q *Queue) Verdict(id uint32, v Verdict, contents []byte) error {
	switch v {
	case Replace:
		return q.nf.SetVerdictWithOption(id, nfqueue.NfAccept, nfqueue.WithAlteredPacket(contents), nfqueue.WithMark(q.mark))
	case Drop:
		return q.nf.SetVerdict(id, nfqueue.NfDrop)
	case Pass:
		return q.nf.SetVerdict(id, nfqueue.NfAccept)
	}
	return fmt.Errorf("verdict %d on a packet of queue %d", v, q.number)
}
