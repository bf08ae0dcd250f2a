// Package daemon wires policy, key exchange and data path together and gives
// them a life cycle.
//
//	daemon.go    the process: socket, restored policy, end
//	control.go   what the socket's callers want: apply, unapply, lists
//	policy.go    a rule file with its credentials, ready to be put in force
//	children.go  what the policy says of the Child SAs with a peer
//	plant.go     what runs while a policy is in force: device, queues, sockets
//	datapath.go  the key exchange's view of the data path, and the reverse
//	state.go     the policy on disk
package daemon

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/ipsecfw/ipsecfw/cmd/ipsecfw/internal/api"
)

// Config is what a daemon is told when it starts.
type Config struct {
	Socket string // path of the socket that it listens on
	State  string // directory where the policy is kept
	Log    *slog.Logger
}

// farewell is how long the daemon waits at its end for peers to confirm that
// their SAs are deleted.
const farewell = 2 * time.Second

// Run restores the policy that was in force, and serves the socket until ctx
// ends. The nftables ruleset stays: permitted flows go on, blocked ones stay
// blocked, secured ones stop.
func Run(ctx context.Context, cfg Config) error {
	listener, err := api.Listen(cfg.Socket)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	c := &control{cfg: cfg, state: state{dir: cfg.State}, fatal: cancel}
	lock, err := c.state.lock()
	if err != nil {
		return errors.Join(err, listener.Close())
	}
	defer lock.Close()
	if err := c.restore(); err != nil {
		return errors.Join(err, listener.Close())
	}
	cfg.Log.Info("ready", "socket", cfg.Socket)
	err = api.Serve(ctx, listener, api.Handler(c, cfg.Log), cfg.Log)
	c.end()
	if cause := context.Cause(ctx); cause != nil && !errors.Is(cause, context.Canceled) {
		return fmt.Errorf("the engine failed: %w", cause)
	}
	return err
}
