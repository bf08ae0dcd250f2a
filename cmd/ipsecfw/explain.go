package main

import (
	"errors"
	"fmt"
	"net/netip"
	"strconv"

	"github.com/urfave/cli/v2"

	"github.com/ipsecfw/ipsecfw/cmd/ipsecfw/internal/explain"
	"github.com/ipsecfw/ipsecfw/filter"
	"github.com/ipsecfw/ipsecfw/filter/packet"
	"github.com/ipsecfw/ipsecfw/nfq"
	"github.com/ipsecfw/ipsecfw/rules"
)

func explainCommand() *cli.Command {
	return &cli.Command{
		Name:      "explain",
		Usage:     "say what becomes of packets and why: which filter decides, what would without it, what is negotiated",
		ArgsUsage: " ",
		Flags: []cli.Flag{
			&cli.PathFlag{Name: "file", Usage: "explain by the rule `FILE`, with names as they resolve now, and not by the policy in force"},
			&cli.StringFlag{Name: "from", Usage: "source `ADDRESS`, or me"},
			&cli.StringFlag{Name: "to", Usage: "destination `ADDRESS`, or me"},
			&cli.StringFlag{Name: "protocol", Usage: "keyword or number; by default tcp, or with --icmp-type icmp or icmpv6"},
			&cli.UintFlag{Name: "from-port", Usage: "source `PORT`", Value: ephemeral},
			&cli.UintFlag{Name: "to-port", Usage: "destination `PORT`"},
			&cli.StringFlag{Name: "icmp-type", Usage: "keyword or number"},
			&cli.UintFlag{Name: "icmp-code", Usage: "`NUMBER`"},
			&cli.BoolFlag{Name: "in", Usage: "packets that this host receives"},
			&cli.BoolFlag{Name: "out", Usage: "packets that it sends"},
			&cli.BoolFlag{Name: "forward", Usage: "packets that it passes on for others"},
			&cli.StringFlag{Name: "interface", Usage: "`NAME` of the interface by which they come or go; by default the one that leads there"},
			&cli.StringFlag{Name: "state", Usage: "their place in a connection: new, original or reply", Value: filter.StateNew.String()},
			&cli.PathFlag{Name: "pcap", Usage: "explain each flow of the capture in `FILE`, pcap or pcapng"},
			&cli.StringFlag{Name: "local", Usage: "`ADDRESSES` of the host that the capture was made on, separated by commas, if it is another one"},
			outputFlag(),
		},
		Action: noArguments(func(c *cli.Context) error {
			if err := checkFormat(c); err != nil {
				return err
			}
			if c.IsSet("pcap") {
				return explainCapture(c)
			}
			f, err := flowOf(c)
			if err != nil {
				return err
			}
			e, err := explainFlow(c, f)
			if err != nil {
				return err
			}
			if c.String("output") == "json" {
				return printJSON(c, e)
			}
			_, err = fmt.Fprint(c.App.Writer, e)
			return err
		}),
	}
}

// ephemeral is the source port of whoever does not care (RFC 6335 section 6).
const ephemeral = 49152

func explainFlow(c *cli.Context, f explain.Flow) (explain.Explanation, error) {
	if !c.IsSet("file") {
		d, err := client(c)
		if err != nil {
			return explain.Explanation{}, err
		}
		return d.Explain(c.Context, f)
	}
	p, err := explained(c)
	if err != nil {
		return explain.Explanation{}, err
	}
	s, err := p.spd()
	if err != nil {
		return explain.Explanation{}, err
	}
	return explain.Explain(s, p.negotiations(), f), nil
}

// explained returns the policy that the command line asks about: the one of a
// file, or the one in force.
func explained(c *cli.Context) (policy, error) {
	if !c.IsSet("file") {
		d, err := client(c)
		if err != nil {
			return policy{}, err
		}
		p, err := inForce(c.Context, d)
		if err == nil && len(p.files) == 0 {
			err = errors.New("no policy is in force: explain a rule file with --file")
		}
		return p, err
	}
	f, err := parseRuleFile(c.Path("file"))
	if err != nil {
		return policy{}, err
	}
	p := policy{files: []*rules.File{f.file}}
	if err := look(c.Context, &p); err != nil {
		fmt.Fprintf(c.App.ErrWriter, "%v\n", err)
	}
	return p, nil
}

// flowOf returns the flow that the command line describes.
func flowOf(c *cli.Context) (explain.Flow, error) {
	h, err := thisHost()
	if err != nil {
		return explain.Flow{}, err
	}
	var f explain.Flow
	if f.From, f.To, err = ends(c, h); err != nil {
		return f, err
	}
	if f.Direction, err = wayOf(c, h, f.From, f.To); err != nil {
		return f, err
	}
	if err := upper(c, &f); err != nil {
		return f, err
	}
	f.State = c.String("state")
	f.Broadcast = f.Direction == filter.Inbound.String() && h.broadcasts[f.To]
	f.Own = f.OfEngine()
	if err := f.Check(); err != nil {
		return f, usageError{err}
	}
	return f, link(c, &f)
}

