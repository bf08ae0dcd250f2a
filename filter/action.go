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

// Direction is the way of a packet as the host sees it. The zero value is
// invalid.
type Direction uint8

// The directions.
const (
	Outbound Direction = iota + 1
	Inbound
)

// String returns the direction's name.
func (d Direction) String() string {
	switch d {
	case Outbound:
		return "outbound"
	case Inbound:
		return "inbound"
	}
	return "invalid direction"
}
