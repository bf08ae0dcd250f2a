// Package examples holds rule files that are good to begin one's own with: the
// templates of "ipsecfw init", and those that the demonstration applies.
package examples

import _ "embed"

// Template is a rule file for a kind of host.
type Template struct {
	Name    string
	Summary string // one line
	Content []byte
}

// Templates are the rule files of "ipsecfw init". Windows had the first three
// (respond only, request security, require security).
var Templates = []Template{
	{"client", "asks nobody for security, and answers every peer that does", client},
	{"server", "secures what it can, and speaks in clear with hosts that cannot", server},
	{"secure-server", "speaks with the hosts of its network under IPsec only", secureServer},
	{"web-server", "HTTP for the world, SSH for the administrators, its application under IPsec", webServer},
	{"sql-server", "queries under IPsec, from the application's servers alone", sqlServer},
	{"partner", "our own hosts and another company's, each by its authority, with revocation", partner},
	{"gateway", "a tunnel between two sites, and the web for its own network", gateway},
	{"l2tp-server", "remote users' L2TP tunnels under IPsec, and what they may reach", l2tpServer},
}

var (
	//go:embed client.yaml
	client []byte
	//go:embed server.yaml
	server []byte
	//go:embed secure-server.yaml
	secureServer []byte
	//go:embed web-server.yaml
	webServer []byte
	//go:embed sql-server.yaml
	sqlServer []byte
	//go:embed partner.yaml
	partner []byte
	//go:embed gateway.yaml
	gateway []byte
	//go:embed l2tp-server.yaml
	l2tpServer []byte
)

// Payroll is payroll.yaml, the policy of a server.
//
//go:embed payroll.yaml
var Payroll []byte

// Workstation is workstation.yaml, the policy of a host that works with it.
//
//go:embed workstation.yaml
var Workstation []byte
