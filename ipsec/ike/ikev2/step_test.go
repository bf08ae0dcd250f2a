package ikev2

import (
	"io"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ipsecfw/ipsecfw/ipsec"
	"github.com/ipsecfw/ipsecfw/ipsec/ike"
	"github.com/ipsecfw/ipsecfw/ipsec/ike/iketest"
	"github.com/ipsecfw/ipsecfw/ipsec/ike/wire"
)

// steps is two hosts with an IKE SA, a Child SA, and a test that carries their
// messages by hand, one at a time and in the order that it likes.
type steps struct {
	t    *testing.T
	sim  *iketest.Sim
	a, b *iketest.Host
	said map[*iketest.Host][]*letter // and not taken yet
	// nonce is the first octet of the nonces of a host, which decides who wins.
	nonce map[*iketest.Host]byte
}

// letter is a message with what it says in the notation of the RFCs.
type letter struct {
	to   *iketest.Host
	says string
	data ike.Datagram
}

// lead sets the first octet of all nonces.
type lead struct {
	io.Reader
	first func() byte
}

func (l lead) Read(p []byte) (int, error) {
	n, err := l.Reader.Read(p)
	if len(p) == nonceLen {
		p[0] = l.first()
	}
	return n, err
}

// newSteps returns two hosts after IKE_SA_INIT and IKE_AUTH, which a began.
func newSteps(t *testing.T, change ...func(*iketest.Host)) *steps {
	t.Helper()
	s := &steps{t: t, sim: iketest.NewSim(1, time.Unix(1e9, 0)), said: map[*iketest.Host][]*letter{}, nonce: map[*iketest.Host]byte{}}
	add := func(addr string) *iketest.Host {
		h := s.sim.Add(&iketest.Host{
			Addr: netip.MustParseAddr(addr), Children: []ike.ChildPolicy{tunnel()},
			Policy: ike.Policy{
				Auth: []ike.AuthMethod{secret("staff")}, Proposals: []ipsec.Proposal{proposalPRF(ipsec.PRFHMACSHA256)},
				FragmentSize: -1, Window: 4,
			},
		})
		h.Responder = func(c ike.MachineConfig) ike.Machine { return NewResponder(s.config(h, c)) }
		for _, f := range change {
			f(h)
		}
		return h
	}
	s.a, s.b = add("10.0.0.1"), add("10.0.0.2")
	m := NewInitiator(s.config(s.a, s.a.Config(s.b.Addr)))
	if err := s.a.Do(m, ike.Acquire{Child: s.a.Children[0], Local: one(s.a.Addr), Remote: one(s.b.Addr)}); err != nil {
		t.Fatal(err)
	}
	s.sim.Run(time.Second)
	if len(s.a.Alive()) != 1 || len(s.b.Alive()) != 1 {
		t.Fatalf("not connected: %v %v", s.a.Failed, s.b.Failed)
	}
	s.said = map[*iketest.Host][]*letter{}
	s.sim.Mangle = func(from, to netip.AddrPort, data []byte) []byte {
		h, other := s.a, s.b
		if from.Addr() == s.b.Addr {
			h, other = s.b, s.a
		}
		for _, l := range s.said[h] {
			if l.to == nil {
				l.to, l.data = other, ike.Datagram{Local: to, Remote: from, Data: slices.Clone(data)}
				return nil
			}
		}
		t.Errorf("%s sent something without a trace", h.Addr)
		return nil
	}
	return s
}

// config lets the test see what a host says and chooses.
func (s *steps) config(h *iketest.Host, c ike.MachineConfig) ike.MachineConfig {
	c.Rand = lead{c.Rand, func() byte { return s.nonce[h] }}
	c.Trace = func(m ike.Message) {
		if m.Sent {
			s.said[h] = append(s.said[h], &letter{says: notation(m)})
		}
	}
	return c
}

// notation writes a message as in "CREATE_CHILD_SA {SA, Nonce, KE}", and an
// answer as in "… = {SA, Nonce, KE}". What does not matter to exchanges that
// collide is left out.
func notation(m ike.Message) string {
	var parts []string
	for _, p := range m.Payloads {
		switch p := p.(type) {
		case *wire.Notify:
			switch p.Kind {
			case wire.ESPTFCPaddingNotSupported, wire.SetWindowSize:
			default:
				parts = append(parts, "N("+p.Kind.String()+")")
			}
		case *wire.Delete:
			parts = append(parts, "D("+p.Protocol.String()+")")
		default:
			parts = append(parts, p.Type().String())
		}
	}
	is := " "
	if m.Header.Response {
		is = " = "
	}
	return m.Header.Exchange.String() + is + "{" + strings.Join(parts, ", ") + "}"
}

