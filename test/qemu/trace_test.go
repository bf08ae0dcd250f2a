package qemu

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// traceTable is the name of the test's own table.
const traceTable = "trace"

// trace collects what the kernel tells of the packets that a host sends to the
// three ports.
type trace struct {
	conn *netlink.Conn
	done chan error

	mu    sync.Mutex
	flows map[uint32]flow     // which packet has an ID
	steps map[uint32][]string // what befell it in our table
}

// flow is where a packet goes.
type flow struct {
	protocol byte
	to       netip.Addr
	port     uint16
}

// trace follows what the host sends until the test ends.
func (p *peer) trace(t *testing.T) *trace {
	t.Helper()
	tr := &trace{done: make(chan error, 1), flows: map[uint32]flow{}, steps: map[uint32][]string{}}
	must(t, p.Do(func() (err error) {
		if tr.conn, err = netlink.Dial(unix.NETLINK_NETFILTER, nil); err != nil {
			return err
		}
		if err := tr.conn.JoinGroup(unix.NFNLGRP_NFTRACE); err != nil {
			return errors.Join(err, tr.conn.Close())
		}
		return traceRules()
	}))
	go func() { tr.done <- tr.receive() }()
	t.Cleanup(func() {
		tr.conn.SetReadDeadline(time.Unix(1, 0))
		if err := <-tr.done; !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("reading the trace: %v", err)
		}
		tr.conn.Close()
		must(t, p.Do(func() error {
			c, err := nftables.New()
			if err != nil {
				return err
			}
			c.DelTable(&nftables.Table{Family: nftables.TableFamilyINet, Name: traceTable})
			return c.Flush()
		}))
	})
	return tr
}

// traceRules adds a table that has the packets traced, from the output hook
// on: tcp or udp dport PORT meta nftrace set 1.
func traceRules() error {
	c, err := nftables.New()
	if err != nil {
		return err
	}
	table := c.AddTable(&nftables.Table{Family: nftables.TableFamilyINet, Name: traceTable})
	chain := c.AddChain(&nftables.Chain{
		Name: "output", Table: table, Type: nftables.ChainTypeFilter,
		Hooknum: nftables.ChainHookOutput, Priority: nftables.ChainPriorityFirst,
	})
	for _, protocol := range []byte{unix.IPPROTO_TCP, unix.IPPROTO_UDP} {
		for _, port := range []string{permitted, secured, blocked} {
			n, err := strconv.ParseUint(port, 10, 16)
			if err != nil {
				return err
			}
			c.AddRule(&nftables.Rule{Table: table, Chain: chain, Exprs: []expr.Any{
				&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: 1},
				&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{protocol}},
				&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseTransportHeader, Offset: 2, Len: 2},
				&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: binaryutil.BigEndian.PutUint16(uint16(n))},
				&expr.Immediate{Register: 1, Data: []byte{1}},
				&expr.Meta{Key: expr.MetaKeyNFTRACE, Register: 1, SourceRegister: true},
			}})
		}
	}
	return c.Flush()
}

func (tr *trace) receive() error {
	for {
		messages, err := tr.conn.Receive()
		if err != nil {
			return err
		}
		for _, m := range messages {
			if m.Header.Type != unix.NFNL_SUBSYS_NFTABLES<<8|unix.NFT_MSG_TRACE || len(m.Data) < 4 {
				continue
			}
			if err := tr.note(m.Data[4:]); err != nil { // after struct nfgenmsg
				return err
			}
		}
	}
}

