package rules

import (
	"fmt"
	"slices"
	"strconv"
	"time"
)

// KeyExchange is what holds for IKE with every peer.
type KeyExchange struct {
	Exchange      // what rules may say of their own peers
	Lifetime      time.Duration
	Liveness      time.Duration // how long a peer may be silent before it is asked
	Fragmentation int           // the largest IP datagram with a part of a message, in bytes; 0 for no parts
	Window        int           // how many requests a peer may have under way
	Children      int           // how many Child SAs an IKE SA has at most, rekeyed ones not counted; 0 for any number
	MasterKeyPFS  bool          // each Child SA has an IKE SA of its own
	Versions      []int         // of IKE, the preferred first
	Position      Position      // zero where the file says nothing of it
	places        map[string]Position
}

func defaultKeyExchange() KeyExchange {
	return KeyExchange{Lifetime: defaultIKELifetime, Liveness: defaultLiveness, Fragmentation: defaultFragment, Window: defaultWindow, Versions: []int{2}}
}

const (
	// maxChildren is the most Child SAs that "children" may allow an IKE SA.
	maxChildren = 1_000_000
	// Bounds of a datagram with a part of a message: what every host must take
	// of IPv4 (RFC 791), and what there is.
	minFragment, maxFragment = 576, 65535
	// defaultFragment is what every link for IPv6 carries (RFC 8200).
	defaultFragment = 1280
	maxWindow       = 64
	defaultWindow   = 8
)

var keyExchangeKeys = append(part(exchangeKeys, func(x *KeyExchange) *Exchange { return &x.Exchange }), table[KeyExchange]{
	{name: "lifetime", about: "after which an IKE SA is replaced; 8h if missing", write: "lifetime: 8h",
		value: duration(time.Second, maxLifetime, func(x *KeyExchange) *time.Duration { return &x.Lifetime })},
	{name: "liveness", about: "how long a peer may be silent before it is asked whether it lives; 30s if missing", write: "liveness: 30s",
		value: duration(time.Second, time.Hour, func(x *KeyExchange) *time.Duration { return &x.Liveness })},
	{name: "fragmentation", about: "whether large messages go in several datagrams, or the size of these in bytes; true, which is 1280, if missing", write: "fragmentation: true, fragmentation: false, or a size as in fragmentation: 1400",
		value: value[KeyExchange]{
			read: func(r *reader, n *node, k keyed, x *KeyExchange) { r.readFragmentation(n, k, &x.Fragmentation) },
			describe: func(*definitions) *schema {
				return either(&schema{Type: "boolean"}, numbers(minFragment, maxFragment))
			},
		}},
	{name: "window", about: "how many requests a peer may have under way; 8 if missing", write: "window: 8",
		value: count(1, maxWindow, func(x *KeyExchange) *int { return &x.Window })},
	{name: "children", about: "how many SAs an IKE SA has at most, 0 for any number; 0 if missing", write: "children: 0",
		value: count(0, maxChildren, func(x *KeyExchange) *int { return &x.Children })},
	{name: "master-key-pfs", about: "whether each SA has an IKE SA of its own; false if missing", write: "master-key-pfs: true, or remove the key",
		value: boolean(func(x *KeyExchange) *bool { return &x.MasterKeyPFS })},
	{name: "versions", about: "the versions of IKE to speak; [2] if missing", write: "versions: [2]",
		value: value[KeyExchange]{
			read:     func(r *reader, n *node, k keyed, x *KeyExchange) { x.Versions = r.readVersions(n, k) },
			describe: func(*definitions) *schema { return listOf(integers(1, 2)) },
		}},
}...)

// keyExchange is what holds for IKE with every peer.
func keyExchange[T any](of func(*T) *KeyExchange) value[T] {
	return value[T]{
		read: func(r *reader, n *node, k keyed, into *T) {
			x := of(into)
			x.Position, x.places = n.at, n.places()
			keyExchangeKeys.read(r, n, quoted(k.name), x)
			if x.MasterKeyPFS && x.Children > 1 {
				r.report(n.get("children").at, fmt.Sprintf("%q allows an IKE SA one SA, and %q allows %d", "master-key-pfs", "children", x.Children), "remove one of the two")
			}
		},
		describe: func(d *definitions) *schema { return keyExchangeKeys.describe(d) },
	}
}

// readFragmentation reads true, false or a size.
func (r *reader) readFragmentation(n *node, k keyed, into *int) {
	if n.isBool() {
		if *into = 0; n.text == "true" {
			*into = defaultFragment
		}
		return
	}
	if n.kind == scalar {
		if size, err := number(n.text); err == nil && size >= minFragment && size <= maxFragment {
			*into = size
			return
		}
	}
	r.report(n.at, fmt.Sprintf("%q is neither true, false nor a number from %d to %d", k.name, minFragment, maxFragment), "write "+k.write)
}

// readVersions reads the versions of IKE.
func (r *reader) readVersions(n *node, k keyed) []int {
	var out []int
	r.readList(n, quoted(k.name), k.write, func(v *node) {
		version, ok := r.readNumber(v, "versions", 1, 2)
		switch {
		case !ok:
		case version == 1:
			r.report(v.at, "this version does not speak IKE version 1", "write "+k.write)
		case slices.Contains(out, version):
			r.report(v.at, fmt.Sprintf("IKE version %d comes twice", version), "remove one of the two")
		default:
			out = append(out, version)
		}
	})
	return out
}

// printKeyExchange writes what is not so by default.
func printKeyExchange(k *KeyExchange) pairs {
	p := printExchange(&k.Exchange)
	if k.Lifetime != defaultIKELifetime {
		p.add("lifetime", printDuration(k.Lifetime))
	}
	if k.Liveness != defaultLiveness {
		p.add("liveness", printDuration(k.Liveness))
	}
	switch k.Fragmentation {
	case defaultFragment:
	case 0:
		p.add("fragmentation", "false")
	default:
		p.add("fragmentation", strconv.Itoa(k.Fragmentation))
	}
	if k.Window != defaultWindow {
		p.add("window", strconv.Itoa(k.Window))
	}
	if k.Children != 0 {
		p.add("children", strconv.Itoa(k.Children))
	}
	p.addBool("master-key-pfs", k.MasterKeyPFS, false)
	return p
}
