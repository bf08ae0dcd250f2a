package doctor

import (
	"net/netip"
	"time"
)

// Facts is what was seen of a host. What could not be looked at is in Unseen,
// and its field is zero: of it nothing is judged.
type Facts struct {
	Unseen []Unseen
	Names  Names // of ipsecfw

	Privileges *Privileges
	Kernel     *Kernel
	TUN        string // why /dev/net/tun cannot be opened; empty if it can
	Now, Built time.Time
	Parameters map[string]string // of the kernel, by their names in sysctl(8)

	Daemon *Daemon // that answers at the socket; nil for none

	Interfaces []Interface
	Defaults   []Default
	Rules      []Rule

	Programs []Program // that do IPsec, or are daemons of ipsecfw, in this network namespace
	Ports    []Port
	Queues   []Queue
	XFRM     *XFRM
	Tables   *Tables
}

// Unseen is something that could not be looked at.
type Unseen struct{ What, Why, Do string }

// Names is what a daemon takes of the host's names and numbers.
type Names struct {
	Device       string
	InMark       uint32 // of what comes by the device
	RoutingTable int
	FirstRule    int // the priority of the first of its routing rules, Rules in all
	Rules        int
	Queues       []uint16
}

// Privileges are those of whoever asks.
type Privileges struct{ NetAdmin, NetRaw bool }

// Kernel is what it lacks of what the daemon cannot do without.
type Kernel struct{ Lacks []string }

// Daemon is the daemon that answers, and what its policy asks of the host.
type Daemon struct {
	Policy       string  // its name; empty with none in force
	Forwards     [2]bool // filters of what the host passes on: IPv4, IPv6
	Certificates bool
}

// Interface is a network interface.
type Interface struct {
	Name string
	Kind string // as ip-link(8) calls it: bridge, macvlan, tun …; empty for a device
	MTU  int    // bytes
	Up   bool
}

// Default is a default route.
type Default struct {
	IPv6      bool
	Interface string
	Via       netip.Addr
	Metric    int
}

// Rule is a rule of policy routing.
type Rule struct {
	IPv6       bool
	Priority   int
	Mark, Mask uint32 // no mark is asked for with the mask 0
	Inverted   bool
	In, Out    string // interfaces
	From, To   netip.Prefix
	Table      int
}

// Program is a process.
type Program struct {
	PID  int
	Name string
}

// Port is a UDP port that a program has.
type Port struct {
	Number uint16
	Holder Program // zero if it is not known
}

// Queue is a queue of NFQUEUE that a program reads.
type Queue struct {
	Number uint16
	Holder Program // zero if it is not known
}

// XFRM counts what the kernel's own IPsec has.
type XFRM struct{ Policies, States int }

// Tables is what the nftables tables of others do to ipsecfw's packets, each as
// a sentence.
type Tables struct {
	Drops      []string // what the key exchange or ESP need, or a filter secures or permits
	Perhaps    []string // what they would drop of an unknown peer's
	Translates []string // what a tunnel carries
	Legacy     []string // tables of iptables from before nftables
}
