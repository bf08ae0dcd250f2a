package main

import (
	"cmp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/ipsecfw/ipsecfw/cmd/ipsecfw/internal/explain"
	"github.com/ipsecfw/ipsecfw/ipsec"
	"github.com/ipsecfw/ipsecfw/rules"
)

// aspect is one thing that a rule or a policy says, in words.
type aspect struct {
	Name  string `json:"name"`
	Value string `json:"value"`
}

// aspects are in a fixed order, those that say nothing left out.
type aspects []aspect

func (a *aspects) add(name, value string) {
	if value != "" {
		*a = append(*a, aspect{name, value})
	}
}

func (a aspects) String() string {
	out := make([]string, len(a))
	for i, x := range a {
		out[i] = x.Name + " " + x.Value
	}
	return strings.Join(out, "; ")
}

func (a aspects) value(name string) string {
	for _, x := range a {
		if x.Name == name {
			return x.Value
		}
	}
	return ""
}

// negotiated says what a rule negotiates. Its name and place say nothing.
func negotiated(n rules.Negotiation) aspects {
	var a aspects
	a.add("mode", n.Mode.String())
	if n.Mode == ipsec.Tunnel {
		a.add("tunnel", n.TunnelLocal.String()+" to "+n.TunnelPeer.String())
	}
	methods := explain.Methods(n)
	for i, l := range n.Lifetimes {
		methods[i] += " for " + l.Time.String()
		if l.Bytes != 0 {
			methods[i] += " or " + strconv.FormatUint(l.Bytes, 10) + " bytes"
		}
	}
	a.add("methods", strings.Join(methods, ", "))
	a.add("force-udp", flag(n.ForceUDP))
	a.add("accept-unsecured", flag(n.AcceptUnsecured))
	if n.AllowUnsecured {
		a.add("allow-unsecured", "after "+n.FallbackAfter.String()+" for "+n.SoftLifetime.String())
	}
	ways := make([]string, len(n.Auth))
	for i, x := range n.Auth {
		ways[i] = way(x)
	}
	a.add("authentication", strings.Join(ways, ", "))
	a.add("id", n.OwnID)
	a.add("peer-id", n.PeerID)
	if g := n.Peers; g != nil {
		a.add("peers", among(g.Members))
		a.add("peers except", among(g.Except))
	}
	a.exchange("key-exchange ", n.Exchange)
	a.add("legacy", flag(n.Legacy))
	return a
}

// exchange says what is said of a key exchange.
func (a *aspects) exchange(name string, x rules.Exchange) {
	a.add(name+"suite", x.Suite)
	a.add(name+"proposals", strings.Join(x.Proposals, ", "))
	switch {
	case x.Reauth == rules.Never:
		a.add(name+"reauthentication", "never")
	default:
		a.add(name+"reauthentication", duration(x.Reauth))
	}
	keys := make([]string, len(x.PPKs))
	for i, k := range x.PPKs {
		keys[i] = k.ID + " in " + k.File
		if k.Required {
			keys[i] += ", required"
		}
	}
	a.add(name+"ppk", strings.Join(keys, "; "))
	if x.Childless != nil {
		a.add(name+"childless", strconv.FormatBool(*x.Childless))
	}
}

// way says by what both ends authenticate, with all that is not so by default.
func way(x rules.Authentication) string {
	words := []string{x.String()}
	add := func(what string, values ...string) {
		if text := strings.Join(values, " or "); text != "" {
			words = append(words, what+" "+text)
		}
	}
	if c := x.Certificate; c != nil {
		add("with", cmp.Or(c.Own, c.PKCS12))
		add("by", c.Intermediates...)
		if c.Revocation != rules.RevocationIfPresent {
			add("revocation", c.Revocation.String())
		}
		add("crl", c.CRLs...)
		add("exclude-from-request", flag(c.Unnamed))
		add("hash-and-url", c.URL)
		add("accept-urls", flag(c.AcceptURLs))
		add("pkcs1", flag(c.PKCS1))
	}
	if k := x.RawKey; k != nil {
		add("with", k.Key)
		add("pkcs1", flag(k.PKCS1))
	}
	return strings.Join(words, " ")
}

// among says which peers are members.
func among(m rules.Members) string {
	words := []string{list("names", m.Names), list("units", m.Units), list("subjects", m.Subjects), list("fingerprints", m.Fingerprints)}
	return strings.Join(slices.DeleteFunc(words, func(s string) bool { return s == "" }), ", ")
}

// settled says what holds for a policy beside its filters.
func settled(p policy) aspects {
	f := p.settings()
	if f == nil {
		return nil
	}
	var a aspects
	boot := p.files[0] // that of the last file that says something of it
	for _, x := range p.files {
		if x.Startup.Stated {
			boot = x
		}
	}
	mode, exempt := boot.Boot()
	a.add("boot mode", mode.String())
	through := make([]string, len(exempt))
	for i := range exempt {
		through[i] = exempt[i].Selector.String()
	}
	slices.Sort(through)
	a.add("boot exemptions", strings.Join(slices.Compact(through), ", "))
	k := f.KeyExchange
	x := k.Exchange
	x.Suite = cmp.Or(x.Suite, rules.DefaultSuite)
	a.exchange("key-exchange ", x)
	a.add("key-exchange fragmentation", strconv.Itoa(k.Fragmentation))
	a.add("key-exchange window", strconv.Itoa(k.Window))
	a.add("key-exchange lifetime", duration(k.Lifetime))
	a.add("key-exchange liveness", duration(k.Liveness))
	if k.Children != 0 {
		a.add("key-exchange children", strconv.Itoa(k.Children))
	}
	a.add("key-exchange master-key-pfs", flag(k.MasterKeyPFS))
	versions := make([]string, len(k.Versions))
	for i, v := range k.Versions {
		versions[i] = strconv.Itoa(v)
	}
	a.add("key-exchange versions", strings.Join(versions, ", "))
	if n, ok := f.DefaultResponse(); ok {
		a.add("default-response", negotiated(n).String())
	}
	a.add("persistent", flag(slices.ContainsFunc(p.files, func(f *rules.File) bool { return f.Persistent })))
	return a
}

// changedAspect is an aspect whose value is another.
type changedAspect struct {
	Name string `json:"name"`
	From string `json:"from"`
	To   string `json:"to"`
}

func (c changedAspect) String() string {
	return c.Name + ": " + orNone(c.From) + " → " + orNone(c.To)
}

func orNone(s string) string {
	if s == "" {
		return "none"
	}
	return s
}

// changed returns the aspects that differ.
func changed(old, next aspects) []changedAspect {
	var out []changedAspect
	for _, x := range old {
		if to := next.value(x.Name); to != x.Value {
			out = append(out, changedAspect{x.Name, x.Value, to})
		}
	}
	for _, x := range next {
		if old.value(x.Name) == "" {
			out = append(out, changedAspect{x.Name, "", x.Value})
		}
	}
	return out
}

func flag(b bool) string {
	if b {
		return "yes"
	}
	return ""
}

func duration(d time.Duration) string {
	if d == 0 {
		return ""
	}
	return d.String()
}

func list(name string, values []string) string {
	if len(values) == 0 {
		return ""
	}
	return name + " [" + strings.Join(values, ", ") + "]"
}
