package conntrack

import (
	"errors"
	"net"
	"net/netip"
	"syscall"
	"testing"
	"time"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"github.com/ipsecfw/ipsecfw/filter"
	"github.com/ipsecfw/ipsecfw/filter/packet"
)

// middle is the host in the middle.
var middle = hostOf("127.0.0.1", "::1", "10.1.0.1", "10.2.0.1", "fd01::1", "fd02::1")

// cut is Cut in the host in the middle.
func (w *network) cut(entries ...filter.Entry) (r Result) {
	w.t.Helper()
	spd := policy(w.t, entries...)
	w.must(w.middle.Do(func() (err error) {
		r, err = Cut(spd, middle, []filter.Interface{{Name: "eth0"}, {Name: "eth1"}})
		return err
	}))
	return r
}

// Of many connections exactly those are cut that the policy refuses.
func TestCut(t *testing.T) {
	const tcp, udp = packet.TCP, packet.UDP
	w := newNetwork(t)
	tests := []struct {
		name    string
		link    *link
		deleted bool // its entry
		ended   bool // for its applications
	}{
		{"in", w.open("tcp", w.inside, "10.1.0.1:80", w.middle, ":80"), false, false},
		{"out", w.open("tcp", w.middle, "10.2.0.2:80", w.outside, ":80"), false, false},
		{"in, IPv6", w.open("tcp", w.inside, "[fd01::1]:800", w.middle, "[fd01::1]:800"), false, false},
		{"forwarded", w.open("tcp", w.inside, "10.2.0.2:800", w.outside, ":800"), false, false},
		{"forwarded, masqueraded", w.open("tcp", w.inside, "10.2.0.2:85", w.outside, ":85"), false, false},
		{"UDP in", w.open("udp", w.inside, "10.1.0.1:80", w.middle, "10.1.0.1:80"), false, false},

		{"refused in", w.open("tcp", w.inside, "10.1.0.1:82", w.middle, ":82"), true, true},
		{"refused in, IPv6", w.open("tcp", w.inside, "[fd01::1]:83", w.middle, ":83"), true, true},
		{"refused in, redirected", w.open("tcp", w.inside, "10.1.0.1:8081", w.middle, "10.1.0.1:81"), true, true},
		{"refused out", w.open("tcp", w.middle, "10.2.0.2:82", w.outside, ":82"), true, true},
		{"refused out, IPv6", w.open("tcp", w.middle, "[fd02::2]:83", w.outside, ":83"), true, true},
		{"refused UDP in", w.open("udp", w.inside, "10.1.0.1:53", w.middle, "10.1.0.1:53"), true, false},
		{"refused UDP out", w.open("udp", w.middle, "[fd02::2]:53", w.outside, "[fd02::2]:53"), true, false},
		// The ends of forwarded connections are other hosts'.
		{"refused forwarded", w.open("tcp", w.inside, "10.2.0.2:84", w.outside, ":84"), true, false},
		{"refused forwarded, IPv6", w.open("tcp", w.inside, "[fd02::2]:840", w.outside, ":840"), true, false},
		{"refused forwarded, masqueraded", w.open("tcp", w.inside, "10.2.0.2:86", w.outside, ":86"), true, false},
	}
	r := w.cut(
		with(filter.Block, "any", "me", to(tcp, 81)),
		with(filter.Block, "any", "me", to(tcp, 82)), with(filter.Block, "me", "any", to(tcp, 82)),
		with(filter.Block, "any", "me", to(tcp, 83)), with(filter.Block, "me", "any", to(tcp, 83)),
		with(filter.Block, "any", "me", to(udp, 53), oneWay), with(filter.Block, "any", "me", func(e *filter.Entry) {
			proto(udp)(e)
			e.Selector.FromPort = filter.PortRange{Lo: 53, Hi: 53}
		}, oneWay),
		with(filter.Block, "any", "any", to(tcp, 84), forward), with(filter.Block, "any", "any", to(tcp, 840), forward),
		with(filter.Block, "10.1.0.0/24", "any", to(tcp, 86), forward),
	)
	want := Result{Listed: len(tests)}
	entries := w.entries()
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			switch number := entries[tt.link.original]; {
			case tt.deleted && number != "":
				t.Error("its entry is still there")
			case !tt.deleted && number != tt.link.number:
				t.Errorf("its entry is number %x now, was %x", number, tt.link.number)
			}
			switch {
			case tt.ended:
				if err := tt.link.ended(); err != nil {
					t.Error(err)
				}
			case tt.link.far != nil:
				if err := tt.link.alive(); err != nil {
					t.Error(err)
				}
			}
		})
		if tt.deleted {
			want.Refused++
			want.Deleted++
		}
		if tt.ended {
			want.Destroyed++
		}
	}
	if r != want {
		t.Errorf("the result is %+v, want %+v", r, want)
	}
}

// A connection whose socket is gone already must not take the listener on its
// port with it, and a cut one neither.
func TestCutSparesListeners(t *testing.T) {
	w := newNetwork(t)
	listener, err := w.middle.Listen("tcp", ":80")
	w.must(err)
	t.Cleanup(func() { listener.Close() })
	dial := func() (near, far net.Conn) {
		near, err := w.inside.Dial(t.Context(), "tcp", "10.1.0.1:80")
		w.must(err)
		far, err = listener.Accept()
		w.must(err)
		return near, far
	}
	near, far := dial()
	w.must(far.(*net.TCPConn).SetLinger(0))
	w.must(far.Close())
	w.must(near.Close())
	near, far = dial()
	defer near.Close()
	defer far.Close()
	r := w.cut(with(filter.Block, "any", "me", to(packet.TCP, 80)))
	if want := (Result{2, 2, 2, 1}); r != want {
		t.Errorf("the result is %+v, want %+v", r, want)
	}
	near, far = dial()
	near.Close()
	far.Close()
}

