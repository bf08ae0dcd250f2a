package nfq

import (
	"net/netip"
	"sync"
	"time"

	"github.com/ipsecfw/ipsecfw/filter/packet"
)

// Bounds of the flows with peers behind NATs.
const (
	maxNATFlows        = 1 << 16
	maxNATFlowsPerPeer = 1 << 12
	natPortTries       = 128 // ports that are tried for a flow
	natEvict           = 64  // flows that make room at once
)

// How long a flow may be silent before it is forgotten (RFC 5382 section 5, RFC
// 4787 section 4.3, RFC 5508 section 3.2).
const (
	natIdleTCP     = 2*time.Hour + 4*time.Minute
	natIdleOpening = 4 * time.Minute // of TCP that is opened or closed
	natIdleUDP     = 5 * time.Minute
	natIdleEcho    = time.Minute
)

// echo says who asks in an ICMP echo; in other flows it is 0.
type echo uint8

const (
	theyPing echo = iota + 1
	wePing
)

// natTuple names a flow with an address that several peers may have in common.
// The remote port is the identifier of an ICMP echo, and 0 in protocols that
// have neither.
type natTuple struct {
	local, remote         netip.Addr
	protocol              uint8
	echo                  echo
	localPort, remotePort uint16
}

// movable reports whether a flow may have another remote port.
func (t natTuple) movable() bool {
	return t.echo != 0 || t.protocol == packet.TCP || t.protocol == packet.UDP
}

// natPeer is one of the peers at an address: the hosts behind one NAT, and the
// NAT itself. It is known by the address that it has behind the NAT, and who it
// has proved to be, but not by its port, which the NAT may change at any time.
// Peers without a name, which have proved nothing, could claim the address of
// another: their ports count too, as they were at first.
type natPeer struct {
	key            natPeerKey
	sas            int // pairs of SAs at work
	flows          int
	oldest, newest *natFlow
}

type natPeerKey struct {
	outer, own netip.Addr
	name       string
	port       uint16
}

// natFlow is a flow with a peer. The stack knows it by another remote port than
// the peer if another peer had the flow of this name already.
type natFlow struct {
	peer         *natPeer
	stack        natTuple
	port         uint16 // the remote port as the peer knows it
	seen         time.Time
	open         bool     // of TCP: it is neither opened nor closed just now
	closing      bool     // of TCP: an end has said that it ends
	older, newer *natFlow // of the same peer, by when they were last seen
}

// natWire is a flow as the peer knows it.
type natWire struct {
	peer *natPeer
	flow natTuple
}

func (f *natFlow) wire() natWire {
	t := f.stack
	t.remotePort = f.port
	return natWire{f.peer, t}
}

// natFlows is the flows with peers behind NATs. Two peers behind one NAT have
// one address here, and may use the same ports: what the stack would take for
// one flow are two. The first of them keeps its port, the other one gets another
// (RFC 3948 section 5.2). Flows are remembered from their first packet on, as
// the other may begin at any time. What goes out finds its peer by its flow.
//
// It is bounded, each peer's part of it too: a peer that has too many flows has
// its own oldest forgotten. It reads no clock. It is safe for concurrent use.
type natFlows struct {
	mu      sync.Mutex
	peers   map[natPeerKey]*natPeer
	byStack map[natTuple]*natFlow
	byWire  map[natWire]*natFlow
	last    uint16    // the port that was given last
	swept   time.Time // when the silent flows were last forgotten
}

// join returns the peer that an SA is with, and counts its SAs.
func (n *natFlows) join(k natPeerKey) *natPeer {
	if k.name != "" {
		k.port = 0
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	p := n.peers[k]
	if p == nil {
		if n.peers == nil {
			n.peers, n.byStack, n.byWire = map[natPeerKey]*natPeer{}, map[natTuple]*natFlow{}, map[natWire]*natFlow{}
		}
		p = &natPeer{key: k}
		n.peers[k] = p
	}
	p.sas++
	return p
}

// leave discounts an SA with a peer. Its flows stay: it may get another SA.
func (n *natFlows) leave(p *natPeer) {
	n.mu.Lock()
	defer n.mu.Unlock()
	p.sas--
	n.forgetPeer(p)
}

func (n *natFlows) forgetPeer(p *natPeer) {
	if p.sas == 0 && p.flows == 0 && n.peers[p.key] == p {
		delete(n.peers, p.key)
	}
}

// current is a peer as it is now: it may have been forgotten, and come back.
func (n *natFlows) current(p *natPeer) *natPeer {
	if q := n.peers[p.key]; q != nil {
		return q
	}
	return p
}

// inbound notes a packet of a flow that came from a peer, and returns the remote
// port that the stack is to see. ok is false if it must not see the packet:
// there is no port left, or its protocol has none that could be changed.
func (n *natFlows) inbound(p *natPeer, t natTuple, flags uint8, now time.Time) (port uint16, ok bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	p = n.current(p)
	if f := n.live(n.byWire[natWire{p, t}], now); f != nil {
		n.touch(f, flags, now)
		return f.stack.remotePort, true
	}
	f := &natFlow{peer: p, stack: t, port: t.remotePort}
	if !n.place(f, now) {
		return 0, false
	}
	n.add(f, now)
	n.touch(f, flags, now)
	return f.stack.remotePort, true
}

// outbound finds the flow of a packet that goes out, as the stack knows it. It
// returns its peer and the port that the peer knows, or nil if there is none.
func (n *natFlows) outbound(t natTuple, flags uint8, now time.Time) (p *natPeer, port uint16) {
	n.mu.Lock()
	defer n.mu.Unlock()
	f := n.live(n.byStack[t], now)
	if f == nil {
		return nil, 0
	}
	n.touch(f, flags, now)
	return f.peer, f.port
}

// whose is outbound for a packet that is none of the flow itself.
func (n *natFlows) whose(t natTuple, now time.Time) (p *natPeer, port uint16) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if f := n.live(n.byStack[t], now); f != nil {
		return f.peer, f.port
	}
	return nil, 0
}

