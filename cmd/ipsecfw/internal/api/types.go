// Package api is the daemon's door: HTTP with JSON over a Unix socket. It
// holds the types of both ends, the server's handler and the client.
//
//	GET    /v1/filters           the filters in force, in order of decision
//	GET    /v1/filters/specific  the same with lists and names spelt out, address by address
//	GET    /v1/sas               the pairs of SAs
//	GET    /v1/peers             the IKE SAs
//	GET    /v1/status            the policy in force and the counters
//	GET    /v1/warnings          what on the host keeps the policy from working
//	GET    /v1/policy            the rule files in force
//	PUT    /v1/policy            an Application: make a rule file the one in force
//	DELETE /v1/policy            take it out; with ?persistent=true the persistent one too
//	POST   /v1/policy/confirm    keep what was applied on trial
//	POST   /v1/explain           an explain.Flow: what becomes of its packets, and why
//	GET    /v1/post-mortems      why negotiations failed, the latest first; with ?peer=PEER those with one
//	POST   /v1/initiate          an Initiation: negotiate now; answered by lines of JSON, each a Progress
//
// A failure is answered with an Error. Only root and the daemon's own user
// may change anything.
package api

import (
	"time"

	"github.com/ipsecfw/ipsecfw/ipsec/ike"
	"github.com/ipsecfw/ipsecfw/rules"
)

// Policy is a rule file on its way to the daemon, with all that it refers
// to: the daemon reads nothing from the administrator's working directory.
type Policy struct {
	Name   string `json:"name"`   // the rule file's path as it was given, for messages
	Source string `json:"source"` // its text
	// Files holds the certificates, keys and preshared keys, by their paths
	// as they are written in the rule file. When some are not there the answer
	// is CodeMissingFiles with their names.
	Files map[string][]byte `json:"files"`
}

// Application asks for a policy to be put in force.
type Application struct {
	Policy Policy `json:"policy"`
	// ConfirmSeconds, if not 0, makes it a trial: the policy before it comes
	// back in force unless the trial is confirmed in time.
	ConfirmSeconds int64 `json:"confirm-seconds,omitempty"`
	// Shell is the connection by which the caller came, as sshd(8) writes it
	// into SSH_CONNECTION. A policy that would cut it is CodeLocksOut unless
	// CutShell is set.
	Shell    string `json:"shell,omitempty"`
	CutShell bool   `json:"cut-shell,omitempty"`
}

// Applied says what came of an Application.
type Applied struct {
	Persistent bool       `json:"persistent"`           // it is the persistent policy now
	ConfirmBy  *time.Time `json:"confirm-by,omitempty"` // until when the trial is to be confirmed
	Warnings   []string   `json:"warnings"`             // each with its position
	Cut        int        `json:"cut"`                  // connections that the policy before permitted and this one does not
}

// InForce is the policy in force.
type InForce struct {
	Files     []File          `json:"files"`     // the persistent one first
	Addresses rules.Addresses `json:"addresses"` // what dynamic sides stand for
	ConfirmBy *time.Time      `json:"confirm-by,omitempty"`
}

// File is a rule file in force.
type File struct {
	Name       string `json:"name"` // Policy.Name of its upload
	Source     string `json:"source"`
	Persistent bool   `json:"persistent"`
}

// Filter is one filter in force.
type Filter struct {
	Order    int    `json:"order"`    // 1 is asked first; the first that matches decides
	Rule     string `json:"rule"`     // the name of the rule
	List     string `json:"list"`     // the name of its filter list
	Index    int    `json:"index"`    // the place in the list, from 1
	Position string `json:"position"` // file:line:column
	Weight   uint32 `json:"weight"`   // how specific it is; see package filter
	Action   string `json:"action"`   // permit, block or negotiate
	From     string `json:"from"`     // as the rule file says it, or in the specific view an address, a subnet or a range
	To       string `json:"to"`
	Protocol string `json:"protocol"` // a keyword, a number or any
	FromPort string `json:"from-port"`
	ToPort   string `json:"to-port"`
	Mirrored bool   `json:"mirrored"` // the answers match too

	ICMP       string   `json:"icmp,omitempty"`       // the type, with its code
	Connection string   `json:"connection,omitempty"` // on which interfaces, if not all
	Path       string   `json:"path"`                 // host or forward
	Options    []string `json:"options,omitempty"`    // stateful, reject, log, limit and so on
	Packets    uint64   `json:"packets"`              // that it decided on since it came in force
	Bytes      uint64   `json:"bytes"`
}

