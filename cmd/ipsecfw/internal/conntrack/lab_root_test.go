package conntrack

import (
	"encoding/binary"
	"errors"
	"net"
	"net/netip"
	"os"
	"testing"
	"time"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"

	"github.com/ipsecfw/ipsecfw/filter/packet"
	"github.com/ipsecfw/ipsecfw/test/lab"
)

// patience is how long a test waits for what should be there at once.
const patience = 20 * time.Second

// network is three hosts in a row, inside - middle - outside. The connections
// of the one in the middle, a router, are cut.
type network struct {
	t                       testing.TB
	inside, middle, outside *lab.Host
}

func newNetwork(t testing.TB) *network {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("network namespaces need root")
	}
	n, err := lab.New("ipsecfw-conntrack")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { n.Close() })
	w := &network{t: t}
	for name, h := range map[string]**lab.Host{"inside": &w.inside, "middle": &w.middle, "outside": &w.outside} {
		if *h, err = n.Host(name); err != nil {
			t.Fatal(err)
		}
	}
	w.must(n.Link(w.inside, w.middle, "eth0", "eth0", []string{"10.1.0.2/24", "fd01::2/64"}, []string{"10.1.0.1/24", "fd01::1/64"}))
	w.must(n.Link(w.middle, w.outside, "eth1", "eth0", []string{"10.2.0.1/24", "fd02::1/64"}, []string{"10.2.0.2/24", "fd02::2/64"}))
	w.must(w.middle.Forwarding())
	w.must(w.inside.Route("default", "10.1.0.1"))
	w.must(w.inside.Route("default", "fd01::1"))
	w.must(w.outside.Route("default", "10.2.0.1"))
	w.must(w.outside.Route("default", "fd02::1"))
	w.must(w.middle.Do(track))
	return w
}

func (w *network) must(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal(err)
	}
}

// track puts a ruleset of another owner in force, which asks for the states of
// connections and so has them tracked. It translates TCP that is forwarded to
// ports 85 and 86 to come from this host, and TCP to its own port 8081 to go
// to its port 81.
func track() error {
	c, err := nftables.New()
	if err != nil {
		return err
	}
	others := c.AddTable(&nftables.Table{Name: "others", Family: nftables.TableFamilyINet})
	for name, hook := range map[string]*nftables.ChainHook{"input": nftables.ChainHookInput, "forward": nftables.ChainHookForward, "output": nftables.ChainHookOutput} {
		chain := c.AddChain(&nftables.Chain{Name: name, Table: others, Type: nftables.ChainTypeFilter, Hooknum: hook, Priority: nftables.ChainPriorityFilter})
		c.AddRule(&nftables.Rule{Table: others, Chain: chain, Exprs: []expr.Any{
			&expr.Ct{Key: expr.CtKeySTATE, Register: 1},
			&expr.Bitwise{SourceRegister: 1, DestRegister: 1, Len: 4, Mask: native(expr.CtStateBitESTABLISHED), Xor: native(0)},
			&expr.Cmp{Op: expr.CmpOpNeq, Register: 1, Data: native(0)},
			&expr.Verdict{Kind: expr.VerdictAccept},
		}})
	}
	nat := c.AddTable(&nftables.Table{Name: "others_nat", Family: nftables.TableFamilyIPv4})
	before := c.AddChain(&nftables.Chain{Name: "before", Table: nat, Type: nftables.ChainTypeNAT, Hooknum: nftables.ChainHookPrerouting, Priority: nftables.ChainPriorityNATDest})
	c.AddRule(&nftables.Rule{Table: nat, Chain: before, Exprs: append(toPort(8081, 8081),
		&expr.Immediate{Register: 1, Data: []byte{10, 1, 0, 1}},
		&expr.Immediate{Register: 2, Data: port(81)},
		&expr.NAT{Type: expr.NATTypeDestNAT, Family: unix.NFPROTO_IPV4, RegAddrMin: 1, RegProtoMin: 2},
	)})
	after := c.AddChain(&nftables.Chain{Name: "after", Table: nat, Type: nftables.ChainTypeNAT, Hooknum: nftables.ChainHookPostrouting, Priority: nftables.ChainPriorityNATSource})
	c.AddRule(&nftables.Rule{Table: nat, Chain: after, Exprs: append(toPort(85, 86), &expr.Masq{})})
	return c.Flush()
}

