package ikev2

import (
	"encoding/binary"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/ipsecfw/ipsecfw/ipsec"
	"github.com/ipsecfw/ipsecfw/ipsec/ike"
	"github.com/ipsecfw/ipsecfw/ipsec/ike/iketest"
	"github.com/ipsecfw/ipsecfw/ipsec/ike/wire"
	"github.com/ipsecfw/ipsecfw/ipsec/xform"
)

// turncoat is a peer that began as one should, and then says what it likes, in
// whatever order, in messages that its keys protect. What it does it reads from
// bytes.
type turncoat struct {
	sim      *iketest.Sim
	self     netip.Addr
	victim   *iketest.Host
	ses      *session
	requests uint32
	data     []byte
}

// next returns the next byte of what it does, 0 at the end.
func (c *turncoat) next() byte {
	if len(c.data) == 0 {
		return 0
	}
	b := c.data[0]
	c.data = c.data[1:]
	return b
}

func (c *turncoat) bytes(n int) []byte {
	out := make([]byte, n)
	copy(out, c.data)
	c.data = c.data[min(n, len(c.data)):]
	return out
}

// spi returns the SPI of an SA of ESP that the victim has or had, or makes one
// up.
func (c *turncoat) spi() []byte {
	n := int(c.next())
	if len(c.victim.Installed) == 0 || n%4 == 3 {
		return binary.BigEndian.AppendUint32(nil, 0x1000+uint32(n))
	}
	sa := c.victim.Installed[n/2%len(c.victim.Installed)].SA
	if n%2 == 0 {
		return binary.BigEndian.AppendUint32(nil, uint32(sa.OutSPI))
	}
	return binary.BigEndian.AppendUint32(nil, uint32(sa.InSPI))
}

func (c *turncoat) group() uint16 {
	of := []uint16{ipsec.GroupX25519, ipsec.GroupP256, ipsec.GroupMLKEM768, ipsec.GroupNone, uint16(c.next())}
	return of[int(c.next())%len(of)]
}

// ke is a key exchange that may well be of its group.
func (c *turncoat) ke() wire.Payload {
	g := c.group()
	if key, err := xform.GenerateKey(g, iketest.Rand(uint64(c.next()))); err == nil && c.next()%4 > 0 {
		return &wire.KE{Group: g, Data: key.Public()}
	}
	return &wire.KE{Group: g, Data: c.bytes(1 + int(c.next()))}
}

func (c *turncoat) proposal(protocol ipsec.ProtocolID) ipsec.Proposal {
	p := ipsec.Proposal{Number: 1, Protocol: protocol, Transforms: []ipsec.Transform{{Type: ipsec.TypeEncr, ID: ipsec.EncrAESGCM16, KeyBits: 256}}}
	p.SPI = binary.BigEndian.AppendUint32(nil, 0x2000+uint32(c.next()))
	if protocol == ipsec.ProtoIKE {
		p.SPI = append(p.SPI, p.SPI...)
		p.Transforms = append(p.Transforms, ipsec.Transform{Type: ipsec.TypePRF, ID: ipsec.PRFHMACSHA256})
	} else {
		p.Transforms = append(p.Transforms, ipsec.Transform{Type: ipsec.TypeESN, ID: uint16(c.next() % 2)})
	}
	for n := c.next() % 4; n > 0; n-- {
		t := ipsec.TransformType(1 + c.next()%13)
		if c.next()%4 > 0 {
			t = ipsec.TypeGroup + ipsec.TransformType(c.next()%2)*(ipsec.TypeADDKE1-ipsec.TypeGroup)
		}
		p.Transforms = append(p.Transforms, ipsec.Transform{Type: t, ID: c.group()})
	}
	return p
}

