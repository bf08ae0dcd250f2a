package rules

import (
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/ipsecfw/ipsecfw/filter"
	"github.com/ipsecfw/ipsecfw/ipsec"
)

// Action is a filter action with a name.
type Action struct {
	Name      string
	Action    filter.Action
	Reject    bool      // with filter.Block: tell the sender
	Negotiate Negotiate // with filter.Negotiate
	Position  Position
	places    map[string]Position
}

// Negotiate is how an action protects what its filters match.
type Negotiate struct {
	Mode            ipsec.Mode
	Methods         []Method // the preferred first; nil for those of the suite
	ESN             bool     // offer extended sequence numbers
	PFS             bool     // every Child SA has a key exchange of its own, by the groups of the IKE proposals
	PFSGroups       []string // likewise by these, each a keyword, and with additional key exchanges joined by "-"; not with PFS
	Lifetime        time.Duration
	LifetimeBytes   uint64 // 0 for no limit
	LifetimePackets int    // 0 for no limit
	ReplayWindow    int    // in packets; 0 for the default
	DF              ipsec.DF
	TFC             int  // bytes that packets in a tunnel have at least; ipsec.TFCFull for all that fit the path
	AcceptUnsecured bool // what comes in clear is let in, and answered under IPsec
	AllowUnsecured  *Fallback
	ForceUDP        bool       // UDP encapsulation even without a NAT
	TunnelLocal     netip.Addr // the tunnel's ends, with ipsec.Tunnel
	TunnelPeer      netip.Addr
}

// Fallback is when packets go in clear to a peer that does not speak IKE.
type Fallback struct {
	After time.Duration // how long the peer may be silent before
	For   time.Duration // how long it is left in clear before it is asked again
}

func defaultFallback() *Fallback { return &Fallback{After: 3 * time.Second, For: 5 * time.Minute} }

func defaultNegotiate() Negotiate {
	return Negotiate{Mode: ipsec.Transport, ESN: true, Lifetime: defaultLifetime}
}

// builtIn are the names of the actions that every file has.
var builtIn = []string{"permit", "block", "request-security", "require-security"}

// builtInActions returns the actions that every file has: the two that do not
// negotiate, and the two of Windows' policies that do.
func builtInActions() []Action {
	request := defaultNegotiate()
	request.AcceptUnsecured, request.AllowUnsecured = true, defaultFallback()
	return []Action{
		{Name: builtIn[0], Action: filter.Permit},
		{Name: builtIn[1], Action: filter.Block},
		{Name: builtIn[2], Action: filter.Negotiate, Negotiate: request},
		{Name: builtIn[3], Action: filter.Negotiate, Negotiate: defaultNegotiate()},
	}
}

const (
	writeAction  = "write negotiate: {mode: transport}, permit: {} or block: {}"
	writeActions = "filter-actions: {NAME: {negotiate: {mode: transport}}}"
)

func filterActions[T any](of func(*T) *[]Action) value[T] {
	return value[T]{
		read: func(r *reader, n *node, k keyed, into *T) { *of(into) = r.readActions(n, k) },
		describe: func(d *definitions) *schema {
			s := mapOf(actionKeys.describe(d).one())
			var not []any
			for _, name := range builtIn {
				not = append(not, name)
			}
			s.Names.Not = &schema{Enum: not}
			return s
		},
	}
}

// readActions reads "filter-actions".
func (r *reader) readActions(n *node, k keyed) []Action {
	var actions []Action
	r.readDefinitions(n, k, "filter action", "says nothing", writeAction, func(f field) {
		if slices.Contains(builtIn, f.key) {
			r.report(f.at, fmt.Sprintf("the action %q is built in", f.key), "write another name, or remove it: rules use it without a definition")
			return
		}
		actions = append(actions, r.readAction(f))
	})
	return actions
}

// written is an action as it is read, with the places of what was chosen.
type written struct {
	Action
	negotiate, permit, block *node
}

var actionKeys = table[written]{
	{name: "negotiate", about: "let packets pass only under IPsec", write: "negotiate: {mode: transport}",
		value: chosen(negotiateKeys, func(w *written) **node { return &w.negotiate })},
	{name: "permit", about: "let packets pass unprotected", write: "permit: {}",
		value: chosen(table[struct{}]{}, func(w *written) **node { return &w.permit })},
	{name: "block", about: "drop packets", write: "block: {}",
		value: chosen(blockKeys, func(w *written) **node { return &w.block })},
}

// chosen keeps a value for when it is known that it is the only one.
func chosen[F any](t table[F], of func(*written) **node) value[written] {
	return value[written]{
		read:     func(_ *reader, n *node, _ keyed, into *written) { *of(into) = n },
		describe: func(d *definitions) *schema { return t.describe(d) },
	}
}

var blockKeys = table[Action]{
	{name: "reject", about: "whether to tell the sender, by a TCP reset or an ICMP error; false if missing", write: "reject: true, or remove the key",
		value: boolean(func(a *Action) *bool { return &a.Reject })},
}

// readAction reads what one action does: one of three keys.
func (r *reader) readAction(f field) Action {
	w := written{Action: Action{Name: f.key, Position: f.at, places: f.value.places()}}
	what := fmt.Sprintf("filter action %q", f.key)
	before := len(r.list)
	if !actionKeys.read(r, f.value, what, &w) {
		return w.Action
	}
	var first string
	for _, x := range []struct {
		name string
		n    *node
		read func()
	}{
		{"permit", w.permit, func() {
			w.Action.Action = filter.Permit
			table[struct{}]{}.read(r, w.permit, `"permit"`, &struct{}{})
		}},
		{"block", w.block, func() {
			w.Action.Action = filter.Block
			blockKeys.read(r, w.block, `"block"`, &w.Action)
		}},
		{"negotiate", w.negotiate, func() {
			w.Action.Action = filter.Negotiate
			w.Negotiate = r.readNegotiate(w.negotiate)
		}},
	} {
		switch {
		case x.n == nil:
		case first != "":
			r.report(x.n.at, fmt.Sprintf("%s has both %q and %q", what, first, x.name), "keep one of the two")
		default:
			first = x.name
			x.read()
		}
	}
	if first == "" && len(r.list) == before {
		r.report(f.value.at, what+" says nothing", writeAction)
	}
	return w.Action
}
