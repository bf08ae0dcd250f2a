package rules

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"

	"github.com/ipsecfw/ipsecfw/filter"
)

// parseSide returns a side, or what is wrong with it and what to write.
func parseSide(text string) (s filter.Side, problem, hint string) {
	switch {
	case text == "any":
		return filter.Any(), "", ""
	case text == "me":
		return filter.Me(), "", ""
	case strings.Contains(text, "/"):
		s, problem, hint = parseSubnet(text)
	case strings.Contains(text, "-"):
		s, problem, hint = parseRange(text)
	default:
		var a netip.Addr
		if a, problem, hint = parseAddress(text); problem == "" {
			s = filter.Address(a)
		}
	}
	if problem == "" {
		problem, hint = checkUnicast(s, text)
	}
	return s, problem, hint
}

// parseAddress returns a plain address of either family.
func parseAddress(text string) (a netip.Addr, problem, hint string) {
	a, err := netip.ParseAddr(text)
	switch {
	case err == nil && a.Zone() != "":
		return a, fmt.Sprintf("address %q names an interface", text), fmt.Sprintf("write %q", a.WithZone(""))
	case err == nil && a.Is4In6():
		return a, fmt.Sprintf("%q is an IPv4 address in the form of IPv6", text), fmt.Sprintf("write %q", a.Unmap())
	case err == nil:
		return a, "", ""
	}
	hint = "write an address as in 10.1.2.3 or 2001:db8::1"
	switch {
	case strings.ContainsFunc(text, isLetter) && !strings.Contains(text, ":"):
		problem = fmt.Sprintf("%q is no address", text)
		hint = didYouMean(text, append([]string{"any", "me"}, dynamicNames()...), nameHint(text))
	case octetTooLarge(text):
		problem = fmt.Sprintf("%q is no IPv4 address: each of its four numbers is 0 to 255", text)
	default:
		problem = fmt.Sprintf("%q is no address", text)
	}
	return a, problem, hint
}

// nameHint says how a name is written where an address may stand.
func nameHint(text string) string {
	if name, problem, _ := parseDNSName(text); problem == "" && strings.Contains(name, ".") {
		return fmt.Sprintf("write {dns: %s} for the addresses of that name", name)
	}
	return fmt.Sprintf("write {set: %s} for the address set, {dns: NAME} for a DNS name, or any or me", quote(text))
}

// octetTooLarge reports whether text would be an IPv4 address if its numbers
// were smaller.
func octetTooLarge(text string) bool {
	parts := strings.Split(text, ".")
	if len(parts) != 4 {
		return false
	}
	large := false
	for _, p := range parts {
		n, err := strconv.ParseUint(p, 10, 32)
		if err != nil {
			return false
		}
		large = large || n > 255
	}
	return large
}

// parseSubnet returns the side of ADDRESS/BITS.
func parseSubnet(text string) (s filter.Side, problem, hint string) {
	addr, bits, _ := strings.Cut(text, "/")
	a, problem, hint := parseAddress(addr)
	if problem != "" {
		if n := strings.Count(addr, "."); n < 3 && netipOK(addr+strings.Repeat(".0", 3-n)) {
			hint = fmt.Sprintf("write all four numbers, as in %q", addr+strings.Repeat(".0", 3-n)+"/"+bits)
		}
		return s, problem, hint
	}
	if mask, err := netip.ParseAddr(bits); err == nil && mask.Is4() && a.Is4() {
		return s, fmt.Sprintf("subnet %q has a mask", text), "write the number of its bits" + prefixLike(a, mask)
	}
	n, err := strconv.Atoi(bits)
	if err != nil || n < 0 || n > a.BitLen() || strconv.Itoa(n) != bits {
		return s, fmt.Sprintf("subnet %q has no valid number of bits", text), fmt.Sprintf("write 0 to %d after the slash, as in %s/%d", a.BitLen(), a, a.BitLen())
	}
	p := netip.PrefixFrom(a, n)
	if p.Masked() != p {
		return s, fmt.Sprintf("subnet %q has host bits set", text), fmt.Sprintf("write %q for the subnet, or %q for the one address", p.Masked(), a)
	}
	return filter.Subnet(p), "", ""
}

func netipOK(text string) bool {
	_, err := netip.ParseAddr(text)
	return err == nil
}

// prefixLike returns `, as in "10.1.0.0/16"` when mask is one of leading ones.
func prefixLike(a, mask netip.Addr) string {
	for bits := 0; bits <= 32; bits++ {
		if ones, err := netip.MustParseAddr("255.255.255.255").Prefix(bits); err == nil && ones.Addr() == mask {
			return fmt.Sprintf(", as in %q", netip.PrefixFrom(a, bits).Masked())
		}
	}
	return ", as in 10.1.0.0/16"
}

// parseRange returns the side of FIRST-LAST.
func parseRange(text string) (s filter.Side, problem, hint string) {
	lo, hi, _ := strings.Cut(text, "-")
	lo, hi = strings.TrimSpace(lo), strings.TrimSpace(hi)
	if !netipOK(lo) && strings.ContainsFunc(text, isLetter) && !strings.Contains(text, ":") {
		_, problem, hint = parseAddress(text) // a name with a hyphen
		return s, problem, hint
	}
	first, problem, hint := parseAddress(lo)
	if problem != "" {
		return s, problem, hint
	}
	last, problem, hint := parseAddress(hi)
	if problem != "" {
		if dot := strings.LastIndex(lo, "."); dot >= 0 && netipOK(lo[:dot+1]+hi) {
			hint = fmt.Sprintf("write both addresses in full, as in %q", lo+"-"+lo[:dot+1]+hi)
		}
		return s, problem, hint
	}
	switch {
	case first.BitLen() != last.BitLen():
		return s, fmt.Sprintf("range %q has ends of different families", text), "write two IPv4 addresses or two IPv6 addresses"
	case last.Less(first):
		return s, fmt.Sprintf("range %q runs backwards", text), fmt.Sprintf("write %q", last.String()+"-"+first.String())
	}
	return filter.Range(first, last), "", ""
}

// checkUnicast refuses addresses that IPsec, which protects what two hosts
// send to each other (RFC 4301), has no SA for, and that the firewall exempts.
func checkUnicast(s filter.Side, text string) (problem, hint string) {
	const unicast = "write unicast addresses, as multicast and broadcast are exempt from the policy"
	p, subnet := s.Prefix()
	switch {
	case s.First().IsMulticast() || s.Last().IsMulticast() && !subnet:
		return fmt.Sprintf("%q is multicast, and IPsec protects only what one host sends to another", text), unicast
	case s.Last() == netip.AddrFrom4([4]byte{255, 255, 255, 255}) && (!subnet || p.IsSingleIP()):
		return fmt.Sprintf("%q is broadcast, and IPsec protects only what one host sends to another", text), unicast
	case s.First() == s.Last() && s.First().IsUnspecified():
		return fmt.Sprintf("%q is the address of no host", text), "write any for every address"
	}
	return "", ""
}
