package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"github.com/ipsecfw/ipsecfw/cmd/ipsecfw/internal/api"
	"github.com/ipsecfw/ipsecfw/test/lab"
)

// demoDaemon is a daemon on a host of the demonstration, in a process and
// with a socket of its own.
type demoDaemon struct {
	host   *lab.Host
	cmd    *lab.Cmd
	socket string
	log    *logBuffer
	ended  chan struct{} // closed when the process has ended
}

// logBuffer collects what a daemon logs.
type logBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// startDaemon runs a daemon on a host, waits until it answers and applies a
// rule file by its name and content, with keys from an authority.
func startDaemon(ctx context.Context, host *lab.Host, dir string, keys *authority, name string, policy []byte) (d *demoDaemon, err error) {
	dir = filepath.Join(dir, host.Name)
	if err := os.Mkdir(dir, 0o700); err != nil {
		return nil, err
	}
	if err := keys.equip(dir, host.Name+".example"); err != nil {
		return nil, err
	}
	file := filepath.Join(dir, name)
	if err := os.WriteFile(file, policy, 0o600); err != nil {
		return nil, err
	}
	self, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("find this program: %w", err)
	}
	d = &demoDaemon{host: host, socket: filepath.Join(dir, "ipsecfw.sock"), log: &logBuffer{}, ended: make(chan struct{})}
	d.cmd = host.Command(self, "--socket", d.socket, "daemon", "--state", filepath.Join(dir, "state"))
	d.cmd.Stdout, d.cmd.Stderr = d.log, d.log
	if err := d.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start the daemon of the %s: %w", host.Name, err)
	}
	go func() {
		_ = d.cmd.Wait() // its log says why
		close(d.ended)
	}()
	if err := d.await(ctx); err != nil {
		return nil, errors.Join(err, d.stop())
	}
	if out, err := d.ask(ctx, "apply", file); err != nil {
		return nil, errors.Join(fmt.Errorf("apply the policy of the %s: %w\n%s", host.Name, err, out), d.stop())
	}
	return d, nil
}

// await returns when the daemon answers.
func (d *demoDaemon) await(ctx context.Context) error {
	again := time.NewTicker(20 * time.Millisecond)
	defer again.Stop()
	for {
		_, err := api.Dial(d.socket).Status(ctx)
		if err == nil {
			return nil
		}
		select {
		case <-d.ended:
			return fmt.Errorf("the daemon of the %s ended at once; its log:\n%s", d.host.Name, d.log)
		case <-ctx.Done():
			return fmt.Errorf("the daemon of the %s does not answer: %w; its log:\n%s", d.host.Name, err, d.log)
		case <-again.C:
		}
	}
}

// ask runs a command of ipsecfw against the daemon and returns what it
// prints.
func (d *demoDaemon) ask(ctx context.Context, args ...string) (string, error) {
	var stdout, stderr bytes.Buffer
	code := run(ctx, append([]string{"ipsecfw", "--socket", d.socket}, args...), &stdout, &stderr)
	if code != exitGood {
		return stdout.String(), errors.New(stderr.String())
	}
	return stdout.String(), nil
}

// stop ends the daemon, with patience at first.
func (d *demoDaemon) stop() error {
	// A process that has ended already needs no signal.
	_ = d.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-d.ended:
		return nil
	case <-time.After(5 * time.Second):
	}
	if err := d.cmd.Process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("end the daemon of the %s: %w", d.host.Name, err)
	}
	<-d.ended
	return nil
}
