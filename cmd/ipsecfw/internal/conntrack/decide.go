package conntrack

import (
	"net/netip"

	"github.com/ipsecfw/ipsecfw/filter"
	"github.com/ipsecfw/ipsecfw/filter/packet"
)

// judge decides on connections by a policy. It does no I/O and allocates
// nothing.
type judge struct {
	spd        *filter.SPD
	links      Links
	interfaces []filter.Interface
}

// fate is what becomes of a connection.
type fate struct {
	refused bool
	deleted bool   // its entry is to be deleted
	socket  socket // to be destroyed, unless zero
}

// socket is the TCP socket of a connection as its application sees it.
type socket struct{ local, remote netip.AddrPort }

// flow is one direction of a connection where the policy judges its packets.
type flow struct {
	direction filter.Direction
	packet    packet.Packet
}

func (j *judge) fate(e *entry) fate {
	original, reply, s, ok := j.flows(e)
	if !ok || !j.blocked(&original, filter.StateOriginal) && !j.blocked(&reply, filter.StateReply) {
		return fate{}
	}
	f := fate{refused: true}
	if e.original.protocol == packet.TCP {
		f.socket = s
	}
	// A connection that is refused only for the end that began it keeps its
	// entry. A stateful filter wants answers from that end, and what makes its
	// packets be refused is the entry, which says that they are none. Without
	// it the next packet of the other end would begin the connection anew, as
	// tracking picks up TCP in the middle (nf_conntrack_tcp_loose) and UDP
	// anywhere, and so open again what was to be cut.
	f.deleted = !j.opens(&reply, &original)
	return f
}

// opens reports whether the policy could let a connection begin with a packet
// of one flow, and have its answers from the other. The flow that began a
// refused connection cannot: no filter tells what begins a connection from
// what goes on with it.
func (j *judge) opens(begin, answer *flow) bool {
	return !j.blocked(begin, filter.StateNew) && !j.blocked(answer, filter.StateReply)
}

// blocked reports whether the packets of a flow are blocked, whatever their
// interface.
func (j *judge) blocked(f *flow, state filter.State) bool {
	for _, i := range j.interfaces {
		// An entry does not say whether IKE and ESP are the engine's. Were its
		// entries deleted, SAs that live on could lose packets.
		c := filter.Context{Direction: f.direction, Interface: i, State: state, Own: true}
		if j.spd.Decide(c, &f.packet).Action != filter.Block {
			return false
		}
	}
	return len(j.interfaces) > 0
}

// flows returns both directions of a connection as the policy meets their
// packets. ok is false when there is nothing to cut: between addresses of this
// host the policy meets none, and to many hosts there is no connection, for
// answers come from addresses of their own.
//
// Where an address is translated, a tuple has what the packets bear before,
// and the other tuple what they bear after: the original goes from
// original.src to original.dst on its one side, and from reply.dst to
// reply.src on the other. Outbound packets are judged when they are wholly
// translated. Inbound ones have their destination translated already when
// they are judged, and their source not yet, and so have forwarded ones.
func (j *judge) flows(e *entry) (original, reply flow, s socket, ok bool) {
	o, r := &e.original, &e.reply
	began, answers := j.local(o.src.Addr()), j.local(r.src.Addr())
	switch {
	case began && answers, filter.IsMulticast(o.dst.Addr()):
		return original, reply, s, false
	case began:
		original = flow{filter.Outbound, o.packet(r.dst, r.src)}
		reply = flow{filter.Inbound, r.packet(r.src, o.src)}
		s = socket{o.src, o.dst}
	case answers:
		original = flow{filter.Inbound, o.packet(o.src, r.src)}
		reply = flow{filter.Outbound, r.packet(o.dst, o.src)}
		s = socket{r.src, r.dst}
	default:
		original = flow{filter.Forward, o.packet(o.src, r.src)}
		reply = flow{filter.Forward, r.packet(r.src, o.src)}
	}
	return original, reply, s, true
}

// local reports whether an address is the host's. All of 127.0.0.0/8 is, and
// not only the address that the loopback interface bears.
func (j *judge) local(a netip.Addr) bool { return a.IsLoopback() || j.links.Local(a) }

// packet returns a packet of the tuple's protocol between two ends.
func (t *tuple) packet(src, dst netip.AddrPort) packet.Packet {
	p := packet.Packet{Src: src.Addr(), Dst: dst.Addr(), Protocol: t.protocol}
	if packet.HasPorts(t.protocol) {
		p.HasPorts, p.SrcPort, p.DstPort = true, src.Port(), dst.Port()
	}
	if t.hasICMP {
		p.HasICMP, p.ICMPType, p.ICMPCode = true, t.icmpType, t.icmpCode
	}
	return p
}

// distinct returns one interface of each kind that the policy tells apart,
// however many the host has: each that a filter names, and of the others one
// LAN and one remote interface.
func distinct(spd *filter.SPD, interfaces []filter.Interface) []filter.Interface {
	asked, named := false, map[string]bool{}
	for i := range spd.Entries() {
		c := spd.Entries()[i].Selector.Connection
		asked = asked || c.Kind != filter.ConnectionAll
		named[c.Name] = true
	}
	if !asked {
		return []filter.Interface{{}}
	}
	var out []filter.Interface
	seen := map[filter.Interface]bool{}
	for _, i := range interfaces {
		kind := i
		if !named[i.Name] {
			kind.Name = ""
		}
		if !seen[kind] {
			seen[kind] = true
			out = append(out, i)
		}
	}
	return out
}