// A socket that is bound to an interface is not found by its addresses alone.
func TestCutBoundSocket(t *testing.T) {
	w := newNetwork(t)
	bound := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) error {
		var err error
		return errors.Join(c.Control(func(fd uintptr) { err = unix.BindToDevice(int(fd), "eth0") }), err)
	}}
	l := &link{}
	w.must(w.middle.Do(func() error {
		listener, err := bound.Listen(t.Context(), "tcp", "10.1.0.1:80")
		if err != nil {
			return err
		}
		defer listener.Close()
		if l.near, err = w.inside.Dial(t.Context(), "tcp", "10.1.0.1:80"); err != nil {
			return err
		}
		l.far, err = listener.Accept()
		return err
	}))
	defer l.near.Close()
	defer l.far.Close()
	w.must(l.near.SetDeadline(time.Now().Add(patience)))
	w.must(l.far.SetDeadline(time.Now().Add(patience)))
	r := w.cut(with(filter.Block, "any", "me", to(packet.TCP, 80)))
	if want := (Result{1, 1, 1, 1}); r != want {
		t.Errorf("the result is %+v, want %+v", r, want)
	}
	w.must(l.ended())
}

// Under a stateful filter a connection that the other end began is refused,
// and its entry must stay: it is what its packets are refused by.
func TestCutStateful(t *testing.T) {
	w := newNetwork(t)
	kept := w.open("tcp", w.middle, "10.2.0.2:80", w.outside, ":80")
	refused := w.open("tcp", w.inside, "10.1.0.1:80", w.middle, ":80")
	refusedUDP := w.open("udp", w.inside, "10.1.0.1:53", w.middle, "10.1.0.1:53")
	r := w.cut(with(filter.Permit, "me", "any", stateful), with(filter.Block, "any", "any"))
	if want := (Result{Listed: 3, Refused: 2, Destroyed: 1}); r != want {
		t.Errorf("the result is %+v, want %+v", r, want)
	}
	entries := w.entries()
	for _, l := range []*link{kept, refused, refusedUDP} {
		if entries[l.original] != l.number {
			t.Errorf("the entry of %+v is number %x now, was %x", l.original, entries[l.original], l.number)
		}
	}
	w.must(refused.ended())
	w.must(kept.alive())
}

// Two connections of the same tuple are told apart by their zones.
func TestRemoveKnowsZones(t *testing.T) {
	w := newNetwork(t)
	l := w.open("udp", w.inside, "10.1.0.1:53", w.middle, "10.1.0.1:53")
	var found []cut
	w.must(w.middle.Do(func() error {
		if err := insert(l.original, 7); err != nil {
			return err
		}
		if err := list(func(e *entry, k key) {
			if e.original == l.original && k.attributes[1] != nil {
				found = append(found, cut{fate{deleted: true}, k.clone()})
			}
		}); err != nil {
			return err
		}
		// What is gone already is no error, and takes no other with it.
		deleted, err := remove(append(found, found...))
		if deleted != 1 {
			t.Errorf("%d entries deleted, want 1", deleted)
		}
		return err
	}))
	if len(found) != 1 || w.entries()[l.original] != l.number {
		t.Errorf("found %d entries in the zone; the one in none is number %x now, was %x", len(found), w.entries()[l.original], l.number)
	}
}

// insert makes an entry of a tuple and its mirror in a zone.
func insert(original tuple, zone uint16) error {
	e := entry{original, tuple{src: original.dst, dst: original.src, protocol: original.protocol}}
	request := newRequest(nl.IPCTNL_MSG_CT_NEW, unix.NLM_F_ACK|unix.NLM_F_CREATE|unix.NLM_F_EXCL, unix.AF_INET)
	seconds := []byte{0, 0, 2, 0}
	request.AddRawData(e.encode(attr(nl.CTA_TIMEOUT, seconds), attr(nl.CTA_ZONE, port(zone)))[nl.SizeofNfgenmsg:])
	_, err := request.Execute(unix.NETLINK_NETFILTER, 0)
	return err
}

// BenchmarkCut lists 100,000 entries and decides on them, by a policy of a
// thousand filters that permits them all.
func BenchmarkCut(b *testing.B) {
	const size = 100_000
	w := newNetwork(b)
	entries := []filter.Entry{with(filter.Block, "any", "any"), with(filter.Permit, "any", "any", proto(packet.UDP))}
	for i := range 1000 {
		entries = append(entries, with(filter.Permit, "me", netip.AddrFrom4([4]byte{172, 16, byte(i >> 8), byte(i)}).String(), to(packet.TCP, 80)))
	}
	spd := policy(b, entries...)
	w.must(w.middle.Do(func() error {
		for i := range uint32(size) {
			src := netip.AddrPortFrom(netip.AddrFrom4([4]byte{172, 20, byte(i >> 14), 1}), uint16(i&0x3fff)+1)
			if err := insert(tuple{src: src, dst: netip.MustParseAddrPort("10.1.0.1:53"), protocol: packet.UDP}, 0); err != nil {
				return err
			}
		}
		for b.Loop() {
			r, err := Cut(spd, middle, nil)
			if err != nil {
				return err
			}
			if r.Listed != size || r.Refused != 0 {
				b.Errorf("the result is %+v", r)
			}
		}
		return nil
	}))
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/size, "ns/entry")
}
