package daemon

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/ipsecfw/ipsecfw/cmd/ipsecfw/internal/api"
	"github.com/ipsecfw/ipsecfw/cmd/ipsecfw/internal/verify"
	"github.com/ipsecfw/ipsecfw/filter/nft"
	"github.com/ipsecfw/ipsecfw/ipsec/pki"
	"github.com/ipsecfw/ipsecfw/nfq"
)

// control is the daemon as its socket's callers see it.
type control struct {
	cfg   Config
	state state
	fatal context.CancelCauseFunc

	mu         sync.Mutex // one change at a time
	generation uint64
	kept       kept        // the policy in force, as on disk
	plant      *plant      // nil with no policy in force
	ruleset    nft.Ruleset // what nftables holds; the zero value for nothing that we know
	memory     *memory
	fetcher    pki.Fetcher // of what certificates point at
	keys       *keyLog
	rollback   *time.Timer        // ends the trial
	unfollow   context.CancelFunc // ends the watch for other addresses
}

var _ api.Engine = (*control)(nil)

// maxConfirm is how long a trial may last.
const maxConfirm = 24 * time.Hour

// Apply implements api.Engine.
func (c *control) Apply(ctx context.Context, a api.Application) (api.Applied, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	confirm := time.Duration(a.ConfirmSeconds) * time.Second
	if a.ConfirmSeconds < 0 || a.ConfirmSeconds > int64(maxConfirm/time.Second) {
		return api.Applied{}, &api.Error{Code: api.CodeBadRequest, Message: fmt.Sprintf("%d seconds are no time to confirm in", a.ConfirmSeconds), Hint: "choose up to " + maxConfirm.String()}
	}
	up := a.Policy
	x, e, err := c.read(&up)
	if err != nil {
		return api.Applied{}, err
	}
	shell, hasShell := verify.ParseConnection(a.Shell)
	var warnings []string
	check := func(p *policy) error {
		warnings = p.warnings(x)
		if !hasShell || a.CutShell {
			return nil
		}
		if links, err := nfq.NewLinks(); err == nil {
			shell.Interface = links.Toward(shell.Client.Addr())
		}
		if w := (&verify.Policy{SPD: p.spd}).LockedOut(shell); w != "" {
			return &api.Error{Code: api.CodeLocksOut, Message: w}
		}
		return nil
	}
	next := kept{policies: c.kept.policies}
	if x.file.Persistent {
		next.Persistent = &up
	} else {
		next.Applied = &up
	}
	if t := c.kept.Trial; t != nil && confirm == 0 && (x.file.Persistent && c.kept.Applied != t.Before.Applied || !x.file.Persistent && c.kept.Persistent != t.Before.Persistent) {
		return api.Applied{}, &api.Error{Code: api.CodeBadRequest, Message: "another rule file is on trial, and would stay for good beside this one",
			Hint: "confirm it first, or wait until it is taken back, or apply this one with --confirm"}
	}
	if confirm > 0 {
		next.Trial = &trial{Until: time.Now().Add(confirm), Before: c.kept.policies}
		if c.kept.Trial != nil { // what was never confirmed is nothing to come back to
			next.Trial.Before = c.kept.Trial.Before
		}
	}
	cut, err := c.change(ctx, next, loading{part: x, edit: e, check: check})
	if err != nil {
		return api.Applied{}, err
	}
	out := api.Applied{Persistent: x.file.Persistent, Warnings: warnings, Cut: cut}
	if next.Trial != nil {
		out.ConfirmBy = &next.Trial.Until
	}
	return out, nil
}

// read reads an upload, as an edit of what is in force if it is one.
func (c *control) read(up *api.Policy) (*part, *edit, error) {
	if c.plant != nil {
		for _, x := range c.plant.policy.Load().parts {
			if e := editOf(x, up); e != nil {
				return e.to, e, nil
			}
		}
	}
	x, err := load(up, c.fetcher)
	return x, nil, err
}

// Confirm implements api.Engine.
func (c *control) Confirm(context.Context) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.kept.Trial == nil {
		return &api.Error{Code: api.CodeNotFound, Message: "no policy waits to be confirmed", Hint: "it may have been rolled back already: see \"ipsecfw status\""}
	}
	next := kept{policies: c.kept.policies}
	if err := c.state.keep(next); err != nil {
		return err
	}
	c.kept = next
	c.arm()
	c.cfg.Log.Info("policy confirmed", "generation", c.generation)
	return nil
}

// Unapply implements api.Engine.
func (c *control) Unapply(ctx context.Context, persistent bool) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	next := kept{policies: policies{Persistent: c.kept.Persistent}}
	if c.kept.Trial != nil { // what was never confirmed does not stay
		next.Persistent = c.kept.Trial.Before.Persistent
	}
	if persistent {
		next.Persistent = nil
	}
	_, err := c.change(ctx, next, loading{})
	return err
}

// end stops what runs; the ruleset stays in force.
func (c *control) end() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.disarm()
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

// clear takes everything out of force. The ruleset goes before what is kept: a
// failure must not leave a host that is closed now and open after its next
// start.
func (c *control) clear() error {
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
	if err := nft.Remove(); err != nil {
		return err
	}
	c.ruleset = nft.Ruleset{}
	if err := c.state.remove(); err != nil {
		return err
	}
	c.kept = kept{}
	c.memory.forget()
	c.disarm()
	if c.plant == nil {
		return nfq.Unroute(inMark, routeTable)
	}
	err := c.plant.stop()
	c.plant = nil
	c.cfg.Log.Info("no policy in force")
	return err
}
