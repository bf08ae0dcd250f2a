package rules

import (
	"time"

	"github.com/ipsecfw/ipsecfw/filter"
)

// File is a rule file that is free of errors.
type File struct {
	Path        string            // as Parse was given it
	Name        string            // the policy's name
	Persistent  bool              // in force before the network is up, whatever is applied later
	Exemptions  filter.Exemptions // one of Windows' four levels
	Startup     Startup
	Sets        []Set
	Peers       []PeerGroup
	Lists       []List
	Actions     []Action
	Rules       []Rule // at least one
	Response    *Rule  // the default response rule, without a list; nil without one
	KeyExchange KeyExchange
	Asserts     []Assert
}

// List is a filter list: filters that share a name, for rules to use.
type List struct {
	Name     string
	Filters  []Filter // at least one
	Position Position
}

// Filter is one filter of a list, as it is written.
type Filter struct {
	From, To         []Side // at least one each
	Protocol         uint8  // upper-layer protocol, with HasProtocol
	HasProtocol      bool   // false for any protocol
	FromPort, ToPort filter.PortRange
	ICMP             filter.ICMP
	Mirrored         bool // it matches the answers too
	Stateful         bool // it matches the connections that From begins, and no others
	Log              bool
	Limit            filter.Limit
	Description      string
	Position         Position
}

// Rule joins a filter list with an action, and with the ways to authenticate
// if the action negotiates.
type Rule struct {
	Name           string
	List           string // the name of a List
	Action         string // the name of a built-in action or of an Action
	Authentication []Authentication
	OwnID, PeerID  string              // identities to claim and to expect; empty for those that follow from addresses and certificates
	Peers          string              // the name of a PeerGroup; empty for whoever authenticates
	Exchange       Exchange            // what of the key exchange is otherwise with the rule's peers than the file says
	Legacy         bool                // weak algorithms are good enough
	Connections    []filter.Connection // on which interfaces; empty for all
	Forward        bool                // for what the host forwards, and not its own packets
	Enabled        bool
	Position       Position
	places         map[string]Position // of a rule that authenticates
}

// What a file means that does not say.
const (
	defaultLifetime    = time.Hour     // of a Child SA
	defaultIKELifetime = 8 * time.Hour // 28,800 s, as Windows had it
	defaultLiveness    = 30 * time.Second
	maxLifetime        = 7 * 24 * time.Hour
)

// DefaultResponseRule is the name of the default response rule. No other rule
// may have it.
const DefaultResponseRule = "default-response"

// names finds what the file defines by its name.
type names struct {
	lists   map[string]*List
	sets    map[string]*Set
	peers   map[string]*PeerGroup
	actions map[string]*Action // built-in ones included
}

func (f *File) names() *names {
	n := &names{map[string]*List{}, map[string]*Set{}, map[string]*PeerGroup{}, map[string]*Action{}}
	for i := range f.Lists {
		n.lists[f.Lists[i].Name] = &f.Lists[i]
	}
	for i := range f.Sets {
		n.sets[f.Sets[i].Name] = &f.Sets[i]
	}
	for i := range f.Peers {
		n.peers[f.Peers[i].Name] = &f.Peers[i]
	}
	builtIn := builtInActions()
	for i := range builtIn {
		n.actions[builtIn[i].Name] = &builtIn[i]
	}
	for i := range f.Actions {
		n.actions[f.Actions[i].Name] = &f.Actions[i]
	}
	return n
}
