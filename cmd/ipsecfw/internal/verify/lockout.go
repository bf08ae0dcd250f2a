package verify

import (
	"net/netip"
	"strings"

	"github.com/ipsecfw/ipsecfw/filter"
	"github.com/ipsecfw/ipsecfw/filter/packet"
)

// Connection is a TCP connection to this host that is to survive, such as that
// of the administrator's shell.
type Connection struct {
	Client, Server netip.AddrPort
	Interface      filter.Interface // by which it came, if that is known
}

// ParseConnection reads SSH_CONNECTION, as sshd(8) sets it: the client's
// address and port, then the server's.
func ParseConnection(s string) (c Connection, ok bool) {
	f := strings.Fields(s)
	if len(f) != 4 {
		return c, false
	}
	client, err1 := netip.ParseAddrPort(joined(f[0], f[1]))
	server, err2 := netip.ParseAddrPort(joined(f[2], f[3]))
	return Connection{Client: plain(client), Server: plain(server)}, err1 == nil && err2 == nil
}

func joined(addr, port string) string {
	if strings.Contains(addr, ":") {
		return "[" + addr + "]:" + port
	}
	return addr + ":" + port
}

// plain returns the address as it stands in packets.
func plain(a netip.AddrPort) netip.AddrPort {
	return netip.AddrPortFrom(a.Addr().Unmap().WithZone(""), a.Port())
}

// LockedOut returns a warning if the policy does not let a connection go on in
// clear, or "".
func (p *Policy) LockedOut(c Connection) string {
	for _, way := range []struct {
		context  filter.Context
		from, to netip.AddrPort
	}{
		{filter.Context{Direction: filter.Inbound, State: filter.StateOriginal, Interface: c.Interface}, c.Client, c.Server},
		{filter.Context{Direction: filter.Outbound, State: filter.StateReply, Interface: c.Interface}, c.Server, c.Client},
	} {
		d := p.SPD.Decide(way.context, &packet.Packet{
			Src: way.from.Addr(), Dst: way.to.Addr(), Protocol: packet.TCP,
			HasPorts: true, SrcPort: way.from.Port(), DstPort: way.to.Port(),
		})
		if passes(d, way.context.Direction) {
			continue
		}
		what := "cuts this shell off"
		if d.Action == filter.Negotiate {
			what = "lets this shell go on under IPsec only"
		}
		return warning(d.Entry.Position, "the policy %s, which came from %s: %s; add a filter that permits it, or apply with --confirm",
			what, c.Client, d.Why())
	}
	return ""
}

// passes reports whether packets of a peer without IKE pass.
func passes(d filter.Decision, way filter.Direction) bool {
	switch {
	case d.Action == filter.Permit:
		return true
	case d.Action == filter.Negotiate && way == filter.Inbound:
		return d.Entry.Options.AcceptUnsecured
	case d.Action == filter.Negotiate:
		return d.Entry.Options.AllowUnsecured
	}
	return false
}