func (c *turncoat) selectors(responder bool) wire.Payload {
	of := []string{"10.0.0.0/24", "10.0.0.1/32", "10.0.0.2/32", "0.0.0.0/0", "192.0.2.0/24", "::/0"}
	ts := &wire.TS{Responder: responder}
	for n := 1 + c.next()%3; n > 0; n-- {
		p := netip.MustParsePrefix(of[int(c.next())%len(of)])
		ts.Selectors = append(ts.Selectors, ipsec.SelectPrefix(p, []uint8{6, 0, 17}[c.next()%3], 0, 0xffff))
	}
	return ts
}

var notifications = []wire.NotifyType{
	wire.UnsupportedCriticalPayload, wire.InvalidIKESPI, wire.InvalidSyntax, wire.InvalidMessageID, wire.NoProposalChosen,
	wire.InvalidKEPayload, wire.AuthenticationFailed, wire.NoAdditionalSAs, wire.TSUnacceptable, wire.TemporaryFailure,
	wire.ChildSANotFound, wire.StateNotFound, wire.InitialContact, wire.SetWindowSize, wire.Cookie, wire.UseTransportMode,
	wire.RekeySA, wire.ESPTFCPaddingNotSupported, wire.NonFirstFragmentsAlso, wire.AuthLifetime, wire.ChildlessIKESupported,
	wire.FragmentationSupported, wire.SignatureHashAlgorithms, wire.UsePPK, wire.PPKIdentity, wire.NoPPKAuth,
	wire.IntermediateSupported, wire.AdditionalKeyExchange, 8191, 40959,
}

func (c *turncoat) notify() wire.Payload {
	n := &wire.Notify{Kind: notifications[int(c.next())%len(notifications)]}
	if n.Kind == wire.RekeySA || n.Kind == wire.ChildSANotFound || c.next()%8 == 0 {
		n.Protocol, n.SPI = ipsec.ProtoESP, c.spi()
	}
	n.Data = c.bytes(int([]byte{0, 0, 2, 4, 8, c.next()}[c.next()%6]))
	return n
}

// payload is any payload.
func (c *turncoat) payload() wire.Payload {
	switch c.next() % 16 {
	case 0:
		return &wire.SA{Proposals: []ipsec.Proposal{c.proposal(ipsec.ProtoESP)}}
	case 1:
		return &wire.SA{Proposals: []ipsec.Proposal{c.proposal(ipsec.ProtoIKE)}}
	case 2:
		return c.ke()
	case 3:
		return &wire.Nonce{Data: c.bytes(16 + int(c.next()%48))}
	case 4:
		return c.selectors(false)
	case 5:
		return c.selectors(true)
	case 6:
		return &wire.Delete{Protocol: ipsec.ProtoIKE}
	case 7:
		return &wire.Delete{Protocol: ipsec.ProtoESP, SPIs: []ipsec.SPI{ipsec.SPI(binary.BigEndian.Uint32(c.spi()))}}
	case 8:
		return &wire.ID{Responder: c.next()%2 == 0, Kind: wire.IDKind(c.next() % 14), Data: c.bytes(4)}
	case 9:
		return &wire.Auth{Method: wire.AuthMethod(c.next() % 15), Data: c.bytes(32)}
	case 10:
		return &wire.Cert{Encoding: wire.CertEncoding(c.next() % 16), Data: c.bytes(int(c.next()))}
	case 11:
		return &wire.Unknown{Kind: wire.PayloadType(100 + c.next()%100), Body: c.bytes(3)}
	}
	return c.notify()
}