// SA is a pair of SAs, one for each direction.
type SA struct {
	Rule            string   `json:"rule"`
	Mode            string   `json:"mode"`     // transport or tunnel
	Protocol        string   `json:"protocol"` // ESP or AH
	InSPI           string   `json:"in-spi"`   // 8 hexadecimal digits
	OutSPI          string   `json:"out-spi"`
	Local           string   `json:"local"` // outer address, with a port under UDP encapsulation
	Remote          string   `json:"remote"`
	LocalSelectors  []string `json:"local-selectors"`
	RemoteSelectors []string `json:"remote-selectors"`
	Nested          bool     `json:"nested,omitempty"` // it goes inside AH, of another SA of the rule
	Encryption      string   `json:"encryption"`       // none with AH
	Integrity       string   `json:"integrity"`        // that of the encryption, if it has its own
	ESN             bool     `json:"esn"`
	UDPEncap        bool     `json:"udp-encapsulation"`

	InBytes           uint64 `json:"in-bytes"` // of the inner packets, as are OutBytes
	InPackets         uint64 `json:"in-packets"`
	OutBytes          uint64 `json:"out-bytes"`
	OutPackets        uint64 `json:"out-packets"`
	ReplayDrops       uint64 `json:"replay-drops"`
	IntegrityFailures uint64 `json:"integrity-failures"`
	Malformed         uint64 `json:"malformed"`           // packets that no transform of the SA makes
	SelectorMismatch  uint64 `json:"selector-mismatches"` // packets that held what is none of the SA's, or of its rule's
	AgeSeconds        int64  `json:"age-seconds"`

	// Soft says that there is no SA: the peer does not speak IKE, and its
	// packets pass in clear for SoftSeconds more.
	Soft        bool  `json:"soft,omitempty"`
	SoftSeconds int64 `json:"soft-seconds,omitempty"`
}

// Peer is an IKE SA.
type Peer struct {
	Version        int    `json:"version"`
	Initiator      bool   `json:"initiator"` // we began
	SPIi           string `json:"spi-i"`     // 16 hexadecimal digits
	SPIr           string `json:"spi-r"`
	Local          string `json:"local"` // addr:port
	Remote         string `json:"remote"`
	LocalID        string `json:"local-id"`
	RemoteID       string `json:"remote-id"`
	Authentication string `json:"authentication"` // how the peer proved itself
	// Revocation is "checked", "unknown", "nowhere" or "off" of a peer with
	// certificates; Unchecked says why it is unknown.
	Revocation string `json:"revocation,omitempty"`
	Unchecked  string `json:"revocation-unknown-why,omitempty"`

	Proposal   string `json:"proposal"`
	NATLocal   bool   `json:"nat-local"`  // we are behind a NAT
	NATRemote  bool   `json:"nat-remote"` // the peer is
	Children   int    `json:"children"`   // pairs of SAs that it made and that live
	AgeSeconds int64  `json:"age-seconds"`

	PPK           string     `json:"ppk,omitempty"` // the post-quantum preshared key in use, by name
	Fragmentation bool       `json:"fragmentation"` // both ends cut large messages
	Window        int        `json:"window"`        // how many requests the peer takes at a time
	Renew         *time.Time `json:"renew,omitempty"`
}

// Initiation asks for a negotiation with a peer, now.
type Initiation struct {
	Peer string `json:"peer"`           // its address, or the identity of one with an IKE SA
	Rule string `json:"rule,omitempty"` // empty for that of the most specific filter
	// Trace asks for the messages.
	Trace bool `json:"trace,omitempty"`
}

// Progress is a line about an Initiation. The last one has an SA or a
// PostMortem.
type Progress struct {
	Message    string          `json:"message,omitempty"` // one of IKE, in the notation of RFC 7296
	Peer       *Peer           `json:"peer,omitempty"`    // the IKE SA stands
	SA         *SA             `json:"sa,omitempty"`      // the pair of SAs stands
	PostMortem *ike.PostMortem `json:"post-mortem,omitempty"`
}

// The values of Status.Queue.
const (
	QueueNative = "native" // the queue statement of nftables
	QueueCompat = "compat" // the NFQUEUE target, through nftables' compatibility layer
)

// Status is the daemon at a glance.
type Status struct {
	Policy     string            `json:"policy"`     // its name; empty with no policy in force
	Persistent string            `json:"persistent"` // the name of the persistent policy, if any
	ConfirmBy  *time.Time        `json:"confirm-by,omitempty"`
	File       string            `json:"file"`       // Policy.Name of the upload
	Generation uint64            `json:"generation"` // counts the changes of the policy
	Counters   map[string]uint64 `json:"counters"`
	Queue      string            `json:"queue"` // how packets reach the daemon
	// KeyLog is the file to which the keys of all SAs are being written, which
	// leaves nothing protected from its readers.
	KeyLog string `json:"key-log,omitempty"`
}
