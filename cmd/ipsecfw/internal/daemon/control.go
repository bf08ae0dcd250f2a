package daemon

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/ipsecfw/ipsecfw/cmd/ipsecfw/internal/api"
	"github.com/ipsecfw/ipsecfw/filter"
	"github.com/ipsecfw/ipsecfw/filter/nft"
	"github.com/ipsecfw/ipsecfw/ipsec"
	"github.com/ipsecfw/ipsecfw/ipsec/esp"
	"github.com/ipsecfw/ipsecfw/nfq"
)

// control is the daemon as its socket's callers see it.
type control struct {
	cfg   Config
	state state
	fatal context.CancelCauseFunc

	mu         sync.Mutex // one change at a time
	generation uint64
	plant      *plant // nil with no policy in force
}

var _ api.Engine = (*control)(nil)

// restore puts the policy in force that was so when the last daemon ended.
func (c *control) restore() error {
	up, ok, err := c.state.load()
	if err != nil || !ok {
		return err
	}
	if err := c.resume(up); err != nil {
		return fmt.Errorf("restore the policy %s from %s: %w", up.Name, c.cfg.State, err)
	}
	return nil
}

// resume puts the policy in force that is kept. Its ruleset comes into force
// even when the plant does not start: the host may have none yet, and without
// one what is to be secured would leave in clear.
func (c *control) resume(up api.Policy) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	p, err := compile(up, c.generation+1)
	if err != nil {
		return err
	}
	pl, err := c.start(p)
	if errors.Is(err, nfq.ErrInUse) { // and so is the ruleset, which is not ours
		return err
	}
	enforced := nft.Apply(ruleset(p.spd))
	switch {
	case err != nil:
		return errors.Join(err, enforced)
	case enforced != nil:
		return errors.Join(enforced, pl.stop())
	}
	c.inForce(pl, p)
	return nil
}

func (c *control) start(p *policy) (*plant, error) {
	return start(p, c.cfg.Log, func(err error) { c.fatal(err) })
}

// Apply implements api.Engine.
func (c *control) Apply(_ context.Context, up api.Policy) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	p, err := compile(up, c.generation+1)
	if err != nil {
		return err
	}
	commit, discard, err := c.state.stage(up)
	if err != nil {
		return err
	}
	defer discard()
	pl := c.plant
	if pl == nil {
		if pl, err = c.start(p); err != nil {
			return err
		}
	}
	if err := c.enforce(p, commit); err != nil {
		if c.plant == nil {
			err = errors.Join(err, pl.stop())
		}
		return err
	}
	if c.plant != nil {
		pl.swap(p)
	}
	c.inForce(pl, p)
	return nil
}

func (c *control) inForce(pl *plant, p *policy) {
	c.generation++
	c.plant = pl
	c.cfg.Log.Info("policy in force", "name", p.file.Name, "file", p.upload.Name, "generation", c.generation)
}

func ruleset(s *filter.SPD) nft.Ruleset {
	return nft.Compile(s, nft.Config{
		Interface: device, InMark: inMark, OutMark: outMark,
		Queue: queue, TCPQueue: tcpQueue, NativeQueue: nativeQueue(),
	})
}

// enforce gives the policy to nftables and to the disk, or leaves both as they
// were.
func (c *control) enforce(p *policy, commit func() error) error {
	if err := nft.Apply(ruleset(p.spd)); err != nil {
		return err
	}
	err := commit()
	switch {
	case err == nil:
		return nil
	case c.plant == nil:
		return errors.Join(err, nft.Remove())
	}
	return errors.Join(err, nft.Apply(ruleset(c.plant.policy.Load().spd)))
}

// Unapply implements api.Engine.
func (c *control) Unapply(context.Context) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.plant == nil {
		// What a daemon left that was killed goes too; what one that lives
		// beside this one has in force does not.
		tun, err := nfq.OpenTUN(device)
		if errors.Is(err, nfq.ErrInUse) {
			return err
		}
		if err == nil {
			defer tun.Close()
		}
	}
	if err := c.state.remove(); err != nil {
		return err
	}
	if err := nft.Remove(); err != nil {
		return err
	}
	if c.plant == nil {
		return nfq.Unroute(inMark, routeTable)
	}
	err := c.plant.stop()
	c.plant = nil
	c.cfg.Log.Info("no policy in force")
	return err
}

