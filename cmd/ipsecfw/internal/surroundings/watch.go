package surroundings

import (
	"context"
	"slices"
	"sync"
	"time"
)

// Watch calls changed, from the calling goroutine, whenever the addresses
// differ from those that it told last, at first from from; until ctx ends,
// and then returns nil. An error means that it can follow no longer.
//
// Signs of a change are collected for 200 ms: a storm of them makes one call.
// Names are resolved once at the start, and again when their TTL is over, at
// the soonest after 5 s and at the latest after an hour, or when the servers
// change; after a failure they keep their addresses, and are tried again in 5
// s, then after twice as long each time, up to 5 min. Gateways are those of
// the network namespace of the calling thread.
func Watch(ctx context.Context, w Wanted, from Addresses, cfg Config, changed func(Addresses)) error {
	ctx, cancel := context.WithCancel(ctx)
	cfg = cfg.complete()
	t := &watcher{
		sources: sources{wanted: w, cfg: cfg},
		here:    local{dns: from.DNSServers, dhcp: from.DHCPServers, gateways: from.DefaultGateways},
		names:   make(map[string]*name, len(w.Names)),
		told:    from,
		changed: changed,
		answers: make(chan resolved),
		events:  make(chan []fileEvent),
		routes:  make(chan struct{}),
		broken:  make(chan error, 2), // one for each goroutine that may send
		settle:  time.NewTimer(0),    // the first look is due at once
		wake:    time.NewTimer(0),
	}
	for _, n := range w.Names {
		t.names[n] = &name{}
		t.names[n].remember(from.Names[n])
	}
	defer t.goroutines.Wait()
	defer cancel()
	if err := t.sources.open(); err != nil {
		return err
	}
	defer t.sources.close()
	if places := w.places(cfg); len(places) > 0 {
		var err error
		if t.files, err = watchFiles(places); err != nil {
			return err
		}
		defer t.files.close()
		t.goroutines.Go(func() { t.hearFiles(ctx) })
	}
	if w.DefaultGateways {
		r, err := watchRoutes()
		if err != nil {
			return err
		}
		defer r.close()
		t.goroutines.Go(func() { t.hearRoutes(ctx, r) })
	}
	return t.run(ctx)
}

// places is what files have to be followed.
func (w Wanted) places(cfg Config) []place {
	var places []place
	if len(w.Names) > 0 || w.DNSServers {
		places = append(places, place{path: cfg.path(resolvConf)})
	}
	if len(w.Names) > 0 {
		places = append(places, place{path: cfg.path(hostsFile)})
	}
	if w.DNSServers {
		places = append(places, place{path: cfg.path(resolvedOwn)})
	}
	if w.DHCPServers {
		for _, kind := range leaseFiles {
			places = append(places, place{path: cfg.path(kind.dir), pattern: kind.files})
		}
	}
	return places
}

// watcher is the state of Watch. Only its goroutine touches it; others send.
type watcher struct {
	sources sources
	here    local
	names   map[string]*name
	asker   *asker
	told    Addresses
	changed func(Addresses)

	files      *fileWatch // nil if there is none to follow
	goroutines sync.WaitGroup
	answers    chan resolved
	events     chan []fileEvent
	routes     chan struct{}
	broken     chan error

	settle   *time.Timer // running while settling, or for the first look
	settling bool
	stale    bool // files and routes are to be read again
	wake     *time.Timer
	again    time.Time // when to look again at what could not be read; zero for never
	failures int       // of reading, in a row
	complain string    // what could not be read last time
}

func (t *watcher) run(ctx context.Context) error {
	t.settling, t.stale = true, true
	for {
		select {
		case <-ctx.Done():
			return nil
		case err := <-t.broken:
			return err
		case events := <-t.events:
			if slices.ContainsFunc(events, t.files.concerns) {
				t.stale = true
				t.sign()
			}
		case <-t.routes:
			t.stale = true
			t.sign()
		case a := <-t.answers:
			t.answered(a)
			t.sign()
		case <-t.wake.C:
			t.woken(ctx)
		case <-t.settle.C:
			t.settling = false
			if err := t.look(); err != nil {
				return err
			}
		}
		t.sleep()
	}
}

