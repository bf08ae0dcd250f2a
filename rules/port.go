package rules

import (
	"fmt"
	"strings"

	"github.com/ipsecfw/ipsecfw/filter"
)

// readProtocol reads an upper-layer protocol by keyword or number.
func (r *reader) readProtocol(n *node, f *Filter) {
	const write = "protocol: tcp, or another keyword or number from 1 to 255"
	text, ok := r.readScalar(n, "protocol", write)
	if !ok {
		return
	}
	p, known := filter.ProtocolNumber(text)
	if !known {
		v, err := number(text)
		switch {
		case text == "any":
			r.report(n.at, `unknown protocol "any"`, `remove "protocol" for any protocol`)
			return
		case err != nil:
			words := filter.ProtocolKeywords()
			r.report(n.at, fmt.Sprintf("unknown protocol %q", text), didYouMean(text, words, "write its number, or one of "+strings.Join(words, ", ")))
			return
		case v < 1 || v > 255:
			r.report(n.at, fmt.Sprintf("protocol %q is out of bounds", text), `write 1 to 255, or remove "protocol" for any`)
			return
		}
		p = uint8(v)
	}
	switch p {
	case 43, 44, 60:
		r.report(n.at, fmt.Sprintf("protocol %d is an IPv6 extension header, and filters match what comes behind it", p), "write the upper-layer protocol, as in protocol: tcp")
		return
	}
	f.Protocol, f.HasProtocol = p, true
}

func describeProtocol(*definitions) *schema {
	return either(enum(filter.ProtocolKeywords()...), numbers(1, 255))
}

// ports is a port or a range of ports.
func ports[T any](of func(*T) *filter.PortRange) value[T] {
	return value[T]{
		read: func(r *reader, n *node, k keyed, into *T) { r.readPorts(n, k.name, of(into)) },
		describe: func(*definitions) *schema {
			return either(integers(1, 65535), pattern(`^[0-9]+( *- *[0-9]+)?$`))
		},
	}
}

// readPorts reads a port or a range LOW-HIGH.
func (r *reader) readPorts(n *node, name string, into *filter.PortRange) {
	if n.kind != scalar || n.text == "" {
		r.readScalar(n, name, fmt.Sprintf("%s: PORT or %s: LOW-HIGH, and a filter for each range", name, name))
		return
	}
	text := n.text
	low, high, isRange := strings.Cut(text, "-")
	if !isRange {
		high = low
	}
	var ports [2]uint16
	for i, s := range [...]string{low, high} {
		v, err := number(strings.TrimSpace(s))
		switch {
		case err != nil:
			r.report(n.at, fmt.Sprintf("%q of %q is no port", name, text), fmt.Sprintf("write a number or two, as in %s: 443 or %s: 1024-65535", name, name))
			return
		case v < 0 || v > 65535 || v == 0 && !isRange:
			r.report(n.at, fmt.Sprintf("port %d does not exist", v), fmt.Sprintf("write 1 to 65535, or remove %q for any port", name))
			return
		}
		ports[i] = uint16(v)
	}
	if ports[0] > ports[1] {
		r.report(n.at, fmt.Sprintf("port range %q runs backwards", text), fmt.Sprintf("write %d-%d", ports[1], ports[0]))
		return
	}
	if ports[1] == 0 {
		r.report(n.at, "port 0 does not exist", fmt.Sprintf("write 1 to 65535, or remove %q for any port", name))
		return
	}
	*into = filter.PortRange{Lo: ports[0], Hi: ports[1]}
	if into.Any() {
		*into = filter.PortRange{}
	}
}
