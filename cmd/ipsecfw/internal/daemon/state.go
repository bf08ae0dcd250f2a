package daemon

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"github.com/ipsecfw/ipsecfw/cmd/ipsecfw/internal/api"
	"github.com/ipsecfw/ipsecfw/rules"
)

// state is the directory where the policy in force is kept, credentials
// included, for the daemon's next start. Only its owner may read it.
type state struct{ dir string }

// kept is the policy in force, as it stands on disk.
type kept struct {
	policies
	// Trial, if there is one, is how long this policy has been given to be
	// confirmed, and what comes back in force if it is not.
	Trial *trial `json:"trial,omitempty"`
}

// policies are the rule files that together are the policy; nil where there is
// none.
type policies struct {
	Persistent *api.Policy `json:"persistent,omitempty"`
	Applied    *api.Policy `json:"applied,omitempty"`
}

func (p policies) none() bool { return p == policies{} }

// trial is a policy that waits to be confirmed.
type trial struct {
	Until  time.Time `json:"until"`
	Before policies  `json:"before"`
}

// seen is what the daemon has learned of the network, for its next start: what
// names stood for, and which peers were secured once and may no longer be
// spoken to in clear.
type seen struct {
	Addresses rules.Addresses `json:"addresses"`
	Secured   []netip.Addr    `json:"secured"`
	// Unknown says that the peers that were secured once are not all known:
	// what was written of them could not be read.
	Unknown bool `json:"unknown,omitempty"`
}

func (s state) path() string     { return filepath.Join(s.dir, "policy.json") }
func (s state) seenPath() string { return filepath.Join(s.dir, "seen.json") }

// staged is a file that is to take another's place.
func staged(path string) string { return path + ".staged" }

// errLocked says that a daemon lives that keeps its policy in the directory.
var errLocked = errors.New("another daemon keeps its policy there: choose another directory with --state")

// lock makes the directory this process's alone. The kernel takes the lock
// back when the process ends, however it ends.
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
		err = errLocked
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("lock the state directory %s: %w", s.dir, err), d.Close())
	}
	return d, nil
}

// load returns what was kept; the zero value when nothing was.
func (s state) load() (k kept, err error) {
	if err := read(s.path(), &k); err != nil {
		return kept{}, fmt.Errorf("restore the policy: %w; move the file away to start without a policy", err)
	}
	return k, nil
}

// loadSeen returns what was learned. What cannot be read is as good as not
// learned, except that then nobody may be spoken to in clear.
func (s state) loadSeen() (x seen, err error) {
	err = read(s.seenPath(), &x)
	return x, err
}

func read(path string, into any) error {
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err == nil {
		err = json.Unmarshal(b, into)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	return nil
}

// stage writes what is to be kept to disk. It takes effect, all at once, by
// commit; discard drops it.
func (s state) stage(k kept) (commit func() error, discard func(), err error) {
	return stage(s.path(), k)
}

func stage(path string, v any) (commit func() error, discard func(), err error) {
	b, err := json.Marshal(v)
	if err != nil {
		return nil, nil, fmt.Errorf("keep the policy: %w", err)
	}
	if err := clean(path); err != nil {
		return nil, nil, err
	}
	f, err := os.OpenFile(staged(path), os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
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
		if err := os.Rename(f.Name(), path); err != nil {
			return fmt.Errorf("keep the policy: %w", err)
		}
		// The rename has taken effect. That it may not outlast a power cut, if
		// the disk says so, is no reason to undo it.
		_ = syncDir(filepath.Dir(path))
		return nil
	}, discard, nil
}

// keep writes what is to be kept at once.
func (s state) keep(k kept) error {
	commit, discard, err := s.stage(k)
	if err != nil {
		return err
	}
	defer discard()
	return commit()
}

// keepSeen writes what was learned.
func (s state) keepSeen(x seen) error {
	commit, discard, err := stage(s.seenPath(), x)
	if err != nil {
		return err
	}
	defer discard()
	return commit()
}

// clean removes what was staged when a daemon was killed: it holds keys.
func clean(path string) error {
	if err := os.Remove(staged(path)); err != nil && !errors.Is(err, fs.ErrNotExist) {
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

// remove forgets everything.
func (s state) remove() error {
	for _, path := range []string{s.path(), s.seenPath()} {
		if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("forget the policy: %w", err)
		}
		if err := clean(path); err != nil {
			return err
		}
	}
	return nil
}
