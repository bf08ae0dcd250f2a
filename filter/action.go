package filter

// Action is what a filter does with the packets that it matches. The zero
// value is invalid, so that a forgotten action never permits anything.
type Action uint8

// The actions.
const (
	Permit    Action = iota + 1 // let it pass unprotected
	Block                       // drop it
	Negotiate                   // let it pass only under IPsec
)

// String returns the rule file's keyword.
func (a Action) String() string {
	switch a {
	case Permit:
		return "permit"
	case Block:
		return "block"
	case Negotiate:
		return "negotiate"
	}
	return "invalid action"
}

// precedence orders actions between filters of the same weight: the lower
// one wins.
func (a Action) precedence() uint8 {
	switch a {
	case Block:
		return 0
	case Negotiate:
		return 1
	}
	return 2
}

// Options says more precisely what a filter's action is. It is comparable.
type Options struct {
	Reject          bool  // Block: tell the sender, by a TCP reset or an ICMP error
	AcceptUnsecured bool  // Negotiate: what comes in clear is let in
	AllowUnsecured  bool  // Negotiate: with a peer that does not speak IKE, in clear
	Log             bool  // report the packets to NFLOG under the rule's name
	Limit           Limit // Permit: drop what is beyond it
}

// Limit is a rate of packets. The zero value is no limit.
type Limit struct {
	Packets uint32 // in each Per
	Per     Unit
	Burst   uint32 // packets beyond the rate that pass at once
}

// Unit is a span of time that rates are given in.
type Unit uint8

// The units of rates.
const (
	PerSecond Unit = iota + 1
	PerMinute
	PerHour
)

// String returns the rule file's keyword.
func (u Unit) String() string {
	switch u {
	case PerSecond:
		return "second"
	case PerMinute:
		return "minute"
	case PerHour:
		return "hour"
	}
	return "invalid unit"
}
