package foreign

import (
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/ipsecfw/ipsecfw/filter"
)

// Verdict is what becomes of a probe.
type Verdict uint8

// The verdicts.
const (
	Unknown Verdict = iota // it depends on what a probe does not say, or on what the package does not know
	Passes
	Drops // silently, or with an answer to the sender
)

// String returns the verdict as the end of a sentence about a packet.
func (v Verdict) String() string {
	switch v {
	case Passes:
		return "passes"
	case Drops:
		return "is dropped"
	}
	return "has an unknown fate"
}

// Where is the place in a ruleset that decides. The zero value is none.
type Where struct {
	Family string // inet, ip or ip6
	Table  string
	Chain  string
	Handle uint64 // of the rule; 0 with Policy
	Policy bool   // the policy of the chain, for what no rule decides
}

// String writes the place as in "table inet filter, chain input, rule with
// handle 7".
func (w Where) String() string {
	s := fmt.Sprintf("table %s %s, chain %s, ", w.Family, w.Table, w.Chain)
	if w.Policy {
		return s + "by its policy"
	}
	return fmt.Sprintf("%srule with handle %d", s, w.Handle)
}

const (
	maxDepth = 16      // jumps, as the kernel (NFT_JUMP_STACK_SIZE)
	maxSteps = 1 << 16 // rules for one probe
)

// Judge returns what becomes of a probe of a direction, and where that is
// decided: the place that drops it or, of Unknown, one on which it depends.
// Chains are entered by hook and priority; to accept ends only a base chain,
// and those after it still judge.
func (t Tables) Judge(d filter.Direction, p Probe) (Verdict, Where) {
	steps := maxSteps
	return t.judge(d, p, &steps)
}

// judge counts the rules that it looks at down from steps.
func (t Tables) judge(d filter.Direction, p Probe, steps *int) (Verdict, Where) {
	return t.walk(newJudge(d, p, steps), hooks(d)...)
}

func newJudge(d filter.Direction, p Probe, steps *int) *judge {
	j := &judge{probe: &p, direction: d, steps: steps}
	j.network, j.transport = p.headers()
	j.mark, j.ctMark = certain(p.Mark), certain(0)
	if p.State != filter.StateNew {
		j.ctMark.known = 0
	}
	return j
}

// walk sends a probe through the chains of hooks.
func (t Tables) walk(j *judge, hooks ...uint32) (Verdict, Where) {
	unknown := Where{}
	for _, hook := range hooks {
		for _, b := range t.hooks[hook] {
			if !j.enters(b) {
				continue
			}
			switch f := j.base(b); {
			case f == dropped:
				return Drops, j.drop
			case f&dropped != 0 && unknown == Where{}:
				unknown = j.doubt
			}
			if j.translated != (Where{}) {
				return Unknown, j.translated
			}
		}
	}
	if unknown != (Where{}) {
		return Unknown, unknown
	}
	return Passes, Where{}
}

// hooks returns the hooks by which packets of a direction pass, in order.
func hooks(d filter.Direction) []uint32 {
	switch d {
	case filter.Inbound:
		return []uint32{unix.NF_INET_PRE_ROUTING, unix.NF_INET_LOCAL_IN}
	case filter.Outbound:
		return []uint32{unix.NF_INET_LOCAL_OUT, unix.NF_INET_POST_ROUTING}
	case filter.Forward:
		return []uint32{unix.NF_INET_PRE_ROUTING, unix.NF_INET_FORWARD, unix.NF_INET_POST_ROUTING}
	}
	return nil
}

// fate is a set of the ways in which a rule or chain may end for a packet.
type fate uint8

const (
	accepted fate = 1 << iota // by this base chain
	dropped
	fell // out of the chain
	next // to the next rule
)

// number is a value of which some bits are known.
type number struct{ value, known uint32 }

// judge is the way of one probe. What rules change of it stays changed for
// the rules after them.
type judge struct {
	probe              *Probe
	direction          filter.Direction
	network, transport header
	mark, ctMark       number
	untracked          truth // a rule took it from connection tracking
	steps              *int

	at         base
	rule       Where // the one that is looked at
	drop       Where // the last place that drops the packet
	doubt      Where // the last place that may decide, or not
	translated Where // the place that gives the packet another destination
	masked     Where // the first place that surely gives it another source
	unsure     bool  // the packet may not be here at all

	registers registers
}

// enters reports whether the probe goes through a base chain.
func (j *judge) enters(b base) bool {
	switch {
	case b.chain.hook.nat && j.probe.State != filter.StateNew:
		return false
	case b.table.family == unix.NFPROTO_IPV4:
		return j.probe.Src.Is4()
	case b.table.family == unix.NFPROTO_IPV6:
		return !j.probe.Src.Is4()
	}
	return b.table.family == unix.NFPROTO_INET
}

// base sends the probe through a base chain: it is accepted, dropped, or may
// be either.
func (j *judge) base(b base) fate {
	j.at, j.unsure = b, false
	f := j.chain(b.chain, 0)
	if f&fell == 0 {
		return f
	}
	f &^= fell
	if !b.chain.hook.drop {
		return f | accepted
	}
	j.drop = Where{Family: familyName(b.table.family), Table: b.table.name, Chain: b.chain.name, Policy: true}
	return f | dropped
}

func familyName(family byte) string {
	switch family {
	case unix.NFPROTO_IPV4:
		return "ip"
	case unix.NFPROTO_IPV6:
		return "ip6"
	}
	return "inet"
}

// chain sends the probe through a chain.
func (j *judge) chain(c *chain, depth int) fate {
	var f fate
	for i := range c.rules {
		j.rule = Where{Family: familyName(j.at.table.family), Table: j.at.table.name, Chain: c.name, Handle: c.rules[i].handle}
		if *j.steps--; *j.steps < 0 {
			j.doubt = j.rule
			return accepted | dropped | fell
		}
		way := j.apply(&c.rules[i], depth)
		f |= way &^ next
		if way&next == 0 {
			return f
		}
	}
	return f | fell
}

// apply sends the probe through a rule.
func (j *judge) apply(r *rule, depth int) fate {
	j.registers = registers{}
	before, leaves := j.unsure, fate(0)
	for _, x := range r.expressions {
		holds, verdicts := j.evaluate(x)
		if holds == no {
			// What the rule may have done to the packet it did unsurely; what
			// follows is as sure as it was.
			j.unsure = before
			return next
		}
		if holds == maybe {
			j.unsure = true
			leaves = next
		}
		if len(verdicts) == 0 {
			continue
		}
		if leaves != 0 || len(verdicts) > 1 {
			j.doubt, j.unsure = j.rule, true
		}
		f, at := leaves, j.rule
		for _, v := range verdicts {
			j.rule = at
			f |= j.end(v, depth)
		}
		return f
	}
	j.unsure = before
	return next
}

// end does what a verdict says.
func (j *judge) end(v verdict, depth int) fate {
	switch v.code {
	case verdictAccept:
		return accepted
	case verdictDrop:
		j.drop = j.rule
		return dropped
	case verdictReturn:
		return fell
	case verdictContinue:
		return next
	case verdictJump, verdictGoto:
		to := j.at.table.chains[v.chain]
		if to == nil || depth == maxDepth {
			break
		}
		f := j.chain(to, depth+1)
		if v.code == verdictJump && f&fell != 0 {
			f = f&^fell | next
		}
		return f
	}
	j.doubt = j.rule
	return accepted | dropped | fell
}