// note takes in one message: a packet met a rule whose conditions it fulfils,
// or the end of a chain.
func (tr *trace) note(b []byte) error {
	ad, err := netlink.NewAttributeDecoder(b)
	if err != nil {
		return err
	}
	ad.ByteOrder = binary.BigEndian
	var id, kind uint32
	var table, chain, verdict string
	var network, transport []byte
	for ad.Next() {
		switch ad.Type() {
		case unix.NFTA_TRACE_ID:
			id = ad.Uint32()
		case unix.NFTA_TRACE_TYPE:
			kind = ad.Uint32()
		case unix.NFTA_TRACE_TABLE:
			table = ad.String()
		case unix.NFTA_TRACE_CHAIN:
			chain = ad.String()
		case unix.NFTA_TRACE_NETWORK_HEADER:
			network = ad.Bytes()
		case unix.NFTA_TRACE_TRANSPORT_HEADER:
			transport = ad.Bytes()
		case unix.NFTA_TRACE_VERDICT:
			ad.Nested(func(ad *netlink.AttributeDecoder) (err error) {
				verdict, err = verdictOf(ad)
				return err
			})
		}
	}
	if err := ad.Err(); err != nil {
		return fmt.Errorf("a message of the trace: %w", err)
	}
	tr.mu.Lock()
	defer tr.mu.Unlock()
	if f, ok := flowOf(network, transport); ok && table == traceTable {
		tr.flows[id], tr.steps[id] = f, nil // an ID may come again
	}
	if table == "ipsecfw" && kind == unix.NFT_TRACETYPE_RULE {
		tr.steps[id] = append(tr.steps[id], chain+": "+verdict)
	}
	return nil
}

// verdictOf reads a verdict. Its number is that of the kernel's enumeration
// for packets (uapi/linux/netfilter.h), or of nft_verdicts if it is negative.
func verdictOf(ad *netlink.AttributeDecoder) (string, error) {
	var code int32
	var chain string
	for ad.Next() {
		switch ad.Type() {
		case unix.NFTA_VERDICT_CODE:
			code = int32(ad.Uint32())
		case unix.NFTA_VERDICT_CHAIN:
			chain = ad.String()
		}
	}
	const drop, accept, queue, verdict = 0, 1, 3, 0xffff
	switch {
	case code == drop:
		return "drop", ad.Err()
	case code == accept:
		return "accept", ad.Err()
	case code == unix.NFT_CONTINUE:
		return "continue", ad.Err()
	case code == unix.NFT_GOTO:
		return "goto " + chain, ad.Err()
	case code > 0 && code&verdict == queue: // flags and the target's number are above
		return fmt.Sprintf("queue %d", code>>16), ad.Err()
	}
	return fmt.Sprintf("verdict %d %s", code, chain), ad.Err()
}

// flowOf reads the first bytes of a packet's headers.
func flowOf(network, transport []byte) (f flow, ok bool) {
	if len(transport) < 4 || len(network) < 20 {
		return f, false
	}
	f.port = binary.BigEndian.Uint16(transport[2:])
	if network[0]>>4 == 4 {
		f.protocol = network[9]
		f.to, ok = netip.AddrFromSlice(network[16:20])
		return f, ok
	}
	if len(network) < 40 {
		return f, false
	}
	f.protocol = network[6]
	f.to, ok = netip.AddrFromSlice(network[24:40])
	return f, ok
}

// want waits until a packet's way through our table is known, and fails the
// test if none to that port went the way that is wanted.
func (tr *trace) want(t *testing.T, network, to, port string, want []string) {
	t.Helper()
	n, err := strconv.ParseUint(port, 10, 16)
	must(t, err)
	f := flow{map[string]byte{"tcp": unix.IPPROTO_TCP, "udp": unix.IPPROTO_UDP}[network], netip.MustParseAddr(to), uint16(n)}
	var seen [][]string
	if !await(20*time.Second, func() bool {
		tr.mu.Lock()
		defer tr.mu.Unlock()
		seen = nil
		for id, x := range tr.flows {
			if x == f {
				seen = append(seen, slices.Clone(tr.steps[id]))
			}
		}
		return slices.ContainsFunc(seen, func(s []string) bool { return slices.Equal(s, want) })
	}) {
		t.Errorf("packets to %s port %s of %s went %q, want %q", network, port, to, seen, want)
	}
}
