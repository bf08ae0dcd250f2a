package daemon

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/ipsecfw/ipsecfw/cmd/ipsecfw/internal/api"
	"github.com/ipsecfw/ipsecfw/cmd/ipsecfw/internal/explain"
	"github.com/ipsecfw/ipsecfw/filter"
	"github.com/ipsecfw/ipsecfw/filter/nft"
	"github.com/ipsecfw/ipsecfw/ipsec"
	"github.com/ipsecfw/ipsecfw/ipsec/ike"
	"github.com/ipsecfw/ipsecfw/nfq"
)

// InForce implements api.Engine.
func (c *control) InForce() api.InForce {
	c.mu.Lock()
	defer c.mu.Unlock()
	out := api.InForce{Files: []api.File{}}
	if c.plant == nil {
		return out
	}
	p := c.plant.policy.Load()
	for _, x := range p.parts {
		out.Files = append(out.Files, api.File{Name: x.upload.Name, Source: x.upload.Source, Persistent: x.file.Persistent})
	}
	out.Addresses, out.ConfirmBy = p.addresses, c.confirmBy()
	return out
}

// confirmBy returns until when the policy on trial is to be confirmed.
func (c *control) confirmBy() *time.Time {
	if c.kept.Trial == nil {
		return nil
	}
	return &c.kept.Trial.Until
}

// Filters implements api.Engine: one for each filter of the rule files.
func (c *control) Filters() []api.Filter {
	pl := c.current()
	if pl == nil {
		return nil
	}
	p, counters := pl.policy.Load(), pl.counters()
	written := p.written()
	var out []api.Filter
	at := map[filterName]int{}
	for _, e := range p.spd.Entries() {
		k := filterName{e.Name, e.Index}
		n, known := at[k]
		if !known {
			n = len(out)
			at[k] = n
			f, w := listed(e), written[k]
			f.Order, f.From, f.To, f.Connection = n+1, w.From, w.To, w.Connection
			out = append(out, f)
		}
		out[n].Packets += counters[e].Packets
		out[n].Bytes += counters[e].Bytes
	}
	return out
}

// filterName tells the filters of a policy apart.
type filterName struct {
	rule  string
	index int
}

// written returns what the rule files say of each filter's sides and
// interfaces.
func (p *policy) written() map[filterName]api.Filter {
	out := map[filterName]api.Filter{}
	for _, x := range p.parts {
		for _, g := range x.file.Filters() {
			on := make([]string, len(g.On))
			for i, c := range g.On {
				on[i] = c.String()
			}
			out[filterName{g.Rule, g.Index}] = api.Filter{From: g.From, To: g.To, Connection: strings.Join(on, ", ")}
		}
	}
	return out
}

// SpecificFilters implements api.Engine: one for each pair of sides.
func (c *control) SpecificFilters() []api.Filter {
	pl := c.current()
	if pl == nil {
		return nil
	}
	entries, counters := pl.policy.Load().spd.Entries(), pl.counters()
	out := make([]api.Filter, len(entries))
	for i, e := range entries {
		out[i] = listed(e)
		out[i].Order, out[i].Packets, out[i].Bytes = i+1, counters[e].Packets, counters[e].Bytes
	}
	return out
}

// counters returns what each filter has decided on, as far as it is counted.
func (pl *plant) counters() map[*filter.Entry]nft.Counter {
	rs := pl.ruleset.Load()
	if rs == nil {
		return nil
	}
	counters, err := nft.Counters(*rs)
	if err != nil {
		pl.log.Debug("counters not read", "error", err)
	}
	return counters
}

func listed(e *filter.Entry) api.Filter {
	s := e.Selector
	f := api.Filter{
		Rule: e.Name, List: e.List, Index: e.Index + 1, Position: e.Position,
		Weight: e.Weight(), Action: e.Action.String(),
		From: s.From.String(), To: s.To.String(), Protocol: "any",
		FromPort: s.FromPort.String(), ToPort: s.ToPort.String(), Mirrored: e.Mirrored,
		Path: "host", Options: explain.Options(e),
	}
	if s.HasProtocol {
		f.Protocol = filter.ProtocolName(s.Protocol)
	}
	if s.ICMP.HasType {
		f.ICMP = filter.ICMPTypeName(s.Protocol, s.ICMP.Type)
	}
	if s.ICMP.HasCode {
		f.ICMP += " code " + strconv.Itoa(int(s.ICMP.Code))
	}
	if s.Connection != (filter.Connection{}) {
		f.Connection = s.Connection.String()
	}
	if e.Forward {
		f.Path = "forward"
	}
	return f
}

