package api

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Listener is the daemon's socket.
type Listener struct {
	*net.UnixListener
	lock *os.File
}

// Listen makes the socket at path, with mode 0600, and its directory if
// need be. A socket that a dead daemon left is replaced; while another
// daemon listens there Listen fails.
func Listen(path string) (*Listener, error) {
	if !filepath.IsAbs(path) { // which also keeps out abstract sockets, open to everybody
		return nil, fmt.Errorf("the socket's path %q is relative: write one that begins with /", path)
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return nil, fmt.Errorf("make the directory of the socket: %w", err)
	}
	lock, err := lockFile(path + ".lock")
	if err != nil {
		return nil, err
	}
	// With the lock in our hands nobody listens on a socket that is there.
	l, err := bind(path)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("listen on %s: %w", path, err), lock.Close())
	}
	return &Listener{l, lock}, nil
}

// lockFile takes a lock that the kernel gives back when the process ends,
// however it ends. The file stays: to remove it would let two processes
// lock two files of the same name.
func lockFile(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("lock the socket: %w", err)
	}
	err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	if errors.Is(err, unix.EWOULDBLOCK) {
		err = fmt.Errorf("another daemon has %s locked: end it, or choose another socket with --socket", path)
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

func bind(path string) (*net.UnixListener, error) {
	info, err := os.Lstat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return nil, err
	case info.Mode().Type() != fs.ModeSocket:
		return nil, errors.New("something that is no socket is there: move it away")
	default:
		if err := os.Remove(path); err != nil {
			return nil, err
		}
	}
	// Linux gives the file the mode of the unbound socket, so that there is
	// no moment at which others can connect.
	config := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) error {
		var err error
		if e := c.Control(func(fd uintptr) { err = unix.Fchmod(int(fd), 0o600) }); e != nil {
			return e
		}
		return err
	}}
	l, err := config.Listen(context.Background(), "unix", path)
	if err != nil {
		return nil, err
	}
	return l.(*net.UnixListener), nil
}

// Close stops listening and removes the socket.
func (l *Listener) Close() error { return errors.Join(l.UnixListener.Close(), l.lock.Close()) }

// Serve answers requests until ctx is done, lets those that run come to
// their end, and closes the listener.
func Serve(ctx context.Context, l *Listener, h http.Handler, log *slog.Logger) error {
	s := &http.Server{
		Handler:           h,
		ErrorLog:          slog.NewLogLogger(log.Handler(), slog.LevelWarn),
		ReadHeaderTimeout: 10 * time.Second,
		ReadTimeout:       30 * time.Second,
		WriteTimeout:      2 * time.Minute, // a large policy takes the kernel its time
		IdleTimeout:       time.Minute,
		MaxHeaderBytes:    16 << 10,
		ConnContext:       withCaller,
	}
	done := make(chan error, 1)
	go func() { done <- s.Serve(l) }()
	select {
	case err := <-done:
		return errors.Join(fmt.Errorf("serve requests: %w", err), l.Close())
	case <-ctx.Done():
	}
	grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	err := s.Shutdown(grace)
	<-done
	return err
}

// caller is the process at the other end of a connection.
type caller struct {
	uid uint32
	pid int32
}

type callerKey struct{}

// withCaller asks the kernel who connected (SO_PEERCRED, unix(7)).
func withCaller(ctx context.Context, c net.Conn) context.Context {
	sc, ok := c.(syscall.Conn)
	if !ok {
		return ctx
	}
	raw, err := sc.SyscallConn()
	if err != nil {
		return ctx
	}
	var cred *unix.Ucred
	if e := raw.Control(func(fd uintptr) { cred, err = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED) }); e != nil || err != nil {
		return ctx
	}
	return context.WithValue(ctx, callerKey{}, caller{cred.Uid, cred.Pid})
}

func callerOf(ctx context.Context) (caller, bool) {
	c, ok := ctx.Value(callerKey{}).(caller)
	return c, ok
}
