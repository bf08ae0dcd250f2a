package nfq

import (
	"maps"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"
)

// Bounds of what a path is taken to carry, in bytes of IP packet. Every link
// carries minMTU6 (RFC 8200 section 5). In IPv4 there is no such promise that
// would be of use: below minMTU4, packets are made of that size, and routers may
// fragment them.
const (
	minMTU4 = 552
	minMTU6 = 1280
)

// learnedFor is how long a path is taken to be narrower than its first link
// (RFC 1191 section 6.3, RFC 8201 section 4).
const learnedFor = 10 * time.Minute

// Path is the way between two outer addresses, and how large a packet it takes.
// All SAs between the two share it, one after another and at once. It is read for
// every packet, without a lock.
type Path struct {
	v6     bool
	narrow atomic.Bool  // below minMTU4
	mtu    atomic.Int32 // the least of all that is known

	mu      sync.Mutex
	link    int // what the kernel knows
	learned int // from the path itself, until a time; 0 for nothing
	until   time.Time
}

// NewPath returns a path of which the kernel says that it takes mtu bytes.
func NewPath(v6 bool, mtu int) *Path {
	p := &Path{v6: v6}
	p.SetLink(mtu)
	return p
}

// MTU returns the longest IP packet that the path takes, in bytes.
func (p *Path) MTU() int { return int(p.mtu.Load()) }

// Fragments reports whether packets that were cut to the path have to be
// fragmented on the way even so: in IPv4, the path is narrower than what they are
// cut to.
func (p *Path) Fragments() bool { return p.narrow.Load() }

// Link returns the MTU that the kernel knows of.
func (p *Path) Link() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.link
}

// SetLink says what the kernel knows now.
func (p *Path) SetLink(mtu int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.link = mtu
	p.update()
}

// Learn says that the path takes no more than mtu bytes: somebody on it says so,
// or probing has found it. It lasts for ten minutes. Learn reports whether the
// path is narrower now than it was.
func (p *Path) Learn(mtu int, now time.Time) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if mtu >= int(p.mtu.Load()) {
		return false
	}
	p.learned, p.until = max(mtu, 1), now.Add(learnedFor)
	p.update()
	return true
}

// age forgets what was learned too long ago, and reports whether nothing is left
// of that.
func (p *Path) age(now time.Time) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.learned != 0 && !now.Before(p.until) {
		p.learned = 0
		p.update()
	}
	return p.learned == 0
}

func (p *Path) update() {
	mtu, least := p.link, minMTU4
	if p.v6 {
		least = minMTU6
	}
	if p.learned != 0 {
		mtu = min(mtu, p.learned)
	}
	p.narrow.Store(!p.v6 && mtu < least)
	p.mtu.Store(int32(max(mtu, least)))
}

// between is the two outer addresses of a path.
type between struct{ local, remote netip.Addr }

// FindMTU tells what the kernel knows of the path between two addresses, in
// bytes.
type FindMTU func(local, remote netip.Addr) (int, error)

// pathTable is the paths of an engine's SAs, and of those that were.
type pathTable struct {
	mu  sync.Mutex
	all map[between]*Path
}

// Path returns the path between two outer addresses. When it is new, link finds
// what the kernel knows of it.
func (e *Engine) Path(local, remote netip.Addr, link FindMTU) (*Path, error) {
	k := between{local, remote}
	if p := e.paths.find(k); p != nil {
		return p, nil
	}
	mtu, err := link(local, remote)
	if err != nil {
		return nil, err
	}
	return e.paths.add(k, NewPath(remote.Is6(), mtu)), nil
}

// RefreshPaths forgets what was learned too long ago, and asks link again what
// the kernel knows. A path of which it knows nothing at the moment stays as it
// was. Paths that no SA uses are forgotten, but for what was learned of them.
func (e *Engine) RefreshPaths(link FindMTU) {
	used := map[*Path]bool{}
	for _, sa := range e.sad.All() {
		used[sa.Path] = true
	}
	now := e.cfg.Now()
	for k, p := range e.paths.copy() {
		if p.age(now) && !used[p] {
			e.paths.remove(k, p)
			continue
		}
		if mtu, err := link(k.local, k.remote); err == nil {
			p.SetLink(mtu)
		}
	}
}

func (x *pathTable) find(k between) *Path {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.all[k]
}

// add returns the path that is there, if another was faster.
func (x *pathTable) add(k between, p *Path) *Path {
	x.mu.Lock()
	defer x.mu.Unlock()
	if other := x.all[k]; other != nil {
		return other
	}
	if x.all == nil {
		x.all = map[between]*Path{}
	}
	x.all[k] = p
	return p
}

func (x *pathTable) remove(k between, p *Path) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.all[k] == p {
		delete(x.all, k)
	}
}

func (x *pathTable) copy() map[between]*Path {
	x.mu.Lock()
	defer x.mu.Unlock()
	return maps.Clone(x.all)
}
