package daemon

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"syscall"
	"time"

	"github.com/ipsecfw/ipsecfw/filter/nft"
	"github.com/ipsecfw/ipsecfw/nfq"
)

func (t *trial) expired() bool { return !time.Now().Before(t.Until) }

// arm sets the clock of the trial that runs, if one does.
func (c *control) arm() {
	if c.rollback != nil {
		c.rollback.Stop()
		c.rollback = nil
	}
	t := c.kept.Trial
	if t == nil {
		return
	}
	c.rollback = time.AfterFunc(time.Until(t.Until), func() { c.expire(t) })
}

func (c *control) disarm() {
	if c.rollback != nil {
		c.rollback.Stop()
	}
	if c.unfollow != nil {
		c.unfollow()
	}
	c.rollback, c.unfollow = nil, nil
}

// retryRollback is how long after a failure a rollback is tried again.
const retryRollback = 5 * time.Second

// expire ends a trial that was not confirmed: the policy before it comes back.
func (c *control) expire(t *trial) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.kept.Trial != t {
		return
	}
	c.cfg.Log.Warn("the policy on trial was not confirmed: the one before it comes back")
	if _, err := c.change(context.Background(), kept{policies: t.Before}, loading{rollback: true}); err != nil {
		c.cfg.Log.Error("roll back the policy on trial", "error", err)
		c.rollback = time.AfterFunc(retryRollback, func() { c.expire(t) })
	}
}

// startGuard starts a process that rolls back the trial if this one does not
// live to do so. It belongs to no session and no terminal.
func startGuard(dir string) error {
	cmd := exec.Command("/proc/self/exe", "guard", "--state", dir)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start the guard of the trial: %w", err)
	}
	go cmd.Wait() // until then it would be a zombie
	return nil
}

// guardEvery is how often the guard looks, once the trial has expired, whether
// the daemon is there to end it.
const guardEvery = time.Second

// Guard waits for the end of the trial whose policy is in force, and when no
// daemon is there to end it, puts the ruleset of the policy before it in force.
// It returns when there is no trial any more. A daemon that is started later
// goes on from there.
func Guard(ctx context.Context, dir string) error {
	s := state{dir: dir}
	for {
		k, err := s.load()
		if err != nil {
			return err
		}
		if k.Trial == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(max(time.Until(k.Trial.Until), 0) + guardEvery):
		}
		lock, err := s.lock()
		if err != nil {
			continue // the daemon is there, or will be
		}
		s.rollBack() // until it succeeds there is a trial
		if err := lock.Close(); err != nil {
			return err
		}
	}
}

// rollBack ends an expired trial without a daemon: what is to be secured stops
// until there is one, everything else is as it was before. The ruleset comes
// first: should the disk be full, the host is as it was all the same.
func (s state) rollBack() error {
	k, err := s.load()
	if err != nil || k.Trial == nil || !k.Trial.expired() {
		return err
	}
	before := kept{policies: k.Trial.Before}
	if before.none() {
		return errors.Join(nft.Remove(), nfq.Unroute(inMark, routeTable), s.remove())
	}
	x, _ := s.loadSeen() // without it names stand for nothing
	c := &control{state: s}
	parts, err := c.load(before.policies)
	if err != nil {
		return err
	}
	p, err := combine(parts, x.Addresses, 0)
	if err != nil {
		return err
	}
	if err := nft.Apply(nft.Compile(p.spd, configured(p))); err != nil {
		return err
	}
	return s.keep(before)
}