// content is what stands in a message: what its exchange should have, or
// anything.
func (c *turncoat) content() (x wire.ExchangeType, ps []wire.Payload) {
	child := func() []wire.Payload {
		return []wire.Payload{
			&wire.SA{Proposals: []ipsec.Proposal{c.proposal(ipsec.ProtoESP)}}, &wire.Nonce{Data: c.bytes(32)},
			c.selectors(false), c.selectors(true),
		}
	}
	x = wire.CreateChildSA
	switch c.next() % 12 {
	case 0:
		ps = child()
	case 1:
		ps = append(child(), &wire.Notify{Protocol: ipsec.ProtoESP, Kind: wire.RekeySA, SPI: c.spi()})
	case 2:
		ps = append(child(), c.ke())
	case 3:
		ps = []wire.Payload{&wire.SA{Proposals: []ipsec.Proposal{c.proposal(ipsec.ProtoIKE)}}, &wire.Nonce{Data: c.bytes(32)}, c.ke()}
	case 4:
		ps = []wire.Payload{c.notify()}
	case 5:
		x = wire.Informational
	case 6:
		x, ps = wire.Informational, []wire.Payload{&wire.Delete{Protocol: ipsec.ProtoESP, SPIs: []ipsec.SPI{ipsec.SPI(binary.BigEndian.Uint32(c.spi()))}}}
	case 7:
		x, ps = wire.IKEIntermediate, []wire.Payload{c.ke()}
	case 8:
		x, ps = wire.IKEFollowupKE, []wire.Payload{c.ke(), &wire.Notify{Kind: wire.AdditionalKeyExchange, Data: c.bytes(int(c.next() % 9))}}
	default:
		of := []wire.ExchangeType{wire.IKEAuth, wire.CreateChildSA, wire.Informational, wire.IKEIntermediate, wire.IKEFollowupKE, wire.ExchangeType(c.next())}
		x = of[int(c.next())%len(of)]
		for n := c.next() % 6; n > 0; n-- {
			ps = append(ps, c.payload())
		}
	}
	return x, ps
}

// say sends one message: a request, or an answer to the victim's last one.
func (c *turncoat) say() {
	answer, delta := c.next(), c.next()
	x, ps := c.content()
	id := c.requests
	var asked *wire.Header
	for _, s := range c.victim.Sent {
		if h, err := wire.ParseHeader(s.Data); err == nil && !h.Response && h.Exchange != wire.IKESAInit && h.SPIi == c.ses.spiI {
			asked = &h
		}
	}
	response := answer%2 == 0 && asked != nil
	switch {
	case response:
		id = asked.MessageID
		if answer%8 > 0 {
			x = asked.Exchange
		}
	case delta < 200:
		c.requests++
	}
	if delta >= 200 {
		id += uint32(delta%8) - 4
	}
	if data, err := wire.EncodeEncrypted(c.ses.header(x, id, response), ps, c.ses.out); err == nil {
		c.sim.Send(netip.AddrPortFrom(c.self, 500), netip.AddrPortFrom(c.victim.Addr, 500), data)
	}
}

// stir has the victim do something of its own.
func (c *turncoat) stir(child ike.ChildPolicy, packet ike.Acquire) {
	if len(c.victim.Machines) == 0 {
		return
	}
	m := c.victim.Machines[0]
	var ev ike.Event = packet
	in := ipsec.SPI(binary.BigEndian.Uint32(c.spi()))
	switch c.next() % 6 {
	case 0:
		ev = ike.RekeyChild{InSPI: in}
	case 1:
		ev = ike.RekeyIKE{}
	case 2:
		ev = ike.DeleteChild{InSPI: in}
	case 3:
		ev = ike.Probe{}
	case 4:
		ev = ike.Tick{}
	}
	// What does not fit its state it refuses, which is well.
	_ = c.victim.Do(m, ev)
}

