package daemon

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/ipsecfw/ipsecfw/cmd/ipsecfw/internal/surroundings"
	"github.com/ipsecfw/ipsecfw/rules"
)

// lookFor is how long a change of policy waits for names to be resolved.
const lookFor = 5 * time.Second

// needs is what the names in a policy ask for.
func needs(parts []*part) surroundings.Wanted {
	var w surroundings.Wanted
	for _, x := range parts {
		n := x.file.Needs()
		w.Names = append(w.Names, n.Names...)
		w.DNSServers = w.DNSServers || n.DNSServers
		w.DHCPServers = w.DHCPServers || n.DHCPServers
		w.DefaultGateways = w.DefaultGateways || n.DefaultGateways
	}
	slices.Sort(w.Names)
	w.Names = slices.Compact(w.Names)
	return w
}

func nothing(w surroundings.Wanted) bool {
	return len(w.Names) == 0 && !w.DNSServers && !w.DHCPServers && !w.DefaultGateways
}

// look finds out what the names in a policy stand for. A name that does not
// resolve now stands for what it stood for last; one that never did is an
// error, beside which the result is valid.
func (c *control) look(ctx context.Context, parts []*part) (rules.Addresses, error) {
	w := needs(parts)
	if nothing(w) {
		return rules.Addresses{}, nil
	}
	ctx, cancel := context.WithTimeout(ctx, lookFor)
	defer cancel()
	found, err := surroundings.Look(ctx, w, surroundings.Config{Log: c.cfg.Log})
	out := rules.Addresses(found)
	if out.Names == nil {
		out.Names = map[string][]netip.Addr{}
	}
	var unknown []string
	known := c.memory.known()
	for _, name := range w.Names {
		if len(out.Names[name]) > 0 {
			continue
		}
		if last := known.Names[name]; len(last) > 0 {
			out.Names[name] = last
			c.cfg.Log.Warn("a name does not resolve: it stands for what it did last", "name", name, "addresses", last)
			continue
		}
		unknown = append(unknown, name)
	}
	if len(unknown) > 0 {
		return out, invalid(fmt.Errorf("no address is known for %s: %w; write addresses, or see to it that the names resolve",
			strings.Join(unknown, ", "), errors.Join(err)))
	}
	return out, nil
}

// follow keeps the policy up with what its names stand for.
func (c *control) follow(p *policy) {
	if c.unfollow != nil {
		c.unfollow()
		c.unfollow = nil
	}
	w := needs(p.parts)
	if nothing(w) {
		return
	}
	ctx, cancel := context.WithCancel(context.Background())
	c.unfollow = cancel
	go func() {
		err := surroundings.Watch(ctx, w, surroundings.Addresses(p.addresses), surroundings.Config{Log: c.cfg.Log}, func(a surroundings.Addresses) {
			c.readdress(ctx, rules.Addresses(a))
		})
		if err != nil && ctx.Err() == nil {
			c.cfg.Log.Error("what names in the policy stand for is not followed any more", "error", err)
		}
	}()
}

// retryAddresses is how long after a failure other addresses are tried again.
const retryAddresses = 5 * time.Second

// readdress puts the policy that is in force in force with other addresses.
func (c *control) readdress(ctx context.Context, a rules.Addresses) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if ctx.Err() != nil || c.plant == nil {
		return
	}
	old := c.plant.policy.Load()
	for name, last := range old.addresses.Names { // a name that is gone keeps its addresses
		if len(a.Names[name]) == 0 {
			a.Names = with(a.Names, name, last)
		}
	}
	p, err := old.readdressed(a, c.generation+1)
	if err != nil {
		c.cfg.Log.Error("the policy does not go with what names in it stand for now: some stand for what they did before", "error", err)
	}
	if p == nil {
		return
	}
	if err := c.program(p); err != nil {
		c.cfg.Log.Error("the policy does not follow the names in it yet", "error", err, "again-in", retryAddresses)
		time.AfterFunc(retryAddresses, func() { c.readdress(ctx, a) })
		return
	}
	c.memory.learn(p.addresses)
	c.plant.swap(p)
	c.generation++
	c.cfg.Log.Info("names in the policy stand for other addresses", "generation", c.generation)
}

// readdressed makes the policy with other addresses. If it cannot be made with
// all of them, the error says why, and it has those with which it can: whoever
// decides what one name stands for shall not hold up the others. It is nil when
// there are none.
func (p *policy) readdressed(a rules.Addresses, generation uint64) (*policy, error) {
	q, why := combine(p.parts, a, generation)
	if why == nil {
		return q, nil
	}
	have := p.addresses
	try := func(next rules.Addresses) {
		if x, err := combine(p.parts, next, generation); err == nil {
			q, have = x, next
		}
	}
	q = nil
	for _, name := range slices.Sorted(maps.Keys(a.Names)) {
		if !slices.Equal(a.Names[name], have.Names[name]) {
			next := have
			next.Names = with(have.Names, name, a.Names[name])
			try(next)
		}
	}
	next := have
	next.DNSServers, next.DHCPServers, next.DefaultGateways = a.DNSServers, a.DHCPServers, a.DefaultGateways
	if !reflect.DeepEqual(next, have) {
		try(next)
	}
	return q, why
}

// with returns names of which one stands for something else.
func with(names map[string][]netip.Addr, name string, addresses []netip.Addr) map[string][]netip.Addr {
	out := maps.Clone(names)
	if out == nil {
		out = map[string][]netip.Addr{}
	}
	out[name] = addresses
	return out
}
