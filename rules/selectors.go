package rules

import (
	"net/netip"

	"github.com/ipsecfw/ipsecfw/filter"
	"github.com/ipsecfw/ipsecfw/ipsec"
)

// TrafficSelectors returns what IKE negotiates for packets of a direction
// that match a filter, or with mirror its mirrored half: the selectors of our
// side and of the peer's (RFC 7296 section 2.9). "me" is the addresses that
// the caller gives; it gives only those of one family to negotiate only that.
// Both are nil when no packet of that direction matches.
func TrafficSelectors(s filter.Selector, d filter.Direction, mirror bool, me []netip.Addr) (local, remote []ipsec.TrafficSelector) {
	l, r := s.Ends(d, mirror)
	if r.Side.Kind() == filter.SideMe {
		return nil, nil
	}
	local, remote = selectorsOf(s, l, me), selectorsOf(s, r, nil)
	local, remote = ofFamilies(local, remote), ofFamilies(remote, local)
	if len(local) == 0 || len(remote) == 0 {
		return nil, nil
	}
	return local, remote
}

// selectorsOf returns the selectors of one end.
func selectorsOf(s filter.Selector, end filter.End, me []netip.Addr) []ipsec.TrafficSelector {
	t := ipsec.TrafficSelector{StartPort: end.Ports.Lo, EndPort: end.Ports.Hi}
	if end.Ports.Any() {
		t.StartPort, t.EndPort = 0, 65535
	}
	if s.HasProtocol {
		t.Protocol = s.Protocol
	}
	switch end.Side.Kind() {
	case filter.SideMe:
		var out []ipsec.TrafficSelector
		for _, a := range me {
			t.Start, t.End = a, a
			out = append(out, t)
		}
		return out
	case filter.SideAddresses:
		t.Start, t.End = end.Side.First(), end.Side.Last()
		return []ipsec.TrafficSelector{t}
	}
	var out []ipsec.TrafficSelector
	for _, all := range []string{"0.0.0.0/0", "::/0"} {
		out = append(out, ipsec.SelectPrefix(netip.MustParsePrefix(all), t.Protocol, t.StartPort, t.EndPort))
	}
	return out
}

// ofFamilies returns the selectors of families that others have too.
func ofFamilies(ts, others []ipsec.TrafficSelector) []ipsec.TrafficSelector {
	var out []ipsec.TrafficSelector
	for _, t := range ts {
		for _, o := range others {
			if t.Start.BitLen() == o.Start.BitLen() {
				out = append(out, t)
				break
			}
		}
	}
	return out
}