// ends returns the two addresses.
func ends(c *cli.Context, h *host) (from, to netip.Addr, err error) {
	const me = "me"
	texts := [2]string{c.String("from"), c.String("to")}
	var out [2]netip.Addr
	for i, s := range texts {
		switch {
		case s == "":
			return from, to, usageError{errors.New("explain takes --from and --to, or --pcap")}
		case s == me && texts[1-i] == me:
			return from, to, usageError{errors.New("me speaks with itself by the loopback interface, which no filter judges: name another host")}
		case s != me:
			if out[i], err = parseAddr(s); err != nil {
				return from, to, err
			}
		}
	}
	for i, s := range texts {
		if s == me {
			if out[i], err = h.me(out[1-i]); err != nil {
				return from, to, err
			}
		}
	}
	return out[0], out[1], nil
}

// wayOf returns the direction: the one that was chosen, or the one that follows
// from which address is the host's.
func wayOf(c *cli.Context, h *host, from, to netip.Addr) (string, error) {
	chosen := ""
	for _, x := range []struct {
		flag      string
		direction filter.Direction
	}{{"in", filter.Inbound}, {"out", filter.Outbound}, {"forward", filter.Forward}} {
		if !c.Bool(x.flag) {
			continue
		}
		if chosen != "" {
			return "", usageError{errors.New("packets have one direction: choose one of --in, --out and --forward")}
		}
		chosen = x.direction.String()
	}
	switch {
	case chosen != "":
		return chosen, nil
	case h.local(from) && h.local(to):
		return "", usageError{fmt.Errorf("%s and %s are both this host's: choose --in or --out", from, to)}
	case !h.local(from) && !h.local(to):
		return "", usageError{fmt.Errorf("neither %s nor %s is this host's: choose --in, --out or --forward", from, to)}
	}
	return h.direction(from, to).String(), nil
}

// upper reads the protocol, and its ports or its message type.
func upper(c *cli.Context, f *explain.Flow) error {
	icmp := uint8(packet.ICMP)
	if f.From.Is6() {
		icmp = packet.ICMPv6
	}
	switch name := c.String("protocol"); {
	case name != "":
		n, ok := filter.ProtocolNumber(name)
		if !ok {
			x, err := strconv.ParseUint(name, 10, 8)
			if err != nil {
				return usageError{fmt.Errorf("%q is no protocol: write a keyword as in tcp or icmp, or a number up to 255", name)}
			}
			n = uint8(x)
		}
		f.Protocol = n
	case c.IsSet("icmp-type"):
		f.Protocol = icmp
	default:
		f.Protocol = packet.TCP
	}
	var numbers [3]uint
	for i, x := range []struct {
		flag string
		max  uint
	}{{"from-port", 65535}, {"to-port", 65535}, {"icmp-code", 255}} {
		if numbers[i] = c.Uint(x.flag); numbers[i] > x.max {
			return usageError{fmt.Errorf("--%s is %d, and can be %d at most", x.flag, numbers[i], x.max)}
		}
	}
	if packet.HasPorts(f.Protocol) {
		if !c.IsSet("to-port") {
			return usageError{fmt.Errorf("%s has ports: choose one by --to-port, or another --protocol", filter.ProtocolName(f.Protocol))}
		}
		f.FromPort, f.ToPort = uint16(numbers[0]), uint16(numbers[1])
	} else if c.IsSet("from-port") || c.IsSet("to-port") {
		return usageError{fmt.Errorf("protocol %s has no ports", filter.ProtocolName(f.Protocol))}
	}
	if f.Protocol != icmp {
		if c.IsSet("icmp-type") || c.IsSet("icmp-code") {
			return usageError{fmt.Errorf("an ICMP type needs the protocol %s between these addresses", filter.ProtocolName(icmp))}
		}
		return nil
	}
	f.ICMPCode = uint8(numbers[2])
	name := c.String("icmp-type")
	if name == "" {
		name = "echo-request"
	}
	kind, ok := filter.ICMPTypeNumber(icmp, name)
	if !ok {
		x, err := strconv.ParseUint(name, 10, 8)
		if err != nil {
			return usageError{fmt.Errorf("%q is no type of %s: write a keyword as in echo-request, or a number up to 255", name, filter.ProtocolName(icmp))}
		}
		kind = uint8(x)
	}
	f.ICMPType = kind
	return nil
}

// link finds the interface: the one that was chosen, or the one that leads to
// the other end. One that this host does not have is taken for a LAN.
func link(c *cli.Context, f *explain.Flow) error {
	links, err := nfq.NewLinks()
	if err != nil {
		return err
	}
	if name := c.String("interface"); name != "" {
		f.Interface = name
		for _, x := range links.All() {
			if x.Name == name {
				f.Remote = x.Remote
			}
		}
		return nil
	}
	far := f.To
	if f.Direction == filter.Inbound.String() {
		far = f.From
	}
	x := links.Toward(far)
	f.Interface, f.Remote = x.Name, x.Remote
	return nil
}