// begin notes a flow that this host begins with a peer, unless there is one of
// its name.
func (n *natFlows) begin(p *natPeer, t natTuple, flags uint8, now time.Time) {
	n.mu.Lock()
	defer n.mu.Unlock()
	p = n.current(p)
	if n.live(n.byStack[t], now) != nil || n.live(n.byWire[natWire{p, t}], now) != nil {
		return
	}
	f := &natFlow{peer: p, stack: t, port: t.remotePort}
	n.add(f, now)
	n.touch(f, flags, now)
}

// known returns the remote port that the stack knows a flow of a peer by, if
// there is such a flow.
func (n *natFlows) known(p *natPeer, t natTuple, now time.Time) (port uint16, ok bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	f := n.live(n.byWire[natWire{n.current(p), t}], now)
	if f == nil {
		return 0, false
	}
	return f.stack.remotePort, true
}

// place finds a name for a flow that the stack has no other of.
func (n *natFlows) place(f *natFlow, now time.Time) bool {
	if n.live(n.byStack[f.stack], now) == nil {
		return true
	}
	if !f.stack.movable() {
		return false
	}
	for range natPortTries {
		n.last++
		f.stack.remotePort = alike(n.last, f.port, f.stack.echo != 0)
		if n.live(n.byStack[f.stack], now) == nil {
			return true
		}
	}
	return false
}

// alike turns a number into a port that means no more than another: those below
// 1024 are for what the peer's system trusts, and those below 512 are known
// (RFC 4787 section 4.2.2). The identifier of an echo means nothing.
func alike(n, port uint16, id bool) uint16 {
	switch {
	case id:
		return n
	case port < 1024:
		return 512 + n%512
	}
	return 1024 + n%(65536-1024)
}

// live returns a flow unless it was silent for too long, which ends it.
func (n *natFlows) live(f *natFlow, now time.Time) *natFlow {
	if f == nil || now.Sub(f.seen) < f.idle() {
		return f
	}
	n.remove(f)
	return nil
}

func (f *natFlow) idle() time.Duration {
	switch {
	case f.stack.echo != 0:
		return natIdleEcho
	case f.stack.protocol != packet.TCP:
		return natIdleUDP
	case f.open:
		return natIdleTCP
	}
	return natIdleOpening
}

// add makes room for a flow and puts it in.
func (n *natFlows) add(f *natFlow, now time.Time) {
	p := f.peer
	if p.flows >= maxNATFlowsPerPeer {
		n.remove(p.oldest)
	}
	if len(n.byStack) >= maxNATFlows {
		n.makeRoom(now)
	}
	n.peers[p.key] = p // its last flow may just have made room
	f.seen = now
	n.byStack[f.stack], n.byWire[f.wire()] = f, f
	p.flows++
	p.append(f)
}

// makeRoom forgets the flows that were silent for too long, which it looks for
// once a second, or else the oldest ones of who has most.
func (n *natFlows) makeRoom(now time.Time) {
	if now.Sub(n.swept) >= time.Second {
		n.swept = now
		for _, f := range n.byStack {
			n.live(f, now)
		}
		if len(n.byStack) < maxNATFlows {
			return
		}
	}
	var most *natPeer
	for _, p := range n.peers {
		if most == nil || p.flows > most.flows {
			most = p
		}
	}
	for range natEvict {
		if most.oldest != nil {
			n.remove(most.oldest)
		}
	}
}

func (n *natFlows) remove(f *natFlow) {
	delete(n.byStack, f.stack)
	delete(n.byWire, f.wire())
	f.peer.unlink(f)
	f.peer.flows--
	n.forgetPeer(f.peer)
}

// TCP flags (RFC 9293 section 3.1).
const (
	tcpFIN = 1 << 0
	tcpSYN = 1 << 1
	tcpRST = 1 << 2
)

// touch notes a packet of a flow, which makes it the newest of its peer.
func (n *natFlows) touch(f *natFlow, flags uint8, now time.Time) {
	f.seen = now
	switch {
	case flags&(tcpFIN|tcpSYN|tcpRST) != 0:
		f.open = false
		f.closing = flags&tcpSYN == 0
	case !f.closing:
		f.open = true
	}
	if f.peer.newest != f {
		f.peer.unlink(f)
		f.peer.append(f)
	}
}

func (p *natPeer) append(f *natFlow) {
	f.older, f.newer = p.newest, nil
	if p.newest != nil {
		p.newest.newer = f
	} else {
		p.oldest = f
	}
	p.newest = f
}

func (p *natPeer) unlink(f *natFlow) {
	if f.older != nil {
		f.older.newer = f.newer
	} else {
		p.oldest = f.newer
	}
	if f.newer != nil {
		f.newer.older = f.older
	} else {
		p.newest = f.older
	}
	f.older, f.newer = nil, nil
}
