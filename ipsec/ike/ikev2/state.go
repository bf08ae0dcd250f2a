package ikev2

import (
	"fmt"

	"github.com/ipsecfw/ipsecfw/ipsec/ike"
)

// State is how far an IKE SA has come.
type State uint8

// The states.
const (
	Idle         State = iota // nothing sent yet
	InitSent                  // initiator: IKE_SA_INIT is on its way
	AuthSent                  // initiator: IKE_AUTH is on its way
	InitAnswered              // responder: waits for IKE_AUTH
	Established               // the peer is authenticated
	Closing                   // our deletion is on its way
	Refused                   // responder: authentication failed; stays to repeat the refusal
	Closed                    // nothing more will happen
)

var stateNames = [...]string{"idle", "init sent", "auth sent", "init answered", "established", "closing", "refused", "closed"}

// String returns the state's name.
func (s State) String() string {
	if int(s) < len(stateNames) {
		return stateNames[s]
	}
	return fmt.Sprintf("state %d", uint8(s))
}

// next holds the states that may follow each state.
var next = map[State][]State{
	Idle:         {InitSent, InitAnswered, Closed},
	InitSent:     {AuthSent, Closed},
	AuthSent:     {InitSent, Established, Closed}, // back with the next authentication method
	InitAnswered: {Established, Refused, Closed},
	Established:  {Closing, Closed},
	Closing:      {Closed},
	Refused:      {Closed},
}

// transition moves to another state. One that the table does not have is a
// fault of this program, and ends the SA: better none than a wrong one.
func (s *SA) transition(to State) {
	for _, ok := range next[s.state] {
		if ok == to {
			s.state = to
			return
		}
	}
	reason := fmt.Sprintf("internal fault: from %s to %s", s.state, to)
	s.state = Closed
	s.release(reason)
	s.emit(ike.Closed{Reason: reason})
}
