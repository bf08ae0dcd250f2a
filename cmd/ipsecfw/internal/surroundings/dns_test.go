package surroundings

import (
	"bytes"
	"errors"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/dns/dnsmessage"
)

// record makes a resource record of the type that its data has: an address,
// or the name that an alias stands for.
func record(t testing.TB, owner string, ttl uint32, data string) dnsmessage.Resource {
	t.Helper()
	r := dnsmessage.Resource{Header: dnsmessage.ResourceHeader{Name: dnsmessage.MustNewName(owner), Class: dnsmessage.ClassINET, TTL: ttl}}
	switch a, err := netip.ParseAddr(data); {
	case err != nil:
		r.Body = &dnsmessage.CNAMEResource{CNAME: dnsmessage.MustNewName(data)}
	case a.Is4():
		r.Body = &dnsmessage.AResource{A: a.As4()}
	default:
		r.Body = &dnsmessage.AAAAResource{AAAA: a.As16()}
	}
	return r
}

func addresses(s string) []netip.Addr {
	var addrs []netip.Addr
	for _, f := range strings.Fields(s) {
		addrs = append(addrs, netip.MustParseAddr(f))
	}
	return addrs
}

// testQuestion asks for wWw.eXaMpLe. in a spelling that is known.
func testQuestion(t testing.TB, kind dnsmessage.Type) question {
	t.Helper()
	q, err := newQuestion("www.example", kind, []byte{0x12, 0x34, 0, 1, 0, 0, 0, 1, 0, 1, 0, 1, 0, 0})
	if err != nil {
		t.Fatal(err)
	}
	return q
}

func TestQuestion(t *testing.T) {
	q := testQuestion(t, dnsmessage.TypeAAAA)
	msg, err := q.pack()
	if err != nil {
		t.Fatal(err)
	}
	var m dnsmessage.Message
	if err := m.Unpack(msg); err != nil {
		t.Fatal(err)
	}
	want := dnsmessage.Question{Name: dnsmessage.MustNewName("wWw.eXaMpLe."), Type: dnsmessage.TypeAAAA, Class: dnsmessage.ClassINET}
	if m.ID != 0x1234 || !m.RecursionDesired || m.Response || len(m.Questions) != 1 || m.Questions[0] != want {
		t.Errorf("packed %+v", m)
	}
	for _, bad := range []string{strings.Repeat("a", 64) + ".example", strings.Repeat("a.", 200), "a..b"} {
		q, err := newQuestion(bad, dnsmessage.TypeA, make([]byte, len(bad)+3))
		if err == nil {
			_, err = q.pack()
		}
		if err == nil {
			t.Errorf("%.20q... is taken for a name", bad)
		}
	}
}