func (s *steps) machine(h *iketest.Host) *SA {
	s.t.Helper()
	if len(h.Machines) != 1 {
		s.t.Fatalf("%s has %d IKE SAs", h.Addr, len(h.Machines))
	}
	return h.Machines[0].(*SA)
}

// do gives an event to a host.
func (s *steps) do(h *iketest.Host, ev ike.Event) {
	s.t.Helper()
	if err := h.Do(s.machine(h), ev); err != nil {
		s.t.Fatalf("%s: %v", h.Addr, err)
	}
}

// rekey has a host replace its Child SA.
func (s *steps) rekey(h *iketest.Host) {
	s.t.Helper()
	s.do(h, ike.RekeyChild{InSPI: h.Alive()[0]})
}

// says takes the next message that a host has said, which must be this one.
func (s *steps) says(h *iketest.Host, want string) *letter {
	s.t.Helper()
	if len(s.said[h]) == 0 {
		s.t.Fatalf("%s says nothing, want %s", h.Addr, want)
	}
	l := s.said[h][0]
	s.said[h] = s.said[h][1:]
	if l.says != want {
		s.t.Fatalf("%s says %s, want %s", h.Addr, l.says, want)
	}
	return l
}

// quiet fails if anything was said that no step has taken.
func (s *steps) quiet() {
	s.t.Helper()
	for _, h := range []*iketest.Host{s.a, s.b} {
		for _, l := range s.said[h] {
			s.t.Fatalf("%s says %s, want nothing", h.Addr, l.says)
		}
	}
}

// recv has a message arrive.
func (s *steps) recv(l *letter) {
	s.t.Helper()
	if err := l.to.Do(s.machine(l.to), l.data); err != nil {
		s.t.Fatalf("%s gets %s: %v", l.to.Addr, l.says, err)
	}
}

// wait lets time pass at both ends.
func (s *steps) wait(d time.Duration) { s.sim.Run(d) }

// until lets time pass until a host says something.
func (s *steps) until(h *iketest.Host) {
	s.t.Helper()
	for range 1000 {
		if len(s.said[h]) > 0 {
			return
		}
		s.wait(100 * time.Millisecond)
	}
	s.t.Fatalf("%s says nothing", h.Addr)
}

// exchange carries a request and its answer.
func (s *steps) exchange(from *iketest.Host, request, answer string) {
	s.t.Helper()
	l := s.says(from, request)
	s.recv(l)
	s.recv(s.says(l.to, answer))
}

// settled fails unless nothing is under way, and both ends have one IKE SA, the
// same, and these many Child SAs, the same, whose keys agree.
func (s *steps) settled(children int) {
	s.t.Helper()
	s.quiet()
	a, b := s.machine(s.a), s.machine(s.b)
	for _, m := range []*SA{a, b} {
		if m.state != Established || m.rival != nil || len(m.former)+len(m.queue)+len(m.unfinished) != 0 || !m.cur.ours.idle() {
			s.t.Errorf("%s is %s with %d former sessions, rival %v, %d unfinished, %d tasks to do, idle %v",
				m.local, m.state, len(m.former), m.rival != nil, len(m.unfinished), len(m.queue), m.cur.ours.idle())
		}
	}
	if a.cur.spiI != b.cur.spiI || a.cur.spiR != b.cur.spiR || a.cur.initiator == b.cur.initiator {
		s.t.Errorf("SPIs of the IKE SA: %x/%x and %x/%x", a.cur.spiI, a.cur.spiR, b.cur.spiI, b.cur.spiR)
	}
	if !slices.Equal(a.cur.keys.d, b.cur.keys.d) || slices.Max(a.cur.keys.d) == 0 {
		s.t.Error("SK_d differs")
	}
	x, y := s.alive(s.a), s.alive(s.b)
	if len(x) != children || len(y) != children || len(a.children) != children || len(b.children) != children {
		s.t.Fatalf("%d and %d Child SAs, want %d: %v %v", len(x), len(y), children, s.a.Failed, s.b.Failed)
	}
	for _, i := range x {
		j := slices.IndexFunc(y, func(j *ipsec.ChildSA) bool { return j.InSPI == i.OutSPI && j.OutSPI == i.InSPI })
		if j < 0 {
			s.t.Fatalf("b lacks %s", i.OutSPI)
		}
		if !slices.Equal(i.InKeys.Encr, y[j].OutKeys.Encr) || !slices.Equal(i.OutKeys.Encr, y[j].InKeys.Encr) {
			s.t.Errorf("the keys of %s differ", i.InSPI)
		}
	}
}

