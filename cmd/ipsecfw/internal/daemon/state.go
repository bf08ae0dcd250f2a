package daemon

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/ipsecfw/ipsecfw/cmd/ipsecfw/internal/api"
)

// state is the directory where the policy in force is kept, credentials
// included, for the daemon's next start. Only its owner may read it.
type state struct{ dir string }

func (s state) path() string { return filepath.Join(s.dir, "policy.json") }

func (s state) staged() string { return s.path() + ".staged" }

// lock makes the directory this daemon's alone. The kernel takes the lock back
// when the process ends, however it ends.
func (s state) lock() (io.Closer, error) {
	if err := os.MkdirAll(s.dir, 0o700); err != nil {
		return nil, fmt.Errorf("make the state directory: %w", err)
	}
	d, err := os.Open(s.dir)
	if err != nil {
		return nil, fmt.Errorf("open the state directory: %w", err)
	}
	err = unix.Flock(int(d.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	if errors.Is(err, unix.EWOULDBLOCK) {
		err = errors.New("another daemon keeps its policy there: choose another directory with --state")
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("lock the state directory %s: %w", s.dir, err), d.Close())
	}
	return d, nil
}

// load returns the policy that was kept; ok is false when there is none.
func (s state) load() (p api.Policy, ok bool, err error) {
	b, err := os.ReadFile(s.path())
	if errors.Is(err, fs.ErrNotExist) {
		return p, false, nil
	}
	if err == nil {
		err = json.Unmarshal(b, &p)
	}
	if err != nil {
		return p, false, fmt.Errorf("restore the policy from %s: %w; move the file away to start without a policy", s.path(), err)
	}
	return p, true, nil
}

// stage writes a policy to disk. It takes effect, all at once, by commit;
// discard drops it.
func (s state) stage(p api.Policy) (commit func() error, discard func(), err error) {
	b, err := json.Marshal(p)
	if err != nil {
		return nil, nil, fmt.Errorf("keep the policy: %w", err)
	}
	if err := s.clean(); err != nil {
		return nil, nil, err
	}
	f, err := os.OpenFile(s.staged(), os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, nil, fmt.Errorf("keep the policy: %w", err)
	}
	_, err = f.Write(b)
	if err == nil {
		err = f.Sync()
	}
	discard = func() { os.Remove(f.Name()) }
	if err = errors.Join(err, f.Close()); err != nil {
		discard()
		return nil, nil, fmt.Errorf("keep the policy: %w", err)
	}
	return func() error {
		if err := os.Rename(f.Name(), s.path()); err != nil {
			return fmt.Errorf("keep the policy: %w", err)
		}
		return syncDir(s.dir)
	}, discard, nil
}

// clean removes a policy that was staged when a daemon was killed: it holds keys.
func (s state) clean() error {
	if err := os.Remove(s.staged()); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove what was staged: %w", err)
	}
	return nil
}

// syncDir makes a rename in a directory last through a power cut.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return fmt.Errorf("keep the policy: %w", err)
	}
	return errors.Join(d.Sync(), d.Close())
}

// remove forgets the policy.
func (s state) remove() error {
	if err := os.Remove(s.path()); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("forget the policy: %w", err)
	}
	return s.clean()
}
