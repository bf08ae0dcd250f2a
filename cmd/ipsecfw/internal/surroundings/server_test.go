package surroundings

import (
	"encoding/binary"
	"io"
	"net"
	"net/netip"
	"sync"
	"testing"

	"golang.org/x/net/dns/dnsmessage"
)

// dnsServer is a server of names on a loopback address, by UDP and TCP.
type dnsServer struct {
	t    *testing.T
	addr netip.AddrPort

	mu   sync.Mutex
	zone map[string]zoneEntry // by canonical name
	seen map[string]int       // questions, by "NETWORK NAME"

	hook  sync.Mutex
	first func(reply func(func(*dnsmessage.Message)), from netip.AddrPort) // before each answer by UDP
}

// before has f called, under the lock hook, before each answer by UDP.
func (s *dnsServer) before(f func(reply func(func(*dnsmessage.Message)), from netip.AddrPort)) {
	s.hook.Lock()
	defer s.hook.Unlock()
	s.first = f
}

// zoneEntry is what a name has. A name that is not in the zone does not
// exist.
type zoneEntry struct {
	ttl       uint32
	data      []string // addresses, or one alias
	fails     dnsmessage.RCode
	truncated bool // by UDP
	lowered   bool // the question comes back in lower case
}

func newDNSServer(t *testing.T, addr string) *dnsServer {
	t.Helper()
	s := &dnsServer{t: t, zone: make(map[string]zoneEntry), seen: make(map[string]int)}
	udp, err := net.ListenUDP("udp4", net.UDPAddrFromAddrPort(netip.MustParseAddrPort(addr)))
	if err != nil {
		t.Fatal(err)
	}
	s.addr = udp.LocalAddr().(*net.UDPAddr).AddrPort()
	tcp, err := net.ListenTCP("tcp4", net.TCPAddrFromAddrPort(s.addr))
	if err != nil {
		t.Fatal(err)
	}
	var served sync.WaitGroup
	t.Cleanup(func() {
		udp.Close()
		tcp.Close()
		served.Wait()
	})
	served.Go(func() { s.serveUDP(udp) })
	served.Go(func() { s.serveTCP(tcp) })
	return s
}

// set gives a name what it has from now on; an empty entry removes it.
func (s *dnsServer) set(name string, e zoneEntry) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.zone[name] = e; e.data == nil && e.fails == 0 {
		delete(s.zone, name)
	}
}

func (s *dnsServer) count(what string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.seen[what]
}

func (s *dnsServer) answer(network string, msg []byte) dnsmessage.Message {
	var m dnsmessage.Message
	if err := m.Unpack(msg); err != nil || len(m.Questions) != 1 {
		s.t.Errorf("a question that is none: % x", msg)
		return m
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	q := &m.Questions[0]
	owner := canonical(q.Name.String())
	s.seen[network+" "+owner]++
	e, ok := s.zone[owner]
	m.Response = true
	m.RCode = e.fails
	if !ok {
		m.RCode = dnsmessage.RCodeNameError
	}
	if m.Truncated = e.truncated && network == "udp"; m.Truncated {
		return m
	}
	if e.lowered {
		q.Name = dnsmessage.MustNewName(owner + ".")
	}
	for len(e.data) > 0 {
		next := zoneEntry{}
		for _, d := range e.data {
			r := record(s.t, owner+".", e.ttl, d)
			switch r.Body.(type) {
			case *dnsmessage.CNAMEResource:
				m.Answers = append(m.Answers, r)
				owner = canonical(d)
				next = s.zone[owner]
			case *dnsmessage.AResource:
				if q.Type == dnsmessage.TypeA {
					m.Answers = append(m.Answers, r)
				}
			default:
				if q.Type == dnsmessage.TypeAAAA {
					m.Answers = append(m.Answers, r)
				}
			}
		}
		e = next
	}
	return m
}

func (s *dnsServer) pack(m dnsmessage.Message) []byte {
	msg, err := m.Pack()
	if err != nil {
		s.t.Error(err)
	}
	return msg
}

func (s *dnsServer) serveUDP(conn *net.UDPConn) {
	buf := make([]byte, 4096)
	for {
		n, from, err := conn.ReadFromUDPAddrPort(buf)
		if err != nil {
			return
		}
		m := s.answer("udp", buf[:n])
		s.hook.Lock()
		if s.first != nil {
			s.first(func(change func(*dnsmessage.Message)) {
				forged := m
				forged.Questions = append([]dnsmessage.Question(nil), m.Questions...)
				change(&forged)
				conn.WriteToUDPAddrPort(s.pack(forged), from)
			}, from)
		}
		s.hook.Unlock()
		conn.WriteToUDPAddrPort(s.pack(m), from)
	}
}

func (s *dnsServer) serveTCP(l net.Listener) {
	for {
		conn, err := l.Accept()
		if err != nil {
			return
		}
		var length [2]byte
		if _, err := io.ReadFull(conn, length[:]); err == nil {
			buf := make([]byte, binary.BigEndian.Uint16(length[:]))
			if _, err := io.ReadFull(conn, buf); err == nil {
				msg := s.pack(s.answer("tcp", buf))
				conn.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(msg))), msg...))
			}
		}
		conn.Close()
	}
}
