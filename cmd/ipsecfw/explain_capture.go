package main

import (
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/ipsecfw/ipsecfw/cmd/ipsecfw/internal/explain"
	"github.com/ipsecfw/ipsecfw/filter"
	"github.com/ipsecfw/ipsecfw/filter/packet"
)

// explainedFlow is a flow of a capture with what becomes of it.
type explainedFlow struct {
	explain.Explanation
	Captured int `json:"captured"` // packets of it
}

// explainCapture explains each flow of a capture, in the order in which they
// begin.
func explainCapture(c *cli.Context) error {
	for _, name := range []string{"from", "to", "protocol", "from-port", "to-port", "icmp-type", "icmp-code", "in", "out", "state"} {
		if c.IsSet(name) {
			return usageError{fmt.Errorf("--pcap tells the packets, so that --%s does not go with it", name)}
		}
	}
	h, err := thisHost()
	if c.IsSet("local") {
		h, err = hostOf(c.String("local"))
	}
	if err != nil {
		return err
	}
	p, err := explained(c)
	if err != nil {
		return err
	}
	s, err := p.spd()
	if err != nil {
		return err
	}
	g := &gatherer{host: h, name: c.String("interface"), forward: c.Bool("forward"), at: map[explain.Flow]int{}}
	if err := each(c.Path("pcap"), g.add); err != nil {
		return err
	}
	if err := g.mistaken(c); err != nil {
		return err
	}
	out, negotiations := make([]explainedFlow, len(g.flows)), p.negotiations()
	for i, f := range g.flows {
		out[i] = explainedFlow{explain.Explain(s, negotiations, f), g.packets[i]}
	}
	if left := g.left(); left != "" {
		fmt.Fprintf(c.App.ErrWriter, "%s: left out: %s\n", c.Path("pcap"), left)
	}
	if c.String("output") == "json" {
		return printJSON(c, out)
	}
	return printFlows(c.App.Writer, out)
}

func printFlows(w io.Writer, flows []explainedFlow) error {
	var b strings.Builder
	for _, f := range flows {
		fmt.Fprintf(&b, "%s: %s (%s)\n", f.Flow, f.Packets, count(f.Captured, "packet"))
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// gatherer collects the flows of a capture.
type gatherer struct {
	host    *host
	name    string // of the interface, if it was chosen
	forward bool   // all packets are forwarded

	flows   []explain.Flow
	packets []int
	at      map[explain.Flow]int // by what the flow is without its state

	notIP, cut, malformed int // packets that are left out
}

// add takes a packet.
func (g *gatherer) add(x frame) error {
	if x.packet == nil {
		g.notIP++
		return nil
	}
	// What the capture left off is put back as zeros, for the lengths in the
	// headers to be right.
	b := x.packet
	if missing := x.length - len(b); missing > 0 && x.length <= maxPacket {
		b = append(b[:len(b):len(b)], make([]byte, missing)...)
	}
	var p packet.Packet
	switch err := packet.Parse(b, &p); {
	case err != nil && len(x.packet) < len(b):
		g.cut++
		return nil
	case err != nil:
		g.malformed++
		return nil
	case p.HeaderLen+upperLen(&p) > len(x.packet):
		g.cut++
		return nil
	}
	ctx := filter.Context{Direction: filter.Forward, Interface: x.on}
	if !g.forward {
		ctx.Direction = g.host.direction(p.Src, p.Dst)
	}
	if g.name != "" {
		ctx.Interface.Name = g.name
	}
	ctx.Broadcast = g.host.broadcasts[p.Dst]
	f := explain.Of(ctx, &p)
	f.Own = f.OfEngine()
	g.count(f)
	return nil
}

// upperLen is how many bytes of the upper-layer packet filters look at.
func upperLen(p *packet.Packet) int {
	switch {
	case p.HasPorts:
		return 4
	case p.HasICMP:
		return 2
	}
	return 0
}

// maxPacket is the size of the largest IP packet, in bytes.
const maxPacket = 65535 + packet.IPv6HeaderLen

// count counts a packet of a flow. Where the flow answers one that was seen
// before, it is of the same connection.
func (g *gatherer) count(f explain.Flow) {
	if n, ok := g.at[f]; ok {
		g.packets[n]++
		return
	}
	back := f.Answer()
	back.State = ""
	n, answers := g.at[back]
	g.at[f] = len(g.flows)
	f.State = filter.StateNew.String()
	if answers && g.flows[n].State == f.State {
		f.State = filter.StateReply.String()
	}
	g.flows, g.packets = append(g.flows, f), append(g.packets, 1)
}

// mistaken returns an error if the capture seems to be another host's.
func (g *gatherer) mistaken(c *cli.Context) error {
	if len(g.flows) == 0 || g.forward || c.IsSet("local") {
		return nil
	}
	for _, f := range g.flows {
		if f.Direction != filter.Forward.String() {
			return nil
		}
	}
	return usageError{errors.New("no packet of the capture is this host's own: name the addresses of the host that it was made on with --local, or say --forward if it passed them on")}
}

// left says what was not explained.
func (g *gatherer) left() string {
	var out []string
	for _, x := range []struct {
		n    int
		what string
	}{{g.notIP, "that are no IP"}, {g.cut, "whose headers were not captured whole"}, {g.malformed, "that are malformed"}} {
		if x.n > 0 {
			out = append(out, count(x.n, "packet")+" "+x.what)
		}
	}
	return strings.Join(out, ", ")
}
