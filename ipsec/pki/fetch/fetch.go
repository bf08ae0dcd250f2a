// Package fetch gets over HTTP what certificates point at: CRLs, OCSP answers,
// and certificates. Sizes, times, and how much is under way are bounded, and
// what came is kept as long as it says, within bounds.
//
// There are two lanes. URLs that an authority vouches for may be of any host.
// Those that a peer made up, of which nothing is known yet, are fetched by GET
// from port 80 alone, never from this host itself or by a link-local address,
// which is where what listens trusts whoever asks; and however many there are,
// they neither displace what the other lane keeps, nor hold it up. Private
// networks are not excluded, as that is where the authorities of most peers
// are: looking up what peers name is for the policy to allow.
package fetch

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"sync"
	"syscall"
	"time"

	"github.com/ipsecfw/ipsecfw/ipsec/pki"
)

// Options are bounds of a Fetcher. A zero field stands for its default.
type Options struct {
	Timeout  time.Duration // for one request with all its redirections; 5 s
	Parallel int           // requests under way in each lane; 4
	Entries  int           // values that each lane keeps; 256
	Bytes    int           // of what they were made of, in each lane; 64 MiB
	// Control is called with each socket before it is connected, to mark it;
	// nil for nothing.
	Control func(network, address string, c syscall.RawConn) error
}

// maxWaiting bounds the requests of a lane that wait until others are done.
const maxWaiting = 64

// Fetcher is a pki.Fetcher over HTTP.
type Fetcher struct {
	trusted, untrusted *lane
	stop               context.CancelFunc
}

var _ pki.Fetcher = (*Fetcher)(nil)

// New returns a Fetcher. It has to be closed.
func New(o Options) *Fetcher {
	set := func(v *int, to int) {
		if *v == 0 {
			*v = to
		}
	}
	set(&o.Parallel, 4)
	set(&o.Entries, 256)
	set(&o.Bytes, 64<<20)
	if o.Timeout == 0 {
		o.Timeout = 5 * time.Second
	}
	ctx, stop := context.WithCancel(context.Background())
	return &Fetcher{trusted: newLane(ctx, o, true), untrusted: newLane(ctx, o, false), stop: stop}
}

// Close ends what is under way, and waits for it.
func (f *Fetcher) Close() {
	f.stop()
	f.trusted.flying.Wait()
	f.untrusted.flying.Wait()
}

// Fetch returns what is kept, joins an equal request that is under way, or
// makes one. A request ends with its own timeout and not with the context,
// which ends only the wait for it: others may wait too.
func (f *Fetcher) Fetch(ctx context.Context, r pki.Request) (any, error) {
	l := f.untrusted
	if r.Trusted {
		l = f.trusted
	}
	if err := check(r.URL, r.Trusted); err != nil {
		return nil, err
	}
	if r.Body != nil && !r.Trusted {
		return nil, errors.New("nothing is posted to a URL that a peer made up")
	}
	return l.fetch(ctx, r)
}

// lane is the requests to URLs of the same trust.
type lane struct {
	ctx     context.Context // ends with the Fetcher
	client  *http.Client
	timeout time.Duration
	slots   chan struct{}
	flying  sync.WaitGroup

	mu      sync.Mutex
	kept    *cache
	flights map[string]*flight
}

// flight is a request under way. Its result is there when done is closed.
type flight struct {
	done  chan struct{}
	value any
	err   error
}

func newLane(ctx context.Context, o Options, trusted bool) *lane {
	dialer := &net.Dialer{Timeout: o.Timeout, Control: func(network, address string, c syscall.RawConn) error {
		if !trusted {
			own, err := net.InterfaceAddrs() // now: they come and go
			if err != nil {
				return fmt.Errorf("the addresses of this host: %w", err)
			}
			if err := reachable(address, own); err != nil {
				return err
			}
		}
		if o.Control != nil {
			return o.Control(network, address, c)
		}
		return nil
	}}
	return &lane{
		ctx:     ctx,
		client:  newClient(dialer, trusted),
		timeout: o.Timeout,
		slots:   make(chan struct{}, o.Parallel),
		kept:    newCache(o.Entries, o.Bytes),
		flights: make(map[string]*flight),
	}
}

func (l *lane) fetch(ctx context.Context, r pki.Request) (any, error) {
	key := keyOf(r)
	l.mu.Lock()
	old := l.kept.get(key)
	if old != nil && time.Now().Before(old.fresh) {
		l.mu.Unlock()
		return old.value, old.err
	}
	fl := l.flights[key]
	if fl == nil {
		if len(l.flights) >= maxWaiting || l.ctx.Err() != nil {
			l.mu.Unlock()
			return nil, fmt.Errorf("fetch %s: too much is under way", r.URL)
		}
		fl = &flight{done: make(chan struct{})}
		l.flights[key] = fl
		l.flying.Go(func() { l.fly(fl, key, r, old) })
	}
	l.mu.Unlock()
	select {
	case <-fl.done:
		return fl.value, fl.err
	case <-ctx.Done():
		return nil, fmt.Errorf("fetch %s: %w", r.URL, ctx.Err())
	}
}

// How long something is kept.
const (
	maxAge   = time.Hour        // at most, before it is asked for again, in case there is a newer one
	retryAge = 30 * time.Second // before something that failed, or was over when it came, is asked for again
)

// fly makes a request and keeps its outcome, good or bad. What is kept already
// serves on while it is good, should there be nothing newer.
func (l *lane) fly(fl *flight, key string, r pki.Request, old *entry) {
	value, until, size, err := l.get(r)
	now := time.Now()
	e := &entry{key: key, value: value, err: err, size: size, fresh: now.Add(retryAge), until: until}
	switch {
	case err != nil && old != nil && old.err == nil && now.Before(old.until):
		e.value, e.err, e.size, e.until = old.value, nil, old.size, old.until
		e.fresh = earlier(e.fresh, old.until)
	case err == nil && now.Before(until):
		e.fresh = earlier(now.Add(maxAge), until)
	}
	fl.value, fl.err = e.value, e.err
	l.mu.Lock()
	if l.ctx.Err() == nil {
		l.kept.put(e)
	}
	delete(l.flights, key)
	l.mu.Unlock()
	close(fl.done)
}

func earlier(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}

// get waits for its turn and makes the request.
func (l *lane) get(r pki.Request) (value any, until time.Time, size int, err error) {
	ctx, stop := context.WithTimeout(l.ctx, l.timeout)
	defer stop()
	select {
	case l.slots <- struct{}{}:
		defer func() { <-l.slots }()
	case <-ctx.Done():
		return nil, until, 0, fmt.Errorf("fetch %s: others are under way: %w", r.URL, ctx.Err())
	}
	data, err := download(ctx, l.client, r)
	if err != nil {
		return nil, until, 0, err
	}
	value, until, err = r.Parse(data)
	return value, until, len(data), err
}

// keyOf names a request in the cache: everything but Parse, each part with its
// length before it.
func keyOf(r pki.Request) string {
	return fmt.Sprintf("%d %d:%s%d:%s%s", r.Kind, len(r.URL), r.URL, len(r.Body), r.Body, r.Key)
}
