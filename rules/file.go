package rules

import (
	"net/netip"
	"time"

	"github.com/ipsecfw/ipsecfw/filter"
	"github.com/ipsecfw/ipsecfw/ipsec"
)

// File is a rule file that is free of errors.
type File struct {
	Path        string // as Parse was given it
	Name        string // the policy's name
	Lists       []List
	Actions     []Action
	Rules       []Rule // at least one
	KeyExchange KeyExchange
}

// List is a filter list: filters that share a name, for rules to use.
type List struct {
	Name     string
	Filters  []Filter // at least one
	Position Position
}

// Filter is one filter of a list.
type Filter struct {
	Selector    filter.Selector
	Mirrored    bool // it matches the answers too
	Description string
	Position    Position
}

// Action is a filter action with a name. The actions "permit" and "block"
// need no definition.
type Action struct {
	Name      string
	Action    filter.Action
	Negotiate Negotiate // with filter.Negotiate
	Position  Position
}

// Negotiate is how an action protects what its filters match.
type Negotiate struct {
	Mode        ipsec.Mode
	Proposals   []string // ESP ciphers by keyword, the preferred first
	ESN         bool     // offer extended sequence numbers
	Lifetime    time.Duration
	ForceUDP    bool       // UDP encapsulation even without a NAT
	TunnelLocal netip.Addr // the tunnel's ends, with ipsec.Tunnel
	TunnelPeer  netip.Addr
}

// Rule joins a filter list with an action, and with the ways to authenticate
// if the action negotiates.
type Rule struct {
	Name           string
	List           string // the name of a List
	Action         string // "permit", "block" or the name of an Action
	Authentication []Authentication
	OwnID, PeerID  string // identities to claim and to expect; empty for those that follow from addresses and certificates
	Position       Position
}

// Authentication is one way to prove who we are: by certificate or by
// preshared key. Exactly one of the two is not nil.
type Authentication struct {
	Certificate  *Certificate
	PresharedKey *PresharedKey
}

// Certificate names the files of authentication by certificate.
type Certificate struct {
	Authority string // certificates of the authorities that we believe, PEM
	Own       string // our own certificate, then any intermediate ones, PEM
	Key       string // the private key of the first certificate, PEM
}

// PresharedKey names the file of a secret that both ends know.
type PresharedKey struct{ File string }

// KeyExchange is what holds for IKE with every peer.
type KeyExchange struct {
	Proposals []string // IKE proposals, each of keywords joined by "-"; empty for the default
	Lifetime  time.Duration
	Liveness  time.Duration // how long a peer may be silent before it is asked
}

// What a file means that does not say.
const (
	defaultLifetime    = time.Hour     // of a Child SA
	defaultIKELifetime = 8 * time.Hour // 28,800 s, as Windows had it
	defaultLiveness    = 30 * time.Second
)

// list returns the list of a name.
func (f *File) list(name string) (List, bool) {
	for _, l := range f.Lists {
		if l.Name == name {
			return l, true
		}
	}
	return List{}, false
}

// action returns the action of a name, built-in ones included.
func (f *File) action(name string) (Action, bool) {
	switch name {
	case filter.Permit.String():
		return Action{Name: name, Action: filter.Permit}, true
	case filter.Block.String():
		return Action{Name: name, Action: filter.Block}, true
	}
	for _, a := range f.Actions {
		if a.Name == name {
			return a, true
		}
	}
	return Action{}, false
}
