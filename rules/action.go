package rules

import (
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/ipsecfw/ipsecfw/filter"
	"github.com/ipsecfw/ipsecfw/ipsec"
)

// builtIn are the actions that every file has.
var builtIn = []string{filter.Permit.String(), filter.Block.String()}

const writeAction = "write negotiate: {mode: transport}, permit: {} or block: {}"

// readActions reads "filter-actions".
func (r *reader) readActions(n *node) []Action {
	if n.kind != mapping {
		r.report(n.at, fmt.Sprintf(`"filter-actions" must be a mapping, not %s`, n.kind), "write filter-actions: {NAME: {negotiate: {mode: transport}}}")
		return nil
	}
	var actions []Action
	for _, f := range r.unique(n, `"filter-actions"`) {
		switch {
		case !r.checkName(f.at, f.key, "a filter action"):
		case slices.Contains(builtIn, f.key):
			r.report(f.at, fmt.Sprintf("the action %q is built in", f.key), "write another name, or remove it: rules use it without a definition")
		case f.value.kind == empty:
			r.report(f.at, fmt.Sprintf("filter action %q says nothing", f.key), writeAction)
		default:
			a := r.readAction(f.value, fmt.Sprintf("filter action %q", f.key))
			a.Name, a.Position = f.key, f.at
			actions = append(actions, a)
		}
	}
	return actions
}

// readAction reads what one action does: one of three keys.
func (r *reader) readAction(n *node, what string) Action {
	a := Action{}
	chosen := ""
	choose := func(action filter.Action, at Position) bool {
		if chosen != "" {
			r.report(at, fmt.Sprintf("%s has both %q and %q", what, chosen, action), "keep one of the two")
			return false
		}
		chosen, a.Action = action.String(), action
		return true
	}
	before := len(r.list)
	nothing := func(action filter.Action) func(v *node) {
		return func(v *node) {
			if choose(action, v.at) {
				r.readMapping(v, fmt.Sprintf("%q", action), nil)
			}
		}
	}
	r.readMapping(n, what, []key{
		{"negotiate", "negotiate: {mode: transport}", false, func(v *node) {
			if choose(filter.Negotiate, v.at) {
				a.Negotiate = r.readNegotiate(v)
			}
		}},
		{"permit", "permit: {}", false, nothing(filter.Permit)},
		{"block", "block: {}", false, nothing(filter.Block)},
	})
	if chosen == "" && len(r.list) == before {
		r.report(n.at, what+" says nothing", writeAction)
	}
	return a
}

// readNegotiate reads how an action protects.
func (r *reader) readNegotiate(n *node) Negotiate {
	out := Negotiate{Mode: ipsec.Transport, ESN: true, Lifetime: defaultLifetime}
	var tunnel *node
	r.readMapping(n, `"negotiate"`, []key{
		{"mode", "mode: transport or mode: tunnel", false, func(v *node) {
			switch word, _ := r.readWord(v, "mode", []string{"transport", "tunnel"}); word {
			case "transport":
				out.Mode = ipsec.Transport
			case "tunnel":
				out.Mode = ipsec.Tunnel
			default:
				out.Mode = 0 // wrong already
			}
		}},
		{"proposals", "proposals: [aes256gcm16], or remove the key for the default", false, func(v *node) {
			out.Proposals = r.readProposals(v, "aes256gcm16, chacha20poly1305", checkESP)
		}},
		{"esn", "esn: true or esn: false", false, func(v *node) { r.readBool(v, "esn", &out.ESN) }},
		{"lifetime", "lifetime: 1h", false, func(v *node) { r.readDuration(v, "lifetime", time.Second, 7*24*time.Hour, &out.Lifetime) }},
		{"udp-encapsulation", "udp-encapsulation: auto or udp-encapsulation: always", false, func(v *node) {
			word, _ := r.readWord(v, "udp-encapsulation", []string{"auto", "always"})
			out.ForceUDP = word == "always"
		}},
		{"tunnel", "tunnel: {local: ADDRESS, remote: ADDRESS}", false, func(v *node) {
			tunnel = v
			r.readTunnel(v, &out)
		}},
	})
	switch {
	case out.Mode == ipsec.Tunnel && tunnel == nil:
		r.report(n.at, `mode tunnel needs the ends of the tunnel`, "add tunnel: {local: ADDRESS, remote: ADDRESS}")
	case out.Mode == ipsec.Transport && tunnel != nil:
		r.report(tunnel.at, `"tunnel" has no effect in mode transport`, `write mode: tunnel, or remove "tunnel"`)
	}
	if out.Proposals == nil {
		out.Proposals = slices.Clone(defaultESP)
	}
	return out
}

// readTunnel reads the outer addresses of mode tunnel.
func (r *reader) readTunnel(n *node, out *Negotiate) {
	end := func(name string, into *netip.Addr) func(v *node) {
		return func(v *node) {
			text, ok := r.readText(v, fmt.Sprintf("%q", name), name+": ADDRESS")
			if !ok {
				return
			}
			a, problem, hint := parseAddress(text)
			if problem == "" {
				problem, _ = checkUnicast(filter.Address(a), text)
				hint = "write the address of one host, as in " + name + ": 192.0.2.1"
			}
			if problem != "" {
				r.report(v.at, problem, hint)
				return
			}
			*into = a
		}
	}
	r.readMapping(n, `"tunnel"`, []key{
		{"local", "local: ADDRESS, our end of the tunnel", true, end("local", &out.TunnelLocal)},
		{"remote", "remote: ADDRESS, the peer's end of the tunnel", true, end("remote", &out.TunnelPeer)},
	})
	l, p := out.TunnelLocal, out.TunnelPeer
	switch {
	case !l.IsValid() || !p.IsValid():
	case l.BitLen() != p.BitLen():
		r.report(n.at, fmt.Sprintf("the tunnel's ends %s and %s are of different families", l, p), "write two IPv4 addresses or two IPv6 addresses")
	case l == p:
		r.report(n.at, "both ends of the tunnel are "+l.String(), "write the peer's address after remote")
	}
}