func (s *steps) alive(h *iketest.Host) (out []*ipsec.ChildSA) {
	for _, spi := range h.Alive() {
		for _, i := range h.Installed {
			if i.SA.InSPI == spi {
				out = append(out, i.SA)
			}
		}
	}
	return out
}

// failures fails unless the hosts report so many.
func (s *steps) failures(a, b int) {
	s.t.Helper()
	if len(s.a.Failed) != a || len(s.b.Failed) != b {
		s.t.Errorf("failures %v and %v, want %d and %d", s.a.Failed, s.b.Failed, a, b)
	}
}

// ask has a host say something that it would not say by itself.
func (s *steps) ask(h *iketest.Host, x wire.ExchangeType, ps ...wire.Payload) {
	s.t.Helper()
	s.machine(h).enqueue(&saying{x, ps})
	s.do(h, ike.Tick{})
}

// saying is a request of a test.
type saying struct {
	x  wire.ExchangeType
	ps []wire.Payload
}

func (t *saying) begin(*SA) (wire.ExchangeType, []wire.Payload, bool, error) {
	return t.x, t.ps, true, nil
}
func (*saying) end(*SA, *session, []wire.Payload) {}
func (*saying) schedule() ike.Schedule            { return ike.Patient }

// answer replaces what a host answers by something that it would not say.
func (s *steps) answer(l *letter, ps ...wire.Payload) {
	s.t.Helper()
	from := s.a
	if l.to == s.a {
		from = s.b
	}
	h, err := wire.ParseHeader(l.data.Data)
	if err != nil {
		s.t.Fatal(err)
	}
	ses := s.machine(from).session(h)
	if l.data.Data, err = wire.EncodeEncrypted(ses.header(h.Exchange, h.MessageID, true), ps, ses.out); err != nil {
		s.t.Fatal(err)
	}
}

const (
	rekeyReq   = "CREATE_CHILD_SA {N(REKEY_SA), SA, Nonce, TSi, TSr}"
	childReq   = "CREATE_CHILD_SA {SA, Nonce, TSi, TSr}"
	childResp  = "CREATE_CHILD_SA = {SA, Nonce, TSi, TSr}"
	ikeReq     = "CREATE_CHILD_SA {SA, Nonce, KE}"
	ikeResp    = "CREATE_CHILD_SA = {SA, Nonce, KE}"
	busyResp   = "CREATE_CHILD_SA = {N(TEMPORARY_FAILURE)}"
	noneResp   = "CREATE_CHILD_SA = {N(CHILD_SA_NOT_FOUND)}"
	delReq     = "INFORMATIONAL {D(ESP)}"
	delResp    = "INFORMATIONAL = {D(ESP)}"
	delIKE     = "INFORMATIONAL {D(IKE)}"
	empty      = "INFORMATIONAL {}"
	emptyResp  = "INFORMATIONAL = {}"
	linkResp   = "CREATE_CHILD_SA = {SA, Nonce, KE, N(ADDITIONAL_KEY_EXCHANGE)}"
	followReq  = "IKE_FOLLOWUP_KE {KE, N(ADDITIONAL_KEY_EXCHANGE)}"
	followResp = "IKE_FOLLOWUP_KE = {KE}"
	followMore = "IKE_FOLLOWUP_KE = {KE, N(ADDITIONAL_KEY_EXCHANGE)}"
	lostState  = "IKE_FOLLOWUP_KE = {N(STATE_NOT_FOUND)}"
)

// send puts what a machine has to send on the wire, when a test has made it say
// something behind its back.
func (s *steps) send(h *iketest.Host) {
	m := s.machine(h)
	for _, e := range m.effects {
		if e, ok := e.(ike.Send); ok {
			s.sim.Send(e.Local, e.Remote, e.Data)
		}
	}
	m.effects = nil
}

func spis(s ...ipsec.SPI) []ipsec.SPI { return s }

// anotherChild is a request for a Child SA.
func anotherChild(t *testing.T, m *SA) []wire.Payload {
	t.Helper()
	r, err := m.newChildRequest(ike.Acquire{Child: m.children[0].policy, Local: one(m.local.Addr()), Remote: one(m.remote.Addr())}, false, nil)
	if err != nil {
		t.Fatal(err)
	}
	return r.payloads()
}
