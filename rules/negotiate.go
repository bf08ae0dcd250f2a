package rules

import (
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/ipsecfw/ipsecfw/filter"
	"github.com/ipsecfw/ipsecfw/ipsec"
)

// Bounds of a fallback to clear.
const (
	minFallbackAfter, maxFallbackAfter = time.Second, time.Minute
	minFallbackFor, maxFallbackFor     = time.Second, 24 * time.Hour
)

const writeMethods = "methods: [aes256gcm16, chacha20poly1305]"

var negotiateKeys = table[Negotiate]{
	{name: "mode", about: "transport, between the two hosts, or tunnel; transport if missing", write: "mode: transport or mode: tunnel",
		value: word([]string{"transport", "tunnel"}, func(n *Negotiate, word string) {
			n.Mode = map[string]ipsec.Mode{"transport": ipsec.Transport, "tunnel": ipsec.Tunnel}[word] // 0 when it is wrong already
		})},
	{name: "methods", about: "security methods, the preferred first; those of the suite if missing", write: writeMethods, formerly: "proposals",
		value: methods(func(n *Negotiate) *[]Method { return &n.Methods })},
	{name: "pfs", about: "whether every SA has a key exchange of its own, or by which groups; false if missing", write: "pfs: true, or pfs: [x25519, ecp384]",
		value: value[Negotiate]{
			read: func(r *reader, n *node, k keyed, into *Negotiate) { r.readPFS(n, k, into) },
			describe: func(*definitions) *schema {
				return either(&schema{Type: "boolean"}, listOf(pattern(pfsPattern())))
			},
		}},
	{name: "accept-unsecured", about: "whether what comes in clear is let in, and answered under IPsec; false if missing", write: "accept-unsecured: true, or remove the key",
		value: boolean(func(n *Negotiate) *bool { return &n.AcceptUnsecured })},
	{name: "allow-unsecured", about: "whether packets go in clear to a peer that does not speak IKE; false if missing", write: "allow-unsecured: true, or allow-unsecured: {after: 3s, for: 5m}",
		value: value[Negotiate]{
			read: func(r *reader, n *node, k keyed, into *Negotiate) { into.AllowUnsecured = r.readFallback(n, k) },
			describe: func(d *definitions) *schema {
				return either(&schema{Type: "boolean"}, fallbackKeys.describe(d))
			},
		}},
	{name: "esn", about: "whether to offer 64-bit sequence numbers; true if missing", write: "esn: true or esn: false",
		value: boolean(func(n *Negotiate) *bool { return &n.ESN })},
	{name: "lifetime", about: "after which the keys are replaced; 1h if missing", write: "lifetime: 1h",
		value: duration(time.Second, maxLifetime, func(n *Negotiate) *time.Duration { return &n.Lifetime })},
	{name: "lifetime-bytes", about: "after how many bytes the keys are replaced; no limit if missing", write: "lifetime-bytes: 100GB, or remove the key for no limit",
		value: size(func(n *Negotiate) *uint64 { return &n.LifetimeBytes })},
	{name: "lifetime-packets", about: "after how many packets the keys are replaced; no limit if missing", write: "lifetime-packets: 1000000000, or remove the key for no limit",
		value: count(minPackets, maxPackets, func(n *Negotiate) *int { return &n.LifetimePackets })},
	{name: "replay-window", about: "how many packets late one may come without counting as a replay; 1024 if missing", write: "replay-window: 4096",
		value: count(minReplayWindow, maxReplayWindow, func(n *Negotiate) *int { return &n.ReplayWindow })},
	{name: "df", about: "the flag \"don't fragment\" of the tunnel's packets: copy, from the packet inside, set or clear; copy if missing", write: "df: copy, df: set or df: clear",
		value: word([]string{"copy", "set", "clear"}, func(n *Negotiate, word string) {
			n.DF = map[string]ipsec.DF{"set": ipsec.DFSet, "clear": ipsec.DFClear}[word]
		})},
	{name: "tfc", about: "to how many bytes packets in the tunnel are padded, or full: to what fits the path; none if missing", write: "tfc: full, tfc: 1200, or remove the key",
		value: value[Negotiate]{
			read: func(r *reader, n *node, k keyed, into *Negotiate) {
				if n.kind == scalar && n.text == "full" {
					into.TFC = ipsec.TFCFull
				} else if v, ok := r.readNumber(n, k.name, minTFC, maxTFC); ok {
					into.TFC = v
				}
			},
			describe: func(*definitions) *schema { return either(enum("full"), numbers(minTFC, maxTFC)) },
		}},
	{name: "udp-encapsulation", about: "always, or auto: only where there is a NAT; auto if missing", write: "udp-encapsulation: auto or udp-encapsulation: always",
		value: word([]string{"auto", "always"}, func(n *Negotiate, word string) { n.ForceUDP = word == "always" })},
	{name: "tunnel", about: "the outer addresses, with mode tunnel", write: "tunnel: {local: ADDRESS, remote: ADDRESS}",
		value: value[Negotiate]{
			read:     func(r *reader, n *node, _ keyed, into *Negotiate) { r.readTunnel(n, into) },
			describe: func(d *definitions) *schema { return tunnelKeys.describe(d) },
		}},
}

