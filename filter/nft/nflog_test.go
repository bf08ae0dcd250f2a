package nft

import (
	"encoding/binary"
	"strings"
	"testing"
	"time"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// logReader reads an NFLOG group (linux/netfilter/nfnetlink_log.h).
type logReader struct{ c *netlink.Conn }

// logged is a packet in the log.
type logged struct {
	prefix  string
	packet  []byte // from the IP header on
	hook    uint8  // NF_INET_LOCAL_IN and so on
	in, out uint32 // indices of interfaces, 0 for none
	mark    uint32
}

func newLogReader(t testing.TB, group uint16) *logReader {
	t.Helper()
	const (
		config                       = unix.NFNL_SUBSYS_ULOG<<8 | 1
		command, mode, threshold     = 1, 2, 5
		bind, copyPacket, everything = 1, 2, 0xffff
	)
	c, err := netlink.Dial(unix.NETLINK_NETFILTER, &netlink.Config{MessageBufferSize: 1 << 17})
	must(t, err)
	t.Cleanup(func() { c.Close() })
	must(t, c.SetReadBuffer(64<<20))
	for _, set := range []func(m *message){
		func(m *message) { m.bytes(command, []byte{bind}) },
		func(m *message) {
			m.bytes(mode, append(binary.BigEndian.AppendUint32(nil, everything), copyPacket, 0))
			m.number(threshold, 1) // and so at once
		},
	} {
		m := &message{b: binary.BigEndian.AppendUint16([]byte{unix.AF_UNSPEC, 0}, group)}
		set(m)
		_, err := c.Execute(netlink.Message{
			Header: netlink.Header{Type: config, Flags: netlink.Request | netlink.Acknowledge}, Data: m.b,
		})
		must(t, err)
	}
	return &logReader{c}
}

// read returns what the log has next, or nil when it has nothing for a while.
func (r *logReader) read(t testing.TB, patience time.Duration) []logged {
	t.Helper()
	must(t, r.c.SetReadDeadline(time.Now().Add(patience)))
	messages, err := r.c.Receive()
	if op, ok := err.(*netlink.OpError); ok && op.Timeout() {
		return nil
	}
	must(t, err)
	var out []logged
	for _, m := range messages {
		var l logged
		if len(m.Data) < 4 {
			continue
		}
		each(m.Data[4:], func(kind uint16, v []byte) {
			switch kind {
			case 1: // NFULA_PACKET_HDR
				l.hook = v[2]
			case 2: // NFULA_MARK
				l.mark = binary.BigEndian.Uint32(v)
			case 4: // NFULA_IFINDEX_INDEV
				l.in = binary.BigEndian.Uint32(v)
			case 5: // NFULA_IFINDEX_OUTDEV
				l.out = binary.BigEndian.Uint32(v)
			case 9: // NFULA_PAYLOAD
				l.packet = v
			case 10: // NFULA_PREFIX
				l.prefix = string(v[:max(len(v)-1, 0)])
			}
		})
		out = append(out, l)
	}
	return out
}

// until returns what the log has up to a packet that ends with a number, and
// then with its verdict.
func (r *logReader) until(t testing.TB, id uint32) []logged {
	t.Helper()
	var out []logged
	done := make(chan struct{})
	go func() { // on another thread than the test's, which is slow to wake
		defer close(done)
		for {
			batch := r.read(t, 5*time.Second)
			if batch == nil {
				t.Error("the log is silent")
				return
			}
			out = append(out, batch...)
			for _, l := range batch {
				if n := len(l.packet); n >= 4 && binary.BigEndian.Uint32(l.packet[n-4:]) == id && !strings.Contains(l.prefix, "state") {
					return
				}
			}
		}
	}()
	<-done
	if t.Failed() {
		t.FailNow()
	}
	return out
}
