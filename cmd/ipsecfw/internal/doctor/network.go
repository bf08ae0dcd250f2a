package doctor

import (
	"fmt"
	"slices"
	"strings"
)

// minMTU is the least that IPv6 needs of a link (RFC 8200 section 5), in bytes.
const minMTU = 1280

// vpn are the kinds of interfaces through which others carry packets away.
var vpn = []string{"tun", "wireguard", "ppp", "ipip", "sit", "gre", "ip6tnl", "ip6gre", "vti", "vti6", "xfrm"}

func (j *judge) device() *Interface {
	for i := range j.Interfaces {
		if j.Interfaces[i].Name == j.Names.Device {
			return &j.Interfaces[i]
		}
	}
	return nil
}

func (j *judge) interfaces() {
	for _, i := range j.Interfaces {
		on := "interface " + i.Name
		if i.Name == j.Names.Device {
			if i.Kind != "tun" {
				j.find(Problem, on, "another program has an interface of the name that the daemon needs", "rename it, or remove it")
			}
			continue
		}
		if !i.Up {
			continue
		}
		if i.MTU < minMTU {
			j.find(Warning, on, fmt.Sprintf("its MTU is %d, less than %d: it carries no IPv6, and ESP leaves little of it", i.MTU, minMTU), "raise it")
		}
		switch {
		case i.Kind == "bridge":
			j.find(OK, on, "it is a bridge: the host's own packets are secured, and what only crosses it is not looked at", "")
		case i.Kind == "macvlan", i.Kind == "ipvlan":
			j.find(OK, on, "it is a "+i.Kind+": packets are secured as on any other", "")
		case slices.Contains(vpn, i.Kind):
			j.find(OK, on, "it is a tunnel ("+i.Kind+"): what goes through it is secured inside it if the policy says so", "")
		}
	}
}

func (j *judge) defaults() {
	for _, v6 := range []bool{false, true} {
		var same []string
		metric := -1
		for _, d := range j.Defaults {
			switch {
			case d.IPv6 != v6:
			case metric < 0 || d.Metric < metric:
				metric, same = d.Metric, []string{d.Interface}
			case d.Metric == metric && !slices.Contains(same, d.Interface):
				same = append(same, d.Interface)
			}
		}
		if len(same) > 1 {
			j.find(Warning, "default routes of "+ipVersion(v6), "several have the same metric, by "+strings.Join(same, " and ")+": a peer may see another address of this host than the one it has an SA with",
				"give one of them a higher metric")
		}
	}
}

// The kernel's tables of policy routing (linux/rtnetlink.h).
const localTable = 255

func (j *judge) rules() {
	last := j.Names.FirstRule + j.Names.Rules - 1
	for _, r := range j.Rules {
		ours := r.Priority >= j.Names.FirstRule && r.Mask == ^uint32(0) && r.Mark == j.Names.InMark
		if ours || r.Priority > last || r.Table == localTable || !j.catches(r) {
			continue
		}
		on := fmt.Sprintf("routing rule %d of %s", r.Priority, ipVersion(r.IPv6))
		what := "it comes before those of ipsecfw and takes packets that came by " + j.Names.Device + r.selects()
		do := fmt.Sprintf("give it a priority above %d", last)
		if j.strict() && !r.IPv6 {
			j.find(Problem, on, what+": the strict check of source addresses drops them", do)
			continue
		}
		j.find(Warning, on, what+": a check of their source addresses would drop them", do)
	}
}

// catches reports whether a rule may take the search for the way back to the
// source of what came by the device.
func (j *judge) catches(r Rule) bool {
	if r.Inverted {
		return true
	}
	local := r.In == "" || r.In == "lo"
	return local && r.Out == "" && j.Names.InMark&r.Mask == r.Mark&r.Mask
}

// selects says which ones a rule is about.
func (r Rule) selects() string {
	s := ""
	if r.To.IsValid() && r.To.Bits() > 0 { // the search is for the source
		s += " from " + r.To.String()
	}
	if r.From.IsValid() && r.From.Bits() > 0 {
		s += " to " + r.From.String()
	}
	return s
}
