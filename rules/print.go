package rules

import (
	"fmt"
	"net/netip"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/ipsecfw/ipsecfw/filter"
	"github.com/ipsecfw/ipsecfw/ipsec"
)

// Print writes the file in its canonical form: keys in a fixed order, one
// filter and one rule to a line, and nothing that is so by default. Parse
// reads the same File from it, but for positions. Comments are not kept.
func (f *File) Print() []byte {
	var b strings.Builder
	fmt.Fprintf(&b, "version: 1\nname: %s\n", quote(f.Name))
	if f.Persistent {
		b.WriteString("persistent: true\n")
	}
	if level := exemptionLevel(f.Exemptions); level != defaultExemptions {
		fmt.Fprintf(&b, "exemptions: %d\n", level)
	}
	if s := printStartup(&f.Startup); s != "" {
		fmt.Fprintf(&b, "boot: %s\n", s)
	}
	section(&b, "address-sets", f.Sets, func(s *Set) string {
		return fmt.Sprintf("%s: %s", quote(s.Name), "["+strings.Join(printEach(s.Members), ", ")+"]")
	})
	section(&b, "peers", f.Peers, func(g *PeerGroup) string { return quote(g.Name) + ": " + printPeers(g) })
	if len(f.Lists) > 0 {
		b.WriteString("\nfilter-lists:\n")
	}
	for i := range f.Lists {
		fmt.Fprintf(&b, "  %s:\n", quote(f.Lists[i].Name))
		for j := range f.Lists[i].Filters {
			fmt.Fprintf(&b, "    - %s\n", printFilter(&f.Lists[i].Filters[j]))
		}
	}
	section(&b, "filter-actions", f.Actions, func(a *Action) string {
		return fmt.Sprintf("%s:\n    %s: %s", quote(a.Name), a.Action, printAction(a))
	})
	section(&b, "rules", f.Rules, func(r *Rule) string { return "- " + printRule(r) })
	if f.Response != nil {
		fmt.Fprintf(&b, "\n%s: %s\n", DefaultResponseRule, printRule(f.Response))
	}
	if k := printKeyExchange(&f.KeyExchange); len(k) > 0 {
		fmt.Fprintf(&b, "\nkey-exchange: %s\n", k)
	}
	section(&b, "assert", f.Asserts, func(s *Assert) string { return "- " + printAssert(s) })
	return []byte(b.String())
}

// section writes a key with what stands below it, unless that is nothing.
func section[T any](b *strings.Builder, key string, items []T, print func(*T) string) {
	if len(items) > 0 {
		fmt.Fprintf(b, "\n%s:\n", key)
	}
	for i := range items {
		fmt.Fprintf(b, "  %s\n", print(&items[i]))
	}
}

// pairs is a mapping on one line.
type pairs []string

func (p *pairs) add(key, value string) { *p = append(*p, key+": "+value) }

// addText adds a text that is not empty.
func (p *pairs) addText(key, text string) {
	if text != "" {
		p.add(key, quote(text))
	}
}

// addCount adds a number that is not 0.
func (p *pairs) addCount(key string, n int) {
	if n != 0 {
		p.add(key, strconv.Itoa(n))
	}
}

// addBool adds a setting that is not the default.
func (p *pairs) addBool(key string, value, byDefault bool) {
	if value != byDefault {
		p.add(key, strconv.FormatBool(value))
	}
}

// addList adds a list that is not empty.
func (p *pairs) addList(key string, words []string) {
	if len(words) > 0 {
		p.add(key, "["+strings.Join(words, ", ")+"]")
	}
}

// addTexts adds one text or a list of them.
func (p *pairs) addTexts(key string, texts []string) {
	if len(texts) == 1 {
		p.add(key, quote(texts[0]))
	} else {
		p.addList(key, quoteAll(texts))
	}
}

func (p pairs) String() string { return "{" + strings.Join(p, ", ") + "}" }

// texts returns the words of what writes itself.
func texts[T fmt.Stringer](items []T) []string {
	out := make([]string, len(items))
	for i, x := range items {
		out[i] = x.String()
	}
	return out
}

