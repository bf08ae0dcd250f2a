package test

import (
	"bytes"
	"log/slog"
	"net"
	"net/netip"
	"sync/atomic"
	"time"

	"github.com/ipsecfw/ipsecfw/filter"
	"github.com/ipsecfw/ipsecfw/filter/nft"
	"github.com/ipsecfw/ipsecfw/filter/packet"
	"github.com/ipsecfw/ipsecfw/ipsec"
	"github.com/ipsecfw/ipsecfw/ipsec/esp"
	"github.com/ipsecfw/ipsecfw/nfq"
	"github.com/ipsecfw/ipsecfw/rules"
)

// The queues of the engine in a guest.
const guestQueue, guestTCPQueue = 4950, 4951

// parsePolicy makes the SPD of a rule file.
func parsePolicy(source string) (*filter.SPD, error) {
	f, err := rules.Parse("policy.yaml", []byte(source))
	if err != nil {
		return nil, err
	}
	return filter.New(f.Entries(rules.Addresses{}), filter.Settings{Exemptions: f.Exemptions})
}

// nativeRules are the rules of a policy for a kernel that has nft's statement
// queue, and neither tables of both families nor routes in rules.
func nativeRules(spd *filter.SPD) nft.Ruleset {
	return nft.Compile(spd, nft.Config{
		Interface: "ipsecfw0", InMark: 1, OutMark: 2, Queue: guestQueue, TCPQueue: guestTCPQueue, LogGroup: guestQueue,
		Features: nft.Features{NativeQueue: true}, Broadcasts: []netip.Addr{netip.MustParseAddr("10.1.1.255")},
	})
}

// secureEngine is our data path in a guest, with SAs by hand in the place of
// the key exchange.
type secureEngine struct {
	engine   *nfq.Engine
	acquired atomic.Int64
}

// running is the engine that runs in this guest, which has one at most.
var running *secureEngine

// Engine runs the data path under a policy until the guest ends.
func (*Guest) Engine(policy string, _ *struct{}) error {
	spd, err := parsePolicy(policy)
	if err != nil {
		return err
	}
	links, err := nfq.NewLinks()
	if err != nil {
		return err
	}
	s := &secureEngine{}
	s.engine = nfq.NewEngine(nfq.Config{Acquirer: s, Host: links, Log: slog.Default()})
	s.engine.SetSPD(spd)
	q, err := openBridgeQueue(guestQueue)
	if err != nil {
		return err
	}
	go func() {
		if err := q.read(s.engine.NewOutbound()); err != nil {
			slog.Error("reading the queue", "error", err)
		}
	}()
	running = s
	return nil
}

// Acquire implements nfq.Acquirer: an SA is there as soon as it is wanted.
func (s *secureEngine) Acquire(d filter.Decision, p *packet.Packet) {
	rule, local, remote := d.Entry.Name, p.Src, p.Dst
	go func() {
		s.acquired.Add(1)
		sa, err := manualSA(rule, local, remote)
		if err != nil {
			slog.Error("no SA", "error", err)
			return
		}
		s.engine.Install(sa, false)
		s.engine.Release(rule, remote)
	}()
}

// UnknownSPI implements nfq.Acquirer.
func (s *secureEngine) UnknownSPI(_, _ netip.AddrPort, _ ipsec.SPI) {}

// Moved implements nfq.Acquirer.
func (s *secureEngine) Moved(ipsec.SPI, netip.AddrPort, netip.AddrPort) {}

// manualSPI is the SPI of what is sent to an address under a manual SA.
func manualSPI(remote netip.Addr) ipsec.SPI {
	if remote.Is4() {
		return 0x1004
	}
	return 0x1006
}

// manualParams are what both ends of a manual SA know.
func manualParams(spi ipsec.SPI) ipsec.Params {
	return ipsec.Params{
		SPI:  spi,
		Encr: ipsec.Transform{Type: ipsec.TypeEncr, ID: ipsec.EncrAESGCM16, KeyBits: 256},
		Keys: ipsec.Keys{Encr: bytes.Repeat([]byte{byte(spi)}, 36)},
	}
}

func manualSA(rule string, local, remote netip.Addr) (*nfq.SA, error) {
	spi := manualSPI(remote)
	in := spi + 0x1000 // nobody answers
	o, err := esp.NewOutbound(manualParams(spi))
	if err != nil {
		return nil, err
	}
	i, err := esp.NewInbound(manualParams(in))
	if err != nil {
		return nil, err
	}
	all := func(a netip.Addr) []ipsec.TrafficSelector {
		return []ipsec.TrafficSelector{ipsec.SelectPrefix(netip.PrefixFrom(a, a.BitLen()), 0, 0, 0xffff)}
	}
	return &nfq.SA{
		ChildSA: &ipsec.ChildSA{
			Policy: rule, Mode: ipsec.Transport, Protocol: ipsec.ProtoESP, Encr: manualParams(spi).Encr, InSPI: in, OutSPI: spi,
			Local: all(local), Remote: all(remote),
			LocalAddr: netip.AddrPortFrom(local, 0), RemoteAddr: netip.AddrPortFrom(remote, 0),
		},
		Out: o, In: i, Path: nfq.NewPath(remote.Is6(), mtu), Since: time.Now(),
	}, nil
}

// EngineCounters are the counters of the engine in the guest, and how often it
// asked for an SA.
type EngineCounters struct {
	Packets  map[string]uint64
	Acquired int64
}

// EngineCounters returns them.
func (*Guest) EngineCounters(_ struct{}, c *EngineCounters) error {
	*c = EngineCounters{running.engine.Counters.Map(), running.acquired.Load()}
	return nil
}

// Datagram is what a guest sends by UDP.
type Datagram struct {
	To       string
	Contents []byte
}

// Send sends a datagram. What the host's rules drop is no error.
func (*Guest) Send(d Datagram, _ *struct{}) error {
	c, err := net.Dial("udp", d.To)
	if err != nil {
		return err
	}
	defer c.Close()
	c.Write(d.Contents)
	return nil
}
