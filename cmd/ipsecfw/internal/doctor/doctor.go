// Package doctor judges what on a host stands in ipsecfw's way: facts in,
// findings out.
package doctor

import (
	"cmp"
	"fmt"
	"slices"
)

// Severity says how bad a finding is.
type Severity string

// The severities, from the worst on.
const (
	Problem Severity = "problem" // ipsecfw does not work, or not for all packets
	Warning Severity = "warning" // it may not
	Unknown Severity = "unknown" // it could not be looked at
	OK      Severity = "ok"
)

var order = []Severity{Problem, Warning, Unknown, OK}

// Finding is one thing about the host.
type Finding struct {
	Severity Severity `json:"severity"`
	On       string   `json:"on"`           // what it is about, such as "interface eth0"
	What     string   `json:"what"`         // what it is
	Do       string   `json:"do,omitempty"` // what to do about it
}

// String writes the finding as a line.
func (f Finding) String() string {
	s := fmt.Sprintf("%s: %s: %s", f.Severity, f.On, f.What)
	if f.Do != "" {
		s += "; " + f.Do
	}
	return s
}

// Judge returns what there is to say of a host, the worst first.
func Judge(f *Facts) []Finding {
	j := judge{Facts: f}
	j.privileges()
	j.kernel()
	j.clock()
	j.parameters()
	j.interfaces()
	j.defaults()
	j.rules()
	j.daemons()
	j.ports()
	j.queues()
	j.xfrm()
	j.tables()
	for _, u := range f.Unseen {
		j.find(Unknown, u.What, "it was not looked at: "+u.Why, u.Do)
	}
	slices.SortStableFunc(j.findings, func(a, b Finding) int {
		return cmp.Compare(slices.Index(order, a.Severity), slices.Index(order, b.Severity))
	})
	return j.findings
}

// Ill reports whether there is a problem among findings.
func Ill(findings []Finding) bool {
	return slices.ContainsFunc(findings, func(f Finding) bool { return f.Severity == Problem })
}

// judge collects findings.
type judge struct {
	*Facts
	findings []Finding
}

func (j *judge) find(s Severity, on, what, do string) {
	j.findings = append(j.findings, Finding{Severity: s, On: on, What: what, Do: do})
}

func ipVersion(v6 bool) string {
	if v6 {
		return "IPv6"
	}
	return "IPv4"
}
