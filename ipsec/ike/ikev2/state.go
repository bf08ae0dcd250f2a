package ikev2

import (
	"errors"
	"fmt"

	"github.com/ipsecfw/ipsecfw/ipsec/ike"
	"github.com/ipsecfw/ipsecfw/ipsec/ike/wire"
)

// State is how far an IKE SA has come.
type State uint8

// The states.
const (
	Idle         State = iota // nothing sent yet
	InitSent                  // initiator: IKE_SA_INIT is on its way
	Intermediate              // initiator: IKE_INTERMEDIATE is on its way
	Proving                   // initiator: our AUTH payload is being made
	AuthSent                  // initiator: IKE_AUTH is on its way
	InitAnswered              // responder: waits for IKE_INTERMEDIATE or IKE_AUTH
	Verifying                 // the peer's AUTH payload is being checked, and a responder's made
	Established               // the peer is authenticated
	Closing                   // our deletion is on its way
	Refused                   // responder: authentication failed; stays to repeat the refusal
	Closed                    // nothing more will happen
)

var stateNames = [...]string{
	"idle", "init sent", "intermediate", "proving", "auth sent", "init answered", "verifying",
	"established", "closing", "refused", "closed",
}

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
	InitSent:     {Intermediate, Proving, Closed},
	Intermediate: {Proving, Closed},
	Proving:      {InitSent, AuthSent, Closed}, // back with the next authentication method
	AuthSent:     {InitSent, Verifying, Closed},
	InitAnswered: {Verifying, Refused, Closed},
	Verifying:    {InitSent, Established, Refused, Closed, AuthSent, InitAnswered}, // the last two for want of time
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

// overdue ends a state that has lasted too long.
func (s *SA) overdue() {
	switch s.state {
	case Refused:
		s.finish("authentication failed")
	case InitSent:
		if why := s.start.refusal; why != nil {
			s.die(why)
			return
		}
		s.unanswered(s.cur.ours.pending[0])
	case Proving, Verifying:
		s.die(&ike.NegotiationError{
			Step: wire.IKEAuth.String(), Peer: s.remote.String(), Identity: s.peer.RemoteID, Side: ike.ThisSide,
			Err:  errors.New("it took too long to make or to check the AUTH payloads"),
			Hint: "see whether this host reaches its keys, and the authorities of certificates",
		})
	default:
		s.die(fmt.Errorf("%w with IKE_AUTH", ike.ErrNoAnswer))
	}
}
