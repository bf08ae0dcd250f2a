package nft

import (
	"bytes"
	"encoding/binary"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/ipsecfw/ipsecfw/filter"
)

// What is encoded is read back.
func TestAttributes(t *testing.T) {
	m := header(unix.NFPROTO_INET, 0)
	m.text(1, "name")
	m.nest(2)
	m.number(3, 7)
	m.nest(4)
	m.number64(5, 1<<40)
	m.end()
	m.end()
	m.bytes(6, []byte{1, 2, 3})
	type attribute struct {
		kind  uint16
		value string
	}
	var got []attribute
	each(m.b[4:], func(kind uint16, v []byte) {
		if kind != 2 {
			got = append(got, attribute{kind, string(v)})
			return
		}
		each(v, func(kind uint16, v []byte) {
			if kind == 4 {
				each(v, func(kind uint16, v []byte) { got = append(got, attribute{kind, string(v)}) })
				return
			}
			got = append(got, attribute{kind, string(v)})
		})
	})
	want := []attribute{{1, "name\x00"}, {3, "\x00\x00\x00\x07"}, {5, string(binary.BigEndian.AppendUint64(nil, 1<<40))}, {6, "\x01\x02\x03"}}
	if len(got) != len(want) {
		t.Fatalf("got %v, want %v", got, want)
	}
	for i := range want {
		if got[i] != want[i] {
			t.Errorf("attribute %d is %v, want %v", i, got[i], want[i])
		}
	}
}

// countedElement is an element as the kernel sends it.
func countedElement() []byte {
	m := &message{}
	m.nest(unix.NFTA_SET_ELEM_KEY)
	m.bytes(unix.NFTA_DATA_VALUE, []byte{10, 0, 0, 1})
	m.end()
	m.number64(unix.NFTA_SET_ELEM_EXPIRATION, 1500)
	m.nest(unix.NFTA_SET_ELEM_EXPR)
	m.text(unix.NFTA_EXPR_NAME, "counter")
	m.nest(unix.NFTA_EXPR_DATA)
	m.number64(unix.NFTA_COUNTER_BYTES, 1280)
	m.number64(unix.NFTA_COUNTER_PACKETS, 3)
	m.end()
	m.end()
	return m.b
}

func TestElement(t *testing.T) {
	var e read
	e.parse(countedElement())
	if !bytes.Equal(e.key, []byte{10, 0, 0, 1}) || e.expires != 1500*time.Millisecond || e.Counter != (Counter{3, 1280}) {
		t.Errorf("got %+v", e)
	}
	whole := countedElement()
	for n := range whole {
		var e read
		e.parse(whole[:n]) // must not panic
		if e.Packets == 3 && n < len(whole)-4 {
			t.Errorf("%d of %d bytes have a counter", n, len(whole))
		}
	}
}

func FuzzElement(f *testing.F) {
	f.Add(countedElement())
	f.Fuzz(func(t *testing.T, b []byte) {
		var e read
		e.parse(b)
		if len(e.key) > len(b) {
			t.Errorf("a key of %d bytes in %d", len(e.key), len(b))
		}
	})
}

// Each message is within what an attribute's length can say, and no element is
// lost between two.
func TestElementsFillMessages(t *testing.T) {
	rs := Compile(many(t, 3000, true), testConfig)
	s := &rs.tables[0].sets[0]
	var tr transaction
	tr.newElements(unix.NFPROTO_INET, tableName, s, all(s))
	n := 0
	for _, m := range tr.messages {
		each(m.Data[4:], func(kind uint16, list []byte) {
			if kind == unix.NFTA_SET_ELEM_LIST_ELEMENTS {
				each(list, func(_ uint16, element []byte) {
					var e read
					e.parse(element)
					if k := s.appendKey(nil, n); !bytes.Equal(e.key, k) {
						t.Fatalf("element %d is %x, want %x", n, e.key, k)
					}
					n++
				})
			}
		})
	}
	if n != s.len() || len(tr.messages) < 2 {
		t.Errorf("%d elements in %d messages, want %d", n, len(tr.messages), s.len())
	}
}

func TestLogPrefix(t *testing.T) {
	for _, tt := range []struct{ name, prefix, want string }{
		{"short", "staff", "staff"},
		{"as long as may be", strings.Repeat("a", 127), strings.Repeat("a", 127)},
		{"too long", strings.Repeat("a", 128), strings.Repeat("a", 127)},
		{"too long in the middle of a character", strings.Repeat("a", 126) + "é", strings.Repeat("a", 126)},
		{"with a zero", "a\x00b", "a"},
	} {
		if got := (logTo{1, tt.prefix}).cut(); got != tt.want {
			t.Errorf("%s: %q, want %q", tt.name, got, tt.want)
		}
	}
}

// Sets of the same name are of the same filters, wherever they stand.
func TestSetNames(t *testing.T) {
	limited := func(name string, index int) filter.Entry {
		e := ports(filter.Permit, filter.Any(), filter.Me(), 17, 53, 53)
		e.Name, e.Index, e.Options.Limit = name, index, filter.Limit{Packets: 1, Per: filter.PerSecond}
		return e
	}
	logs := func(name string) filter.Entry {
		e := ports(filter.Block, filter.Any(), filter.Me(), 17, 54, 54)
		e.Name, e.Options.Log = name, true
		return e
	}
	on := func(name string) filter.Entry {
		e := ports(filter.Block, filter.Any(), filter.Me(), 17, 55, 55)
		e.Selector.Connection = filter.Connection{Kind: filter.ConnectionInterface, Name: name}
		return e
	}
	entries := []filter.Entry{limited("a", 0), limited("a", 1), limited("b", 0), limited("b", 0), logs("a"), logs("b"), on("eth0"), on("eth1")}
	entries[3].Selector.ToPort = filter.PortRange{Lo: 56, Hi: 56}
	entries[1].Selector.ToPort = filter.PortRange{Lo: 57, Hi: 57}
	names := map[string]bool{}
	for _, s := range Compile(mustSPD(t, entries...), testConfig).tables[0].sets {
		if names[s.name] {
			t.Errorf("two sets are named %s", s.name)
		}
		names[s.name] = true
	}
	more := Compile(mustSPD(t, append([]filter.Entry{ports(filter.Block, address("10.0.0.1"), filter.Me(), 17, 1, 9)}, entries...)...), testConfig)
	for _, s := range more.tables[0].sets {
		delete(names, s.name)
	}
	for name := range names {
		t.Errorf("with another filter before it the set %s has another name", name)
	}
}
