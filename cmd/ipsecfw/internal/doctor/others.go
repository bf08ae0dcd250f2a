package doctor

import (
	"fmt"
	"slices"
	"strings"
)

// own is the name of our program, and keyExchanges are those of others that
// negotiate SAs.
const own = "ipsecfw"

var keyExchanges = []string{"charon", "charon-systemd", "pluto", "iked", "racoon", "strongswan"}

// KeyExchange reports whether a program negotiates SAs, by its name.
func KeyExchange(name string) bool { return slices.Contains(keyExchanges, name) }

// String writes the program as in "charon (process 7)".
func (p Program) String() string {
	if p == (Program{}) {
		return "another program"
	}
	return fmt.Sprintf("%s (process %d)", p.Name, p.PID)
}

func (j *judge) daemons() {
	var ours []string
	for _, p := range j.Programs {
		switch {
		case p.Name == own:
			ours = append(ours, fmt.Sprint(p.PID))
		case !slices.ContainsFunc(j.Ports, func(x Port) bool { return x.Holder == p }):
			j.find(Warning, p.String(), "it negotiates SAs too, on other ports or not yet", "stop it, unless it serves other peers by other ports")
		}
	}
	switch {
	case len(ours) > 1:
		j.find(Problem, "daemons", "several run in this network namespace: processes "+strings.Join(ours, ", "), "stop all but one")
	case len(ours) == 1 && j.Daemon == nil:
		j.find(Warning, "daemon", "one runs, process "+ours[0]+", and does not answer at this socket", "name its socket with --socket")
	}
}

func (j *judge) ports() {
	seen := map[Port]bool{}
	for _, p := range j.Ports {
		if p.Holder.Name == own || seen[p] {
			continue
		}
		if p.Holder == (Program{}) && j.Daemon != nil && j.Daemon.Policy != "" {
			continue // it cannot be told from the daemon
		}
		seen[p] = true
		j.find(Problem, fmt.Sprintf("UDP port %d", p.Number), p.Holder.String()+" has it, and the key exchange needs it", "stop that program")
	}
}

func (j *judge) queues() {
	for _, q := range j.Queues {
		hidden := q.Holder == (Program{}) && j.Daemon != nil && j.Daemon.Policy != ""
		if slices.Contains(j.Names.Queues, q.Number) && q.Holder.Name != own && !hidden {
			j.find(Problem, fmt.Sprintf("queue %d", q.Number), q.Holder.String()+" has it, and the daemon needs it", "give that program another number")
		}
	}
}

func (j *judge) xfrm() {
	if j.XFRM == nil || *j.XFRM == (XFRM{}) {
		return
	}
	if j.XFRM.Policies == 0 {
		j.find(Warning, "kernel's IPsec", fmt.Sprintf("it has %d SAs: it takes ESP with their SPIs before ipsecfw does", j.XFRM.States), `remove them with "ip xfrm state flush"`)
		return
	}
	j.find(Problem, "kernel's IPsec", fmt.Sprintf("it has %d policies and %d SAs, and takes packets before ipsecfw does", j.XFRM.Policies, j.XFRM.States),
		`stop the program that made them, or remove them with "ip xfrm policy flush" and "ip xfrm state flush"`)
}

func (j *judge) tables() {
	if j.Tables == nil {
		return
	}
	const on, allow = "other firewalls", "allow it there too"
	for _, s := range j.Tables.Drops {
		j.find(Problem, on, s, allow)
	}
	for _, s := range j.Tables.Perhaps {
		j.find(Warning, on, s, allow)
	}
	for _, s := range j.Tables.Translates {
		j.find(Problem, on, s, "leave out there what goes to the other end's networks")
	}
	if len(j.Tables.Legacy) > 0 {
		j.find(Warning, "iptables-legacy", "it has tables, which are not looked at: "+strings.Join(j.Tables.Legacy, ", "), "see that they let UDP 500 and 4500 and the protocols 50 and 51 through, or use iptables-nft")
	}
}
