// Package daemon wires policy, key exchange and data path together and gives
// them a life cycle.
//
//	daemon.go    the process: socket, restored policy, end
//	control.go   what the socket's callers want: apply, confirm, unapply
//	lists.go     what they want to see
//	why.go       and what they want explained
//	initiate.go  or negotiated, and why that failed
//	change.go    one policy in force in place of another, whole or not at all
//	trial.go     a policy that goes again unless it is confirmed
//	boot.go      what holds before there is a daemon
//	part.go      a rule file with its credentials
//	policy.go    several of them as one, ready to be put in force
//	negotiation.go what its rules say to the key exchange
//	addresses.go what the names in them stand for
//	children.go  what the policy says of the Child SAs with a peer
//	plant.go     what runs while a policy is in force: device, queues, sockets
//	datapath.go  the key exchange's view of the data path, and the reverse
//	soft.go      peers that do not speak IKE
//	protect.go   SAs as their rules want them
//	lifetimes.go when they have carried enough
//	keylog.go    their keys, for whoever has to read a capture
//	state.go     the policy on disk
//	memory.go    and what was learned of the network
package daemon

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/ipsecfw/ipsecfw/cmd/ipsecfw/internal/api"
	"github.com/ipsecfw/ipsecfw/ipsec/pki/fetch"
)

// Config is what a daemon is told when it starts.
type Config struct {
	Socket string // path of the socket that it listens on
	State  string // directory where the policy is kept
	Log    *slog.Logger
	// KeyLog is a file to which the keys of all SAs are written, in Wireshark's
	// format; empty for none.
	KeyLog string
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
	if cfg.KeyLog != "" {
		if c.keys, err = openKeyLog(cfg.KeyLog, cfg.Log); err != nil {
			return errors.Join(err, listener.Close())
		}
		defer c.keys.Close()
	}
	fetcher := fetch.New(fetch.Options{})
	defer fetcher.Close()
	c.fetcher = fetcher
	c.memory = recall(c.state, cfg.Log)
	if err := c.restore(ctx); err != nil {
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