// sign has everything looked at in a while.
func (t *watcher) sign() {
	if !t.settling {
		t.settling = true
		t.settle.Reset(t.sources.cfg.tempo.settle)
	}
}

// look tells what has changed.
func (t *watcher) look() error {
	if t.stale {
		t.stale = false
		if err := t.read(); err != nil {
			return err
		}
	}
	if now := assemble(t.here, t.names, t.sources.cfg.Log); !now.Equal(t.told) {
		t.told = now
		t.changed(now)
	}
	return nil
}

// read reads files and routes.
func (t *watcher) read() error {
	if t.files != nil {
		if err := t.files.arm(); err != nil {
			return err
		}
	}
	cfg := t.sources.cfg
	here, err := t.sources.read(t.here)
	t.again = time.Time{}
	if err == nil {
		t.failures, t.complain = 0, ""
	} else {
		t.again = cfg.Now().Add(backoff(t.failures, cfg.tempo))
		t.failures++
		if err.Error() != t.complain {
			t.complain = err.Error()
			cfg.Log.Warn("the host's configuration cannot be read in full: what is missing stays as it was", "error", err)
		}
	}
	naming := t.asker == nil || !here.sameNaming(t.here)
	t.here = here
	if naming {
		t.rename()
	}
	return nil
}

// rename begins anew with all names: the servers or the file of hosts are
// other ones.
func (t *watcher) rename() {
	t.asker = newAsker(t.sources.cfg, t.here.servers)
	for called, n := range t.names {
		n.outdated = n.asking
		if addrs := t.here.hosts[canonical(called)]; len(addrs) > 0 {
			n.know(addrs)
		} else {
			n.due = t.sources.cfg.Now()
			n.failures = 0
		}
	}
}

// woken does what is due.
func (t *watcher) woken(ctx context.Context) {
	now := t.sources.cfg.Now()
	for _, at := range []*time.Time{&t.here.expiry, &t.again} {
		if !at.IsZero() && !now.Before(*at) {
			*at = time.Time{}
			t.stale = true
			t.sign()
		}
	}
	for called, n := range t.names {
		if n.asking || n.due.IsZero() || now.Before(n.due) {
			continue
		}
		n.asking = true
		asker := t.asker
		t.goroutines.Go(func() {
			select {
			case t.answers <- resolved{name: called, found: asker.lookup(ctx, called)}:
			case <-ctx.Done():
			}
		})
	}
}

// answered takes in what a lookup found, unless it asked those that are no
// longer to be asked.
func (t *watcher) answered(a resolved) {
	n, cfg := t.names[a.name], t.sources.cfg
	n.asking = false
	if n.outdated {
		n.outdated = false
		return
	}
	failed := n.failures > 0
	err := n.learn(a.found, cfg.Now(), cfg.tempo)
	switch {
	case err != nil && !failed:
		cfg.Log.Warn("a name does not resolve: it keeps the addresses that it had", "name", a.name, "error", err)
	case err != nil:
		cfg.Log.Debug("a name still does not resolve", "name", a.name, "error", err)
	case failed:
		cfg.Log.Info("a name resolves again", "name", a.name)
	}
}

// sleep sets the alarm to what is due next.
func (t *watcher) sleep() {
	var next time.Time
	sooner := func(at time.Time) {
		if !at.IsZero() && (next.IsZero() || at.Before(next)) {
			next = at
		}
	}
	sooner(t.here.expiry)
	sooner(t.again)
	for _, n := range t.names {
		if !n.asking {
			sooner(n.due)
		}
	}
	if next.IsZero() {
		t.wake.Stop()
		return
	}
	t.wake.Reset(next.Sub(t.sources.cfg.Now()))
}

func (t *watcher) hearFiles(ctx context.Context) {
	for {
		events, err := t.files.wait()
		if err != nil {
			t.broken <- err
			return
		}
		select {
		case t.events <- events:
		case <-ctx.Done():
			return
		}
	}
}

func (t *watcher) hearRoutes(ctx context.Context, r *routeWatch) {
	for {
		if err := r.wait(); err != nil {
			t.broken <- err
			return
		}
		select {
		case t.routes <- struct{}{}:
		case <-ctx.Done():
			return
		}
	}
}
