package main

import (
	"os"

	"github.com/ipsecfw/ipsecfw/cmd/ipsecfw/internal/verify"
	"github.com/ipsecfw/ipsecfw/nfq"
)

// thisShell returns the connection that this program's shell came by; ok is
// false when it came by none.
func thisShell() (c verify.Connection, ok bool) {
	c, ok = verify.ParseConnection(os.Getenv("SSH_CONNECTION"))
	if !ok {
		return c, false
	}
	if links, err := nfq.NewLinks(); err == nil {
		c.Interface = links.Toward(c.Client.Addr())
	}
	return c, true
}