// end stops what runs; the ruleset stays in force.
func (c *control) end() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.plant == nil {
		return
	}
	if err := c.plant.stop(); err != nil {
		c.cfg.Log.Warn("not everything could be taken down", "error", err)
	}
	c.plant = nil
}

func (c *control) current() *plant {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.plant
}

// Filters implements api.Engine.
func (c *control) Filters() []api.Filter {
	pl := c.current()
	if pl == nil {
		return nil
	}
	var out []api.Filter
	for i, e := range pl.policy.Load().spd.Entries() {
		s := e.Selector
		protocol := "any"
		if s.HasProtocol {
			protocol = filter.ProtocolName(s.Protocol)
		}
		out = append(out, api.Filter{
			Order: i + 1, Rule: e.Name, List: e.List, Index: e.Index + 1, Position: e.Position,
			Weight: e.Weight(), Action: e.Action.String(),
			From: s.From.String(), To: s.To.String(), Protocol: protocol,
			FromPort: s.FromPort.String(), ToPort: s.ToPort.String(), Mirrored: e.Mirrored,
		})
	}
	return out
}

// SAs implements api.Engine.
func (c *control) SAs() []api.SA {
	pl := c.current()
	if pl == nil {
		return nil
	}
	var out []api.SA
	for _, sa := range pl.engine.SAD().All() {
		out = append(out, describe(sa))
	}
	return out
}

func describe(sa *nfq.SA) api.SA {
	out := api.SA{
		Rule: sa.Policy, Mode: sa.Mode.String(), Protocol: sa.Protocol.String(),
		InSPI: sa.InSPI.String(), OutSPI: sa.OutSPI.String(),
		Local: sa.LocalAddr.Addr().String(), Remote: sa.RemoteAddr.Addr().String(),
		LocalSelectors: texts(sa.ChildSA.Local), RemoteSelectors: texts(sa.ChildSA.Remote),
		Encryption: sa.Encr.String(), ESN: sa.ESN, UDPEncap: sa.UDPEncap,
		AgeSeconds: int64(time.Since(sa.Since).Seconds()),
	}
	if sa.UDPEncap {
		out.Local, out.Remote = sa.LocalAddr.String(), sa.RemoteAddr.String()
	}
	if in, ok := sa.In.(*esp.Inbound); ok {
		n := in.Counters()
		out.InBytes, out.InPackets, out.ReplayDrops, out.IntegrityFailures = n.Bytes, n.Packets, n.Replayed, n.Forged
	}
	if o, ok := sa.Out.(*esp.Outbound); ok {
		n := o.Counters()
		out.OutBytes, out.OutPackets = n.Bytes, n.Packets
	}
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
		out = append(out, api.Peer{
			Version: int(p.Version), Initiator: p.Initiator,
			SPIi: fmt.Sprintf("%016x", p.SPIi), SPIr: fmt.Sprintf("%016x", p.SPIr),
			Local: p.Local.String(), Remote: p.Remote.String(), LocalID: p.LocalID, RemoteID: p.RemoteID,
			Authentication: p.Auth, Proposal: p.Proposal.String(), NATLocal: p.NATLocal, NATRemote: p.NATRemote,
			Children: len(p.Children), AgeSeconds: int64(time.Since(p.Since).Seconds()),
		})
	}
	return out
}

// Status implements api.Engine.
func (c *control) Status() api.Status {
	c.mu.Lock()
	defer c.mu.Unlock()
	s := api.Status{Generation: c.generation, Counters: map[string]uint64{}, Queue: api.QueueCompat}
	if c.plant == nil {
		return s
	}
	p := c.plant.policy.Load()
	s.Policy, s.File, s.Counters = p.file.Name, p.upload.Name, c.plant.engine.Counters.Map()
	if nativeQueue() {
		s.Queue = api.QueueNative
	}
	return s
}
