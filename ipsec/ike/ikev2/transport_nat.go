package ikev2

import (
	"fmt"
	"net/netip"
	"slices"

	"github.com/ipsecfw/ipsecfw/ipsec"
	"github.com/ipsecfw/ipsecfw/ipsec/ike"
	"github.com/ipsecfw/ipsecfw/ipsec/ike/wire"
)

// Transport mode through a NAT (RFC 7296 section 2.23.1). The peer writes
// traffic selectors with the addresses of both hosts as it knows them. Those of
// a host behind a NAT mean nothing here, and what its packets bear when they
// arrive stands in their place: by these the SPD decides, and they are answered.
// The others are kept, for the checksums.

// natted reports whether there is a NAT that transport mode has to reckon with.
func (s *SA) natted() bool { return s.udp && (s.peer.NATLocal || s.peer.NATRemote) }

// substitute replaces the addresses in a peer's selectors for transport mode.
// It returns those that stood there, of the two ends. Without a NAT nothing
// changes. The selectors of one side must be of one address, and both hosts
// where the IKE SA began, as its rules were chosen by that.
func (s *SA) substitute(local, remote []ipsec.TrafficSelector) (l, r []ipsec.TrafficSelector, original ike.Ends, err error) {
	if !s.natted() {
		return local, remote, original, nil
	}
	if now := (ike.Ends{Local: s.local.Addr(), Remote: s.remote.Addr()}); now != s.ends {
		return nil, nil, original, fmt.Errorf("%w: transport mode through a NAT is between %s and %s, and the IKE SA has moved to %s and %s",
			ike.ErrSelectors, s.ends.Local, s.ends.Remote, now.Local, now.Remote)
	}
	if l, original.Local, err = readdress(local, s.ends.Local, s.peer.NATLocal); err != nil {
		return nil, nil, original, err
	}
	if r, original.Remote, err = readdress(remote, s.ends.Remote, s.peer.NATRemote); err != nil {
		return nil, nil, original, err
	}
	return l, r, original, nil
}

// readdress returns selectors with another address in the place of the one that
// all of them must have, and that one. The address stays if there is no NAT.
func readdress(ts []ipsec.TrafficSelector, by netip.Addr, nat bool) (out []ipsec.TrafficSelector, was netip.Addr, err error) {
	if len(ts) == 0 {
		return nil, was, fmt.Errorf("%w: there are none", ike.ErrSelectors)
	}
	was = ts[0].Start
	for _, t := range ts {
		if t.Start != was || t.End != was || was.BitLen() != by.BitLen() {
			return nil, was, fmt.Errorf("%w: %v: in transport mode through a NAT each side has exactly one address, of the family of %s",
				ike.ErrSelectors, ts, by)
		}
	}
	if !nat {
		return ts, was, nil
	}
	out = slices.Clone(ts)
	for i := range out {
		out[i].Start, out[i].End = by, by
	}
	return out, was, nil
}

// noTransport says why a peer's request for transport mode is refused.
func (s *SA) noTransport(o childOffer, err error) error {
	step := wire.CreateChildSA
	if o.first {
		step = wire.IKEAuth
	}
	return &ike.NegotiationError{
		Step: step.String(), Peer: s.remote.String(), Identity: s.peer.RemoteID, Err: err, Cause: ike.CauseSelectors,
		Theirs: ike.Terms{Local: o.local, Remote: o.remote, Mode: o.mode()},
		Hint:   "through a NAT, transport mode is between the two hosts alone: ask for their own addresses, or make both ends use tunnel mode",
	}
}
