package daemon

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/ipsecfw/ipsecfw/cmd/ipsecfw/internal/api"
	"github.com/ipsecfw/ipsecfw/cmd/ipsecfw/internal/conntrack"
	"github.com/ipsecfw/ipsecfw/filter"
	"github.com/ipsecfw/ipsecfw/filter/nft"
	"github.com/ipsecfw/ipsecfw/nfq"
	"github.com/ipsecfw/ipsecfw/rules"
)

// change puts a policy in force in place of the one that is, or changes
// nothing. It returns how many connections it cut. The caller holds c.mu.
func (c *control) change(ctx context.Context, next kept, l loading) (cut int, err error) {
	if next.none() {
		return 0, c.clear()
	}
	writing := c.writing(next)
	p, err := c.policy(ctx, next.policies, l)
	staged := <-writing
	defer staged.discard()
	if l.rollback && staged.err != nil {
		// The disk cannot keep it. What comes back was trusted before, and the
		// trial that stays on disk ends anew at the next start.
		c.keepLater(next, staged.err)
		staged = stagedState{func() error { return nil }, staged.discard, nil}
	}
	if err = errors.Join(err, staged.err); err != nil {
		return 0, err
	}
	pl := c.plant
	if pl == nil {
		if pl, err = c.start(p); err != nil {
			return 0, err
		}
	}
	if _, err := conntrack.Reset(p.spd, pl.links, pl.outside()); err != nil {
		c.cfg.Log.Warn("ends of connections that the policy refuses were not told", "error", err)
	}
	if err := c.enforce(p, next, staged.commit); err != nil {
		if c.plant == nil {
			err = errors.Join(err, pl.stop())
		}
		return 0, err
	}
	c.kept = next
	return c.inForce(pl, p), nil
}

// writing stages what is to be kept while other things are done: a disk takes
// its time.
func (c *control) writing(next kept) <-chan stagedState {
	done := make(chan stagedState, 1)
	go func() {
		commit, discard, err := c.state.stage(next)
		if err != nil {
			discard = func() {}
		}
		done <- stagedState{commit, discard, err}
	}()
	return done
}

// stagedState is what state.stage returns.
type stagedState struct {
	commit  func() error
	discard func()
	err     error
}

// loading is a rule file on its way into force. Its zero value is none: all is
// kept already.
type loading struct {
	part  *part
	edit  *edit                 // what of one in force it changes, if that is all that it does
	check func(p *policy) error // has the last word on the whole policy; may be nil
	// rollback says that the policy was in force before: it comes back though
	// names in it are not known now and the disk is full.
	rollback bool
}

// policy makes the policy of rule files.
func (c *control) policy(ctx context.Context, ps policies, l loading) (*policy, error) {
	parts, err := c.load(ps, l.part)
	if err != nil {
		return nil, err
	}
	addresses, err := c.look(ctx, parts)
	if err != nil && !l.rollback {
		return nil, err
	}
	p, err := c.combine(l.edit, parts, addresses)
	if err == nil && l.check != nil {
		err = l.check(p)
	}
	return p, err
}

// load returns the parts of a policy, those that are in force or given without
// reading them again.
func (c *control) load(ps policies, loaded ...*part) ([]*part, error) {
	if c.plant != nil {
		loaded = append(loaded, c.plant.policy.Load().parts...)
	}
	var parts []*part
	for _, up := range []*api.Policy{ps.Persistent, ps.Applied} {
		if up == nil {
			continue
		}
		if i := slices.IndexFunc(loaded, func(x *part) bool { return x != nil && x.upload == up }); i >= 0 {
			parts = append(parts, loaded[i])
			continue
		}
		x, err := load(up, c.fetcher)
		if err != nil {
			return nil, err
		}
		parts = append(parts, x)
	}
	return parts, nil
}

func (c *control) start(p *policy) (*plant, error) {
	return start(p, c.memory, c.keys, c.cfg.Log, func(err error) { c.fatal(err) })
}

// outside returns the interfaces by which packets come and go.
func (pl *plant) outside() []filter.Interface {
	return slices.DeleteFunc(pl.links.All(), func(i filter.Interface) bool { return i.Name == device || i.Name == loopback })
}

// inForce completes a change that nftables and the disk have taken.
func (c *control) inForce(pl *plant, p *policy) (cut int) {
	if c.plant != nil {
		pl.swap(p)
	} else {
		pl.begin(c.ruleset)
	}
	c.plant = pl
	c.generation++
	c.arm()
	c.memory.learn(p.addresses)
	r, err := conntrack.Cut(p.spd, pl.links, pl.outside())
	if err != nil {
		c.cfg.Log.Warn("connections that the policy refuses were not looked for; their packets are dropped all the same", "error", err)
	}
	c.cfg.Log.Info("policy in force", "name", p.settings().Name, "file", p.settings().Path, "generation", c.generation, "connections-cut", r.Refused)
	c.follow(p)
	return r.Refused
}

// maxCounted is up to how many filters each one's packets are counted: for
// more the counters cost too much.
const maxCounted = 20000

// Ruleset returns what the rules for a policy need to know of the daemon,
// without any peers in the sets that it keeps. Respond says that the policy has
// a default response.
func Ruleset(s *filter.SPD, respond bool) nft.Config {
	cfg := bootConfig()
	cfg.DefaultResponse = respond
	cfg.Count = len(s.Entries()) <= maxCounted
	return cfg
}

