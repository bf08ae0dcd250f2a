// Package examples holds the rule files that the demonstration applies and
// that are good to begin one's own with.
package examples

import _ "embed"

// Payroll is payroll.yaml, the policy of a server.
//
//go:embed payroll.yaml
var Payroll []byte

// Workstation is workstation.yaml, the policy of a host that works with it.
//
//go:embed workstation.yaml
var Workstation []byte