// SAs implements api.Engine. Soft SAs, which are none, stand at the end.
func (c *control) SAs() []api.SA {
	pl := c.current()
	if pl == nil {
		return nil
	}
	var out []api.SA
	for _, sa := range pl.engine.SAD().All() {
		out = append(out, describe(sa))
	}
	for peer, x := range pl.soft.all() {
		out = append(out, api.SA{
			Rule: x.rule, Mode: "clear", Protocol: "none", Remote: peer.String(), Encryption: "none",
			AgeSeconds: int64(time.Since(x.began).Seconds()), Soft: true, SoftSeconds: int64(time.Until(x.until).Seconds()),
			LocalSelectors: []string{}, RemoteSelectors: []string{},
		})
	}
	return out
}

func describe(sa *nfq.SA) api.SA {
	out := api.SA{
		Rule: sa.Policy, Mode: sa.Mode.String(), Protocol: sa.Protocol.String(),
		InSPI: sa.InSPI.String(), OutSPI: sa.OutSPI.String(),
		Local: sa.LocalAddr.Addr().String(), Remote: sa.RemoteAddr.Addr().String(),
		LocalSelectors: texts(sa.ChildSA.Local), RemoteSelectors: texts(sa.ChildSA.Remote),
		Nested: sa.Nested, Encryption: "none", Integrity: sa.Integ.String(), ESN: sa.ESN, UDPEncap: sa.UDPEncap,
		AgeSeconds: int64(time.Since(sa.Since).Seconds()),
	}
	if sa.UDPEncap {
		out.Local, out.Remote = sa.LocalAddr.String(), sa.RemoteAddr.String()
	}
	if sa.Protocol == ipsec.ProtoESP {
		out.Encryption = sa.Encr.String()
	}
	if sa.Encr.AEAD() {
		out.Integrity = out.Encryption
	}
	n := sa.In.Counters()
	out.Malformed, out.SelectorMismatch = n.Malformed, sa.Mismatches()
	out.InBytes, out.InPackets, out.ReplayDrops, out.IntegrityFailures = n.Bytes, n.Packets, n.Replayed, n.Forged
	n = sa.Out.Counters()
	out.OutBytes, out.OutPackets = n.Bytes, n.Packets
	return out
}

func texts(ts []ipsec.TrafficSelector) []string {
	out := make([]string, len(ts))
	for i, t := range ts {
		out[i] = t.String()
	}
	return out
}

// Peers implements api.Engine.
func (c *control) Peers() []api.Peer {
	pl := c.current()
	if pl == nil {
		return nil
	}
	var out []api.Peer
	for _, p := range pl.manager.Peers() {
		out = append(out, describePeer(p))
	}
	return out
}

func describePeer(p ike.PeerStatus) api.Peer {
	out := api.Peer{
		Version: int(p.Version), Initiator: p.Initiator,
		SPIi: fmt.Sprintf("%016x", p.SPIi), SPIr: fmt.Sprintf("%016x", p.SPIr),
		Local: p.Local.String(), Remote: p.Remote.String(), LocalID: p.LocalID, RemoteID: p.RemoteID,
		Authentication: p.Auth, Revocation: p.Revocation, Unchecked: p.Unchecked, Proposal: p.Proposal.String(), NATLocal: p.NATLocal, NATRemote: p.NATRemote,
		Children: len(p.Children), AgeSeconds: int64(time.Since(p.Since).Seconds()),
		PPK: p.PPK, Fragmentation: p.Fragmentation, Window: p.Window,
	}
	if !p.Renew.IsZero() {
		out.Renew = &p.Renew
	}
	return out
}

// Status implements api.Engine.
func (c *control) Status() api.Status {
	c.mu.Lock()
	defer c.mu.Unlock()
	s := api.Status{Generation: c.generation, Counters: map[string]uint64{}, Queue: api.QueueCompat, KeyLog: c.keys.path()}
	if c.plant == nil {
		return s
	}
	p := c.plant.policy.Load()
	s.Policy, s.File, s.Counters = p.settings().Name, p.settings().Path, c.plant.engine.Counters.Map()
	for _, x := range p.parts {
		if x.file.Persistent {
			s.Persistent = x.file.Name
		}
	}
	s.ConfirmBy = c.confirmBy()
	if features().NativeQueue {
		s.Queue = api.QueueNative
	}
	return s
}