func quoteAll(words []string) []string {
	out := make([]string, len(words))
	for i, w := range words {
		out[i] = quote(w)
	}
	return out
}

func printStartup(s *Startup) string {
	var p pairs
	if s.Mode != BootStateful {
		p.add("mode", s.Mode.String())
	}
	var exempt []string
	for i := range s.Exempt {
		exempt = append(exempt, printFilter(&s.Exempt[i]))
	}
	p.addList("exempt", exempt)
	switch {
	case !s.Stated:
		return ""
	case len(p) == 0:
		p.add("mode", s.Mode.String())
	}
	return p.String()
}

func printPeers(g *PeerGroup) string {
	var p pairs
	p.addMembers(&g.Members)
	if !g.Except.None() {
		var except pairs
		except.addMembers(&g.Except)
		p.add("except", except.String())
	}
	return p.String()
}

func (p *pairs) addMembers(m *Members) {
	p.addList("names", quoteAll(m.Names))
	p.addList("units", quoteAll(m.Units))
	p.addList("subjects", quoteAll(m.Subjects))
	p.addList("fingerprints", quoteAll(m.Fingerprints))
}

// printSides writes what stands at an end.
func printSides(sides []Side) string {
	words := printEach(sides)
	if len(words) == 1 {
		return words[0]
	}
	return "[" + strings.Join(words, ", ") + "]"
}

func printEach(sides []Side) []string {
	out := make([]string, len(sides))
	for i, s := range sides {
		out[i] = s.String()
		if s.Kind == SideFixed {
			out[i] = quote(out[i])
		}
	}
	return out
}

// printMatch writes which packets a filter matches.
func printMatch(f *Filter) pairs {
	var p pairs
	p.add("from", printSides(f.From))
	p.add("to", printSides(f.To))
	if f.HasProtocol {
		p.add("protocol", filter.ProtocolName(f.Protocol))
	}
	if !f.FromPort.Any() {
		p.add("from-port", f.FromPort.String())
	}
	if !f.ToPort.Any() {
		p.add("to-port", f.ToPort.String())
	}
	if f.ICMP.HasType {
		p.add("icmp-type", filter.ICMPTypeName(f.Protocol, f.ICMP.Type))
	}
	if f.ICMP.HasCode {
		p.add("icmp-code", strconv.Itoa(int(f.ICMP.Code)))
	}
	p.addBool("mirrored", f.Mirrored, true)
	return p
}

func printFilter(f *Filter) string {
	p := printMatch(f)
	p.addBool("stateful", f.Stateful, false)
	p.addBool("log", f.Log, false)
	if f.Limit != (filter.Limit{}) {
		p.add("limit", printLimit(f.Limit))
	}
	p.addText("description", f.Description)
	return p.String()
}

func printAction(a *Action) string {
	var p pairs
	p.addBool("reject", a.Reject, false)
	if a.Action != filter.Negotiate {
		return p.String()
	}
	n := &a.Negotiate
	p.add("mode", n.Mode.String())
	words := make([]string, len(n.Methods))
	for i, m := range n.Methods {
		words[i] = printMethod(m)
	}
	p.addList("methods", words)
	p.addBool("pfs", n.PFS, false)
	p.addList("pfs", n.PFSGroups)
	p.addBool("accept-unsecured", n.AcceptUnsecured, false)
	if x := n.AllowUnsecured; x != nil {
		p.add("allow-unsecured", printFallback(x))
	}
	p.addBool("esn", n.ESN, true)
	if n.Lifetime != defaultLifetime {
		p.add("lifetime", printDuration(n.Lifetime))
	}
	if n.LifetimeBytes != 0 {
		p.add("lifetime-bytes", printSize(n.LifetimeBytes))
	}
	p.addCount("lifetime-packets", n.LifetimePackets)
	p.addCount("replay-window", n.ReplayWindow)
	if n.DF != ipsec.DFCopy {
		p.add("df", n.DF.String())
	}
	if n.TFC == ipsec.TFCFull {
		p.add("tfc", "full")
	} else {
		p.addCount("tfc", n.TFC)
	}
	if n.ForceUDP {
		p.add("udp-encapsulation", "always")
	}
	if n.Mode == ipsec.Tunnel {
		p.add("tunnel", printTunnel(n.TunnelLocal, n.TunnelPeer))
	}
	return p.String()
}