func TestParseAnswer(t *testing.T) {
	const www = "wWw.eXaMpLe."
	tests := []struct {
		name   string
		kind   dnsmessage.Type // A unless it says
		change func(*dnsmessage.Message)
		tcp    bool
		addrs  string
		ttl    time.Duration
		err    error
		text   string // of an error of no type
	}{
		{name: "addresses, sorted, the smallest TTL", addrs: "192.0.2.1 192.0.2.2", ttl: 30 * time.Second, change: func(m *dnsmessage.Message) {
			m.Answers = append(m.Answers, record(t, www, 60, "192.0.2.2"), record(t, www, 30, "192.0.2.1"), record(t, www, 90, "192.0.2.2"))
		}},
		{name: "aliases", addrs: "192.0.2.1", ttl: 20 * time.Second, change: func(m *dnsmessage.Message) {
			m.Answers = append(m.Answers, record(t, "WWW.example.", 60, "a.example."), record(t, "b.example.", 300, "192.0.2.1"), record(t, "A.EXAMPLE.", 20, "B.example."))
		}},
		{name: "an alias that leads nowhere", ttl: 60 * time.Second, change: func(m *dnsmessage.Message) {
			m.Answers = append(m.Answers, record(t, www, 60, "a.example."))
		}},
		{name: "a ring of aliases", text: "more than 16 aliases", change: func(m *dnsmessage.Message) {
			m.Answers = append(m.Answers, record(t, www, 60, "a.example."), record(t, "a.example.", 60, www))
		}},
		{name: "addresses of other names", ttl: 24 * time.Hour, change: func(m *dnsmessage.Message) {
			m.Answers = append(m.Answers, record(t, "evil.example.", 60, "192.0.2.66"))
		}},
		{name: "addresses of the other family", ttl: 24 * time.Hour, change: func(m *dnsmessage.Message) {
			m.Answers = append(m.Answers, record(t, www, 60, "2001:db8::1"))
		}},
		{name: "IPv6", kind: dnsmessage.TypeAAAA, addrs: "2001:db8::1", ttl: time.Minute, change: func(m *dnsmessage.Message) {
			m.Answers = append(m.Answers, record(t, www, 60, "2001:db8::1"))
		}},
		{name: "IPv4 in IPv6", kind: dnsmessage.TypeAAAA, addrs: "192.0.2.1", ttl: time.Minute, change: func(m *dnsmessage.Message) {
			m.Answers = append(m.Answers, record(t, www, 60, "::ffff:192.0.2.1"))
		}},
		{name: "not unicast", addrs: "192.0.2.1", ttl: time.Minute, change: func(m *dnsmessage.Message) {
			for _, a := range []string{"0.0.0.0", "224.0.0.1", "255.255.255.255", "192.0.2.1"} {
				m.Answers = append(m.Answers, record(t, www, 60, a))
			}
		}},
		{name: "a TTL with its first bit set", addrs: "192.0.2.1", ttl: 0, change: func(m *dnsmessage.Message) {
			m.Answers = append(m.Answers, record(t, www, 1<<31, "192.0.2.1"))
		}},
		{name: "no such name", err: ErrNoSuchName, change: func(m *dnsmessage.Message) { m.RCode = dnsmessage.RCodeNameError }},
		{name: "the server fails", text: "RCodeServerFailure", change: func(m *dnsmessage.Message) { m.RCode = dnsmessage.RCodeServerFailure }},
		{name: "truncated", err: errTruncated, change: func(m *dnsmessage.Message) { m.Truncated = true }},
		{name: "another identifier", err: errForeign, change: func(m *dnsmessage.Message) { m.ID++ }},
		{name: "a question, not an answer", err: errForeign, change: func(m *dnsmessage.Message) { m.Response = false }},
		{name: "another operation", err: errForeign, change: func(m *dnsmessage.Message) { m.OpCode = 4 }},
		{name: "another name", err: errForeign, change: func(m *dnsmessage.Message) { m.Questions[0].Name = dnsmessage.MustNewName("wWv.eXaMpLe.") }},
		{name: "another type", err: errForeign, change: func(m *dnsmessage.Message) { m.Questions[0].Type = dnsmessage.TypeMX }},
		{name: "another class", err: errForeign, change: func(m *dnsmessage.Message) { m.Questions[0].Class = dnsmessage.ClassCHAOS }},
		{name: "no question", err: errForeign, change: func(m *dnsmessage.Message) { m.Questions = nil }},
		{name: "two questions", err: errForeign, change: func(m *dnsmessage.Message) { m.Questions = append(m.Questions, m.Questions[0]) }},
		{name: "another spelling", err: errCase, change: func(m *dnsmessage.Message) { m.Questions[0].Name = dnsmessage.MustNewName("www.example.") }},
		{name: "another spelling by TCP", tcp: true, addrs: "192.0.2.1", ttl: time.Minute, change: func(m *dnsmessage.Message) {
			m.Questions[0].Name = dnsmessage.MustNewName("www.example.")
			m.Answers = append(m.Answers, record(t, "www.example.", 60, "192.0.2.1"))
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if tt.kind == 0 {
				tt.kind = dnsmessage.TypeA
			}
			q := testQuestion(t, tt.kind)
			m := dnsmessage.Message{
				Header:    dnsmessage.Header{ID: q.id, Response: true},
				Questions: []dnsmessage.Question{{Name: q.name, Type: q.kind, Class: dnsmessage.ClassINET}},
			}
			tt.change(&m)
			msg, err := m.Pack()
			if err != nil {
				t.Fatal(err)
			}
			a, err := q.parse(msg, tt.tcp)
			switch {
			case tt.err != nil && !errors.Is(err, tt.err),
				tt.text != "" && (err == nil || !strings.Contains(err.Error(), tt.text)),
				tt.err == nil && tt.text == "" && err != nil:
				t.Fatalf("error %v, want %v%s", err, tt.err, tt.text)
			}
			if err == nil && (!slices.Equal(a.addrs, addresses(tt.addrs)) || a.ttl != tt.ttl) {
				t.Errorf("%v for %v, want %q for %v", a.addrs, a.ttl, tt.addrs, tt.ttl)
			}
			for n := range msg {
				if a, err := q.parse(msg[:n], tt.tcp); err == nil {
					t.Errorf("the first %d of %d bytes are an answer: %v", n, len(msg), a)
				}
			}
		})
	}
}

func FuzzParseAnswer(f *testing.F) {
	q := testQuestion(f, dnsmessage.TypeA)
	m := dnsmessage.Message{
		Header:    dnsmessage.Header{ID: q.id, Response: true},
		Questions: []dnsmessage.Question{{Name: q.name, Type: q.kind, Class: dnsmessage.ClassINET}},
		Answers:   []dnsmessage.Resource{record(f, q.name.String(), 60, "a.example."), record(f, "a.example.", 60, "192.0.2.1")},
	}
	msg, err := m.Pack()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(msg, false)
	f.Add(bytes.ToLower(msg), true)
	f.Fuzz(func(t *testing.T, msg []byte, tcp bool) {
		a, err := q.parse(msg, tcp)
		if err != nil {
			return
		}
		if a.ttl < 0 || !slices.IsSortedFunc(a.addrs, netip.Addr.Compare) {
			t.Errorf("%+v", a)
		}
		for _, addr := range a.addrs {
			if clean, ok := unicast(addr); !ok || clean != addr {
				t.Errorf("%v is not as it should be", addr)
			}
		}
	})
}