// FuzzOrder has a peer that holds the keys say valid messages in an order and
// with contents that no honest peer would choose, as initiator or as responder,
// from any moment of the first exchanges on. The other end must not panic, must
// hold no SA outside of its policy, and must be rid of everything once the peer
// has fallen silent.
func FuzzOrder(f *testing.F) {
	f.Add(false, uint8(9), []byte{1, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9})
	f.Add(true, uint8(9), []byte{1, 0, 1, 9, 9, 0, 0, 0, 1, 0, 3, 7, 7, 7, 1, 0, 6, 0})
	f.Add(true, uint8(3), []byte{1, 0, 7, 0, 1, 1, 1, 1, 0, 7, 3, 2, 1})
	f.Add(false, uint8(3), []byte{0, 0, 9, 0, 0, 1, 9, 1, 1, 9, 2, 2})
	f.Add(false, uint8(12), []byte("rekey, delete, follow up, and begin again from the end"))
	f.Fuzz(func(t *testing.T, responds bool, when uint8, data []byte) {
		var (
			a, b  = netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("10.0.0.2")
			hosts = ipsec.SelectPrefix(netip.MustParsePrefix("10.0.0.0/24"), 6, 0, 0xffff)
			child = ike.ChildPolicy{
				Name: "all", Mode: ipsec.Tunnel,
				Proposals: []ipsec.Proposal{{Protocol: ipsec.ProtoESP, Transforms: []ipsec.Transform{
					{Type: ipsec.TypeEncr, ID: ipsec.EncrAESGCM16, KeyBits: 256},
					{Type: ipsec.TypeGroup, ID: ipsec.GroupX25519}, {Type: ipsec.TypeGroup, ID: ipsec.GroupNone},
					{Type: ipsec.TypeADDKE1, ID: ipsec.GroupMLKEM768}, {Type: ipsec.TypeADDKE1, ID: ipsec.GroupNone},
				}}},
				Local: []ipsec.TrafficSelector{hosts}, Remote: []ipsec.TrafficSelector{hosts},
			}
			packet = ike.Acquire{
				Child:  child,
				Local:  ipsec.SelectPrefix(netip.PrefixFrom(a, 32), 6, 0, 0xffff),
				Remote: ipsec.SelectPrefix(netip.PrefixFrom(b, 32), 6, 0, 0xffff),
			}
			policy = ike.Policy{Auth: []ike.AuthMethod{ike.PresharedKey{Secret: []byte("key")}}}
		)
		sim := iketest.NewSim(1, time.Unix(1e9, 0))
		sim.Faults.Delay = time.Millisecond
		var ends []*iketest.Host
		for _, addr := range []netip.Addr{a, b} {
			ends = append(ends, sim.Add(&iketest.Host{
				Addr: addr, Policy: policy, Children: []ike.ChildPolicy{child},
				Responder: func(c ike.MachineConfig) ike.Machine { return NewResponder(c) },
			}))
		}
		m := NewInitiator(ends[0].Config(b))
		if err := ends[0].Do(m, packet); err != nil {
			t.Fatal(err)
		}
		evil, victim := ends[0], ends[1]
		if responds {
			evil, victim = victim, evil
		}
		sim.Run(time.Duration(when%16) * 500 * time.Microsecond)
		if len(evil.Machines) == 0 {
			return
		}
		c := &turncoat{sim: sim, self: evil.Addr, victim: victim, ses: evil.Machines[0].(*SA).cur, data: data[:min(len(data), 512)]}
		if c.ses == nil || c.ses.out == nil {
			return // there are no keys yet
		}
		for _, s := range evil.Sent {
			if h, err := wire.ParseHeader(s.Data); err == nil && !h.Response {
				c.requests++
			}
		}
		evil.Machines, evil.Responder = nil, nil
		for len(c.data) > 0 {
			if c.next()%4 == 0 {
				c.stir(child, packet)
			} else {
				c.say()
			}
			sim.Run(time.Duration(c.next()%8) * 5 * time.Millisecond)
		}
		sim.Run(10 * time.Minute)
		if n := len(victim.Machines) + len(victim.Alive()); n > 0 {
			t.Errorf("%d IKE SAs and %d Child SAs are left of a peer that is silent", len(victim.Machines), len(victim.Alive()))
		}
		for _, i := range victim.Installed {
			for _, s := range slices.Concat(i.SA.Local, i.SA.Remote) {
				if !hosts.Contains(s) {
					t.Errorf("installed the selector %s", s)
				}
			}
			if i.SA.OutSPI < 256 || i.SA.Mode != ipsec.Tunnel || !i.SA.Encr.AEAD() {
				t.Errorf("installed %+v", i.SA)
			}
		}
	})
}
