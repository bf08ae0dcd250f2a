package filter

import (
	"fmt"
	"slices"
)

// Direction is the way of a packet as the host sees it. The zero value is
// invalid.
type Direction uint8

// The directions.
const (
	Outbound Direction = iota + 1 // the host sends it
	Inbound                       // the host receives it
	Forward                       // the host passes it on for others
)

// Directions are all directions there are.
var Directions = [...]Direction{Outbound, Inbound, Forward}

// String returns the direction's name.
func (d Direction) String() string {
	switch d {
	case Outbound:
		return "outbound"
	case Inbound:
		return "inbound"
	case Forward:
		return "forward"
	}
	return "invalid direction"
}

// Context is what filters ask about a packet that its headers do not show.
// What is unknown is zero, and then filters that ask for it do not match.
type Context struct {
	Direction Direction
	Interface Interface // by which it comes or goes; of a forwarded packet, by which it goes
	State     State
	Broadcast bool // its destination is a broadcast address of the host's networks
	Own       bool // the key exchange or the engine sent it; or, of an ICMP error, what it quotes, as connection tracking knows
}

// Interface is a network interface of the host. The zero value is an unknown
// one.
type Interface struct {
	Name   string
	Remote bool // a point-to-point link or tunnel, such as PPP, and not a LAN
}

// State is a packet's place in its connection, as connection tracking has it.
// The zero value is unknown.
type State uint8

// The states.
const (
	StateNew      State = iota + 1 // no connection is known yet
	StateOriginal                  // of a known connection, from the end that began it
	StateReply                     // of a known connection, from the other end
	StateInvalid                   // fits no connection
)

// String returns the state's name.
func (s State) String() string {
	switch s {
	case StateNew:
		return "new"
	case StateOriginal:
		return "original"
	case StateReply:
		return "reply"
	case StateInvalid:
		return "invalid"
	}
	return "unknown"
}

// Stage says which states a stateful filter's half matches: the straight half
// what begins a connection and goes on with it, the mirrored half the answers.
// The zero value matches any state.
type Stage uint8

// The stages.
const (
	AnyStage   Stage = iota
	Beginnings       // StateNew and StateOriginal
	Answers          // StateReply
)

// Contains reports whether a packet in a state is of the stage.
func (g Stage) Contains(s State) bool {
	switch g {
	case AnyStage:
		return true
	case Beginnings:
		return s == StateNew || s == StateOriginal
	case Answers:
		return s == StateReply
	}
	return false
}

// ConnectionKind says which interfaces a Connection is.
type ConnectionKind uint8

// The kinds of connections.
const (
	ConnectionAll       ConnectionKind = iota // every interface
	ConnectionLAN                             // those that are no point-to-point links
	ConnectionRemote                          // point-to-point links and tunnels, such as PPP
	ConnectionInterface                       // the one of a name
)

// Connection is the interfaces on which a filter holds. It is comparable; the
// zero value is every interface.
type Connection struct {
	Kind ConnectionKind
	Name string // with ConnectionInterface
}

// Contains reports whether the filter holds on an interface. An unknown
// interface is only in the connection of all.
func (c Connection) Contains(i Interface) bool {
	switch c.Kind {
	case ConnectionAll:
		return true
	case ConnectionLAN:
		return i.Name != "" && !i.Remote
	case ConnectionRemote:
		return i.Name != "" && i.Remote
	case ConnectionInterface:
		return i.Name != "" && i.Name == c.Name
	}
	return false
}

// String writes the connection as the rule file does.
func (c Connection) String() string {
	switch c.Kind {
	case ConnectionAll:
		return "all"
	case ConnectionLAN:
		return "lan"
	case ConnectionRemote:
		return "remote"
	case ConnectionInterface:
		return c.Name
	}
	return fmt.Sprintf("invalid connection %d", c.Kind)
}

// fixedBits is the connection's share of the weight, 0 to 2.
func (c Connection) fixedBits() uint32 {
	switch c.Kind {
	case ConnectionAll:
		return 0
	case ConnectionInterface:
		return 2
	}
	return 1
}

// RemoteLink reports whether interfaces of a hardware type (ARPHRD in
// linux/if_arp.h) are point-to-point links or tunnels: SLIP and its kind, PPP,
// HDLC, raw IP, IP in IP, IPv6 in IPv4, GRE, and devices without a link layer
// such as TUN and WireGuard.
func RemoteLink(hardware uint16) bool { return slices.Contains(RemoteLinks, hardware) }

// RemoteLinks are the hardware types of which RemoteLink is true.
var RemoteLinks = []uint16{256, 257, 258, 259, 512, 513, 519, 768, 769, 776, 778, 823, 65534}