func native(v uint32) []byte { return binary.NativeEndian.AppendUint32(nil, v) }

// toPort matches TCP to the ports from first to last.
func toPort(first, last uint16) []expr.Any {
	return []expr.Any{
		&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: 1},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{packet.TCP}},
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseTransportHeader, Offset: 2, Len: 2},
		&expr.Cmp{Op: expr.CmpOpGte, Register: 1, Data: port(first)},
		&expr.Cmp{Op: expr.CmpOpLte, Register: 1, Data: port(last)},
	}
}

// link is a connection between two applications, over which both have said
// something.
type link struct {
	original tuple
	near     net.Conn // of the one that began it
	far      net.Conn // nil in UDP
	number   string   // of its entry
}

// open makes a connection from one host to an address of another, whose
// application listens at another address if it is translated.
func (w *network) open(network string, from *lab.Host, to string, server *lab.Host, at string) *link {
	w.t.Helper()
	l := &link{}
	var answer func([]byte) error
	var err error
	switch network {
	case "tcp":
		listener, err := server.Listen(network, at)
		w.must(err)
		w.t.Cleanup(func() { listener.Close() })
		l.near, err = from.Dial(w.t.Context(), network, to)
		w.must(err)
		l.far, err = listener.Accept()
		w.must(err)
		w.t.Cleanup(func() { l.far.Close() })
		w.must(l.far.SetDeadline(time.Now().Add(patience)))
		l.original.protocol = packet.TCP
		answer = func(b []byte) error {
			if _, err := l.far.Read(b); err != nil {
				return err
			}
			_, err := l.far.Write(b)
			return err
		}
	case "udp":
		listener, err := server.ListenPacket(network, at)
		w.must(err)
		w.t.Cleanup(func() { listener.Close() })
		w.must(listener.SetDeadline(time.Now().Add(patience)))
		l.near, err = from.Dial(w.t.Context(), network, to)
		w.must(err)
		l.original.protocol = packet.UDP
		answer = func(b []byte) error {
			_, from, err := listener.ReadFrom(b)
			if err == nil {
				_, err = listener.WriteTo(b, from)
			}
			return err
		}
	}
	w.t.Cleanup(func() { l.near.Close() })
	w.must(l.near.SetDeadline(time.Now().Add(patience)))
	l.original.src, l.original.dst = netip.MustParseAddrPort(l.near.LocalAddr().String()), netip.MustParseAddrPort(to)
	b := []byte{1}
	_, err = l.near.Write(b)
	w.must(err)
	w.must(answer(b))
	_, err = l.near.Read(b)
	w.must(err)
	if l.number = w.entries()[l.original]; l.number == "" {
		w.t.Fatalf("there is no entry of %+v", l.original)
	}
	return l
}

// alive reports whether both ends of a TCP connection still hear each other.
func (l *link) alive() error {
	b := []byte{2}
	for _, x := range [][2]net.Conn{{l.near, l.far}, {l.far, l.near}} {
		if _, err := x[0].Write(b); err != nil {
			return err
		}
		if _, err := x[1].Read(b); err != nil {
			return err
		}
	}
	return nil
}

// ended returns an error unless both applications see the connection's end.
func (l *link) ended() error {
	for _, c := range []net.Conn{l.near, l.far} {
		if _, err := c.Read(make([]byte, 1)); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
			return errors.Join(errors.New("it is not at its end at "+c.LocalAddr().String()), err)
		}
	}
	return nil
}

// entries returns the number of every entry of the host in the middle, by its
// original tuple.
func (w *network) entries() map[tuple]string {
	w.t.Helper()
	all := map[tuple]string{}
	w.must(w.middle.Do(func() error {
		return list(func(e *entry, k key) { all[e.original] = string(k.attributes[2]) })
	}))
	return all
}
