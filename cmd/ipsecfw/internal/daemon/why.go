package daemon

import (
	"fmt"
	"net/netip"
	"sync"
	"time"

	"github.com/ipsecfw/ipsecfw/cmd/ipsecfw/internal/api"
	"github.com/ipsecfw/ipsecfw/cmd/ipsecfw/internal/explain"
	"github.com/ipsecfw/ipsecfw/filter"
	"github.com/ipsecfw/ipsecfw/ipsec"
	"github.com/ipsecfw/ipsecfw/rules"
)

// Explain implements api.Engine.
func (c *control) Explain(f explain.Flow) (explain.Explanation, error) {
	if err := f.Check(); err != nil {
		return explain.Explanation{}, &api.Error{Code: api.CodeBadRequest, Message: err.Error()}
	}
	pl := c.current()
	if pl == nil {
		return explain.Explanation{}, &api.Error{Code: api.CodeNotFound, Message: "no policy is in force", Hint: "explain a rule file with --file"}
	}
	p := pl.policy.Load()
	far := f.To
	if f.Direction == filter.Inbound.String() {
		far = f.From
	}
	if f.Interface == "" {
		i := pl.links.Toward(far)
		f.Interface, f.Remote = i.Name, i.Remote
	}
	e := explain.Explain(p.spd, p.negotiations(), f)
	if e.Packets.Action == filter.Negotiate.String() {
		e.SA, e.NoSA = pl.carrier(e.Packets.Filter.Rule, f, far)
	}
	return e, nil
}

// negotiations returns the rules that negotiate as their files have them.
func (p *policy) negotiations() map[string]rules.Negotiation {
	out := make(map[string]rules.Negotiation, len(p.rules))
	for name, n := range p.rules {
		out[name] = n.Negotiation
	}
	return out
}

// carrier returns the SA that carries a flow under a rule, or why there is
// none.
func (pl *plant) carrier(rule string, f explain.Flow, far netip.Addr) (spi, none string) {
	if f.Direction == filter.Inbound.String() {
		f = f.Answer() // the pair of SAs is the same
	}
	_, pkt := f.Packet()
	if sa := pl.engine.SAD().Outbound(rule, &pkt, nil); sa != nil {
		return sa.InSPI.String(), ""
	}
	if x, ok := pl.soft.all()[far]; ok {
		return "", fmt.Sprintf("the peer does not speak IKE, and packets pass in clear for %s more", time.Until(x.until).Round(time.Second))
	}
	if n := pl.policy.Load().rules[rule]; n != nil && n.Mode == ipsec.Tunnel {
		far = n.TunnelPeer
	}
	if x, ok := pl.failures.of(rule, far); ok {
		return "", fmt.Sprintf("the negotiation failed %s ago: %v", time.Since(x.at).Round(time.Second), x.why)
	}
	return "", "no packet has asked for one; the next does"
}

// failures remembers why the last negotiations failed. Its zero value is
// empty.
type failures struct {
	mu   sync.Mutex
	last map[failedFlow]failure
}

type failedFlow struct {
	rule   string
	remote netip.Addr
}

type failure struct {
	why error
	at  time.Time
}

// maxFailures bounds what is remembered; then all is forgotten.
const maxFailures = 1024

func (f *failures) add(rule string, remote netip.Addr, why error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.last == nil || len(f.last) >= maxFailures {
		f.last = map[failedFlow]failure{}
	}
	f.last[failedFlow{rule, remote}] = failure{why, time.Now()}
}

func (f *failures) of(rule string, remote netip.Addr) (failure, bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	x, ok := f.last[failedFlow{rule, remote}]
	return x, ok
}