// readNegotiate reads how an action protects.
func (r *reader) readNegotiate(n *node) Negotiate {
	out := defaultNegotiate()
	if !negotiateKeys.read(r, n, `"negotiate"`, &out) {
		return out
	}
	tunnel := n.get("tunnel")
	switch {
	case out.Mode == ipsec.Tunnel && tunnel == nil:
		r.report(n.at, `mode tunnel needs the ends of the tunnel`, "add tunnel: {local: ADDRESS, remote: ADDRESS}")
	case out.Mode == ipsec.Transport && tunnel != nil:
		r.report(tunnel.at, `"tunnel" has no effect in mode transport`, `write mode: tunnel, or remove "tunnel"`)
	}
	r.checkMethods(n, &out)
	if out.Mode == ipsec.Tunnel {
		for _, k := range []struct {
			name string
			set  bool
		}{{"accept-unsecured", out.AcceptUnsecured}, {"allow-unsecured", out.AllowUnsecured != nil}} {
			if k.set {
				r.report(n.get(k.name).at, fmt.Sprintf("%q is of no use in mode tunnel: what a tunnel carries does not go without it", k.name),
					fmt.Sprintf("remove %q, or write mode: transport", k.name))
			}
		}
	}
	return out
}

// Bounds of a replay window in packets, and of what packets are padded to in
// bytes.
const (
	minReplayWindow, maxReplayWindow = 64, 65536
	minTFC, maxTFC                   = 64, 9216
)

// checkMethods reports what the methods of an action cannot do.
func (r *reader) checkMethods(n *node, out *Negotiate) {
	no := func(key, problem, hint string) { r.report(n.get(key).at, problem, hint) }
	ah := slices.ContainsFunc(out.Methods, func(m Method) bool { return m.AH != "" })
	esp := out.Methods == nil || slices.ContainsFunc(out.Methods, func(m Method) bool { return m.ESP != "" })
	if out.ForceUDP && ah {
		no("udp-encapsulation", `AH cannot go inside UDP`, `remove "udp-encapsulation", or write methods with esp alone`)
	}
	if out.DF != ipsec.DFCopy && out.Mode == ipsec.Transport {
		no("df", `"df" is of no use in mode transport, in which packets keep their own`, `remove "df"`)
	}
	switch {
	case out.TFC == 0:
	case out.Mode == ipsec.Transport:
		no("tfc", `"tfc" is of no use in mode transport, in which the length of a packet stays known`, `remove "tfc", or write mode: tunnel`)
	case !esp:
		no("tfc", `"tfc" is of no use with AH, which hides nothing`, `remove "tfc", or write methods with esp`)
	}
}

var fallbackKeys = table[Fallback]{
	{name: "after", about: "how long the peer may be silent before; 3s if missing", write: "after: 3s",
		value: duration(minFallbackAfter, maxFallbackAfter, func(f *Fallback) *time.Duration { return &f.After })},
	{name: "for", about: "how long the peer is left in clear before it is asked again; 5m if missing", write: "for: 5m",
		value: duration(minFallbackFor, maxFallbackFor, func(f *Fallback) *time.Duration { return &f.For })},
}

// readFallback returns nil for false.
func (r *reader) readFallback(n *node, k keyed) *Fallback {
	out := defaultFallback()
	switch {
	case n.isBool() && n.text == "true":
		return out
	case n.isBool():
		return nil
	case n.kind != mapping:
		r.report(n.at, `"allow-unsecured" is neither true, false nor a mapping`, "write "+k.write)
		return nil
	}
	fallbackKeys.read(r, n, `"allow-unsecured"`, out)
	return out
}

// tunnelEnds are the outer addresses of mode tunnel.
type tunnelEnds struct{ local, remote netip.Addr }

var tunnelKeys = table[tunnelEnds]{
	{name: "local", about: "our end of the tunnel", write: "local: ADDRESS, our end of the tunnel", required: true,
		value: address(func(t *tunnelEnds) *netip.Addr { return &t.local })},
	{name: "remote", about: "the peer's end of the tunnel", write: "remote: ADDRESS, the peer's end of the tunnel", required: true,
		value: address(func(t *tunnelEnds) *netip.Addr { return &t.remote })},
}

// address is the address of one host.
func address[T any](of func(*T) *netip.Addr) value[T] {
	return value[T]{
		read: func(r *reader, n *node, k keyed, into *T) {
			text, ok := r.readScalar(n, k.name, k.name+": ADDRESS")
			if !ok {
				return
			}
			a, problem, _ := parseAddress(text)
			if problem == "" {
				problem, _ = checkUnicast(filter.Address(a), text)
			}
			if problem != "" {
				r.report(n.at, problem, "write the address of one host, as in "+k.name+": 192.0.2.1")
				return
			}
			*of(into) = a
		},
		describe: func(*definitions) *schema { return pattern(`^[0-9A-Fa-f.:]+$`) },
	}
}

// readTunnel reads the outer addresses of mode tunnel.
func (r *reader) readTunnel(n *node, out *Negotiate) {
	var t tunnelEnds
	tunnelKeys.read(r, n, `"tunnel"`, &t)
	l, p := t.local, t.remote
	switch {
	case !l.IsValid() || !p.IsValid():
	case l.BitLen() != p.BitLen():
		r.report(n.at, fmt.Sprintf("the tunnel's ends %s and %s are of different families", l, p), "write two IPv4 addresses or two IPv6 addresses")
	case l == p:
		r.report(n.at, "both ends of the tunnel are "+l.String(), "write the peer's address after remote")
	}
	out.TunnelLocal, out.TunnelPeer = l, p
}