func printFallback(x *Fallback) string {
	if *x == *defaultFallback() {
		return "true"
	}
	var p pairs
	p.add("after", printDuration(x.After))
	p.add("for", printDuration(x.For))
	return p.String()
}

func printTunnel(local, remote netip.Addr) string {
	var p pairs
	p.add("local", quote(local.String()))
	p.add("remote", quote(remote.String()))
	return p.String()
}

// printRule writes a rule, or without a list the default response rule.
func printRule(r *Rule) string {
	var p pairs
	if r.List != "" {
		p.add("name", quote(r.Name))
		p.add("filter-list", quote(r.List))
	}
	p.add("action", quote(r.Action))
	var methods []string
	for _, a := range r.Authentication {
		methods = append(methods, printAuthentication(a))
	}
	p.addList("authentication", methods)
	p.addText("own-id", r.OwnID)
	p.addText("peer-id", r.PeerID)
	p.addText("peers", r.Peers)
	if r.Exchange.said() {
		p.add("key-exchange", printExchange(&r.Exchange).String())
	}
	p.addBool("legacy", r.Legacy, false)
	p.addPlace(r.Connections, r.Forward)
	p.addBool("enabled", r.Enabled, true)
	return p.String()
}

// addPlace adds where a rule holds.
func (p *pairs) addPlace(on []filter.Connection, forward bool) {
	if len(on) > 0 {
		p.add("connection", printConnections(on))
	}
	if forward {
		p.add("path", "forward")
	}
}

func (p *pairs) addPadding(pkcs1 bool) {
	if pkcs1 {
		p.add("rsa-padding", "pkcs1")
	}
}

func printAuthentication(a Authentication) string {
	var p, inner pairs
	switch {
	case a.Certificate != nil:
		c := a.Certificate
		inner.addTexts("authority", c.Authorities)
		inner.addTexts("intermediates", c.Intermediates)
		inner.addText("own", c.Own)
		inner.addText("key", c.Key)
		inner.addText("pkcs12", c.PKCS12)
		inner.addText("password-file", c.PasswordFile)
		if c.Revocation != RevocationIfPresent {
			inner.addText("revocation", c.Revocation.String())
		}
		inner.addTexts("crl", c.CRLs)
		inner.addBool("exclude-from-request", c.Unnamed, false)
		inner.addText("hash-and-url", c.URL)
		inner.addBool("accept-urls", c.AcceptURLs, false)
		inner.addPadding(c.PKCS1)
	case a.RawKey != nil:
		inner.addText("key", a.RawKey.Key)
		inner.addTexts("peers", a.RawKey.Peers)
		inner.addPadding(a.RawKey.PKCS1)
	case a.PresharedKey != nil:
		inner.addText("file", a.PresharedKey.File)
	default:
		p.addText("anonymous", a.Anonymous.String())
		return p.String()
	}
	p.add(a.kinds()[0], inner.String())
	return p.String()
}

func printAssert(s *Assert) string {
	p := printMatch(&s.Filter)
	p.addPlace(s.Connections, s.Forward)
	if words := texts(s.Outcomes); len(words) == 1 {
		p.add(s.keyword(), words[0])
	} else {
		p.addList(s.keyword(), words)
	}
	p.addText("description", s.Description)
	return p.String()
}

// plain is text that no YAML parser takes for anything else, but for the
// words in reserved.
var plain = regexp.MustCompile(`^(/?[A-Za-z]|[0-9]+\.[0-9]+\.[0-9]+\.[0-9])[A-Za-z0-9._/-]*$`)

var reserved = []string{"true", "false", "yes", "no", "on", "off", "y", "n", "null"}

// quote writes text as a YAML scalar, in double quotes where it must.
func quote(s string) string {
	if plain.MatchString(s) && !slices.Contains(reserved, strings.ToLower(s)) {
		return s
	}
	return strconv.Quote(s)
}