func configured(p *policy) nft.Config {
	return Ruleset(p.spd, p.rules[rules.DefaultResponseRule] != nil)
}

// compiled returns the rules for a policy, with the peers that are in the sets
// which the daemon keeps.
func (c *control) compiled(p *policy) nft.Ruleset {
	cfg := configured(p)
	if c.plant != nil {
		cfg.Response = c.plant.responding()
		for peer, x := range c.plant.soft.all() {
			cfg.Soft = append(cfg.Soft, nft.SoftPeer{Addr: peer, Expires: time.Until(x.until)})
		}
	}
	return nft.Compile(p.spd, cfg)
}

// program gives the rules for a policy to nftables: what differs from those
// that it has, or all of them if they are not what we think. Meanwhile no peer
// enters or leaves the sets that the daemon keeps.
func (c *control) program(p *policy) error {
	if c.plant != nil {
		c.plant.sets.Lock()
		defer c.plant.sets.Unlock()
	}
	next := c.compiled(p)
	err := nft.Update(c.ruleset, next)
	if errors.Is(err, nft.ErrStale) {
		err = nft.Apply(next)
	}
	if err == nil {
		c.ruleset = next
		if c.plant != nil {
			c.plant.ruleset.Store(&next)
		}
	}
	return err
}

// enforce gives the policy to nftables and to the disk, or leaves both as they
// were.
func (c *control) enforce(p *policy, next kept, commit func() error) error {
	if next.Trial != nil {
		return c.try(p, commit)
	}
	present := false
	if c.plant == nil { // else the table is ours
		var err error
		if present, err = nft.Present(); err != nil {
			return err
		}
	}
	if err := c.program(p); err != nil {
		return err
	}
	err := commit()
	switch {
	case err == nil:
		return nil
	case c.plant != nil:
		return errors.Join(err, c.program(c.plant.policy.Load()))
	case present: // of a daemon that is dead: better the new rules than none
		return err
	}
	c.ruleset = nft.Ruleset{}
	return errors.Join(err, nft.Remove())
}

// try enforces a policy on trial. The disk and the guard come first: whoever is
// killed from now on, the trial ends.
func (c *control) try(p *policy, commit func() error) error {
	if err := commit(); err != nil {
		return err
	}
	if err := startGuard(c.cfg.State); err != nil {
		return errors.Join(err, c.state.keep(c.kept))
	}
	if err := c.program(p); err != nil {
		return errors.Join(err, c.state.keep(c.kept))
	}
	return nil
}

// keepLater writes to disk what could not be written now, as soon as it can.
func (c *control) keepLater(k kept, why error) {
	c.cfg.Log.Error("what is in force is not kept for the next start, which would end the trial again", "error", why)
	time.AfterFunc(retryRollback, func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		if c.kept != k { // something else is in force by now
			return
		}
		if err := c.state.keep(k); err != nil {
			c.keepLater(k, err)
		}
	})
}

// restore puts the policy in force that was so when the last daemon ended.
func (c *control) restore(ctx context.Context) error {
	k, err := c.state.load()
	if err == nil && !k.none() {
		err = c.resume(ctx, k)
	}
	if err == nil {
		return nil
	}
	if present, e := nft.Present(); e == nil && !present && !errors.Is(err, nfq.ErrInUse) {
		// There is a policy, and nobody can say which: nothing may pass.
		err = errors.Join(err, closed())
		c.cfg.Log.Error("the policy cannot be restored: everything is blocked", "error", err)
	}
	return fmt.Errorf("restore the policy from %s: %w", c.cfg.State, err)
}

// resume puts the policy in force that is kept. Its ruleset comes into force
// even when the plant does not start: the host may have none yet, and without
// one what is to be secured would leave in clear.
func (c *control) resume(ctx context.Context, k kept) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if k.Trial != nil && k.Trial.expired() {
		c.cfg.Log.Warn("the policy on trial was not confirmed: the one before it comes back")
		k = kept{policies: k.Trial.Before}
		if k.none() {
			return c.clear()
		}
		if err := c.state.keep(k); err != nil {
			c.keepLater(k, err)
		}
	}
	parts, err := c.load(k.policies)
	if err != nil {
		return err
	}
	addresses, err := c.look(ctx, parts)
	if err != nil {
		c.cfg.Log.Warn("filters with these names match nothing until they are known", "error", err)
	}
	p, err := combine(parts, addresses, c.generation+1)
	if err != nil { // names may stand for something by now with which it does not go
		var e error
		if p, e = combine(parts, c.memory.known(), c.generation+1); e != nil {
			return err
		}
		c.cfg.Log.Error("names stand for what they did last, since the policy does not go with what they stand for now", "error", err)
	}
	pl, err := c.start(p)
	if errors.Is(err, nfq.ErrInUse) { // and so is the ruleset, which is not ours
		return err
	}
	enforced := c.program(p)
	switch {
	case err != nil:
		return errors.Join(err, enforced)
	case enforced != nil:
		return errors.Join(enforced, pl.stop())
	}
	c.kept = k
	c.inForce(pl, p)
	return nil
}
