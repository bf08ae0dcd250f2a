package nfq

import "github.com/ipsecfw/ipsecfw/filter/packet"

// pair finds the SA that a rule has for the packet in b, and if that is nested the SA of
// AH around it. There is none while one of them is missing.
func (d *SAD) pair(rule string, p *packet.Packet, b []byte) (sa, over *SA) {
	sa = d.Outbound(rule, p, b)
	if sa == nil || !sa.Nested {
		return sa, nil
	}
	if over = d.around(sa); over == nil {
		return nil, nil
	}
	return sa, over
}

// around finds the SA of AH that goes around a nested one of ESP: of the same
// rule, for protocol 50 between the two hosts.
func (d *SAD) around(sa *SA) *SA {
	remote := sa.RemoteAddr.Addr()
	p := packet.Packet{Src: sa.LocalAddr.Addr(), Dst: remote, Protocol: protocolESP}
	for _, x := range d.cur.Load().outbound[outKey{sa.Policy, remote}] {
		if x.Out.Protocol() == protocolAH && x.covers(&p) {
			return x
		}
	}
	return nil
}
