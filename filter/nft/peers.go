package nft

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/ipsecfw/ipsecfw/filter"
)

// Names of the sets that are no group's.
const (
	remoteLinks = "remote_links"
	broadcasts  = "broadcasts"
)

// The sets of peers, of IPv4 and of IPv6.
var (
	softSets     = [2]string{"soft4", "soft6"}
	responseSets = [2]string{"response4", "response6"}
)

// SoftPeer is a peer that does not speak IKE, to which filters that allow it
// talk in clear.
type SoftPeer struct {
	Addr    netip.Addr
	Expires time.Duration // from now
}

// peers returns the rules that do something with packets whose address, in the
// field of the family, is in a pair of sets.
func peers(sets [2]string, field4, field6 field, do statement) []rule {
	return []rule{
		{family(false), lookup{name: sets[0], keys: []key{{field4, 32}}}, do},
		{family(true), lookup{name: sets[1], keys: []key{{field6, 128}}}, do},
	}
}

// commonSets adds the sets that are no group's, as the rules have asked for
// them.
func (c *compiler) commonSets() {
	if c.asked[remoteLinks] {
		s := set{name: remoteLinks, keys: []key{{iiftype, 16}}}
		for _, l := range filter.RemoteLinks {
			s.elements = append(s.elements, element{key: binary.NativeEndian.AppendUint16(nil, l)})
		}
		c.table.sets = append(c.table.sets, s)
	}
	if c.asked[broadcasts] {
		s := peerSet(broadcasts, false)
		s.put(netip.AddrFrom4([4]byte{255, 255, 255, 255}), 0)
		for _, a := range c.cfg.Broadcasts {
			s.put(a, 0)
		}
		c.table.sets = append(c.table.sets, s)
	}
	for i, v6 := range []bool{false, true} {
		if c.asked[softSets[0]] {
			s := peerSet(softSets[i], v6)
			s.dynamic, s.timeouts = true, true
			for _, p := range c.cfg.Soft {
				if p.Expires > 0 {
					s.put(p.Addr, milliseconds(p.Expires))
				}
			}
			c.table.sets = append(c.table.sets, s)
		}
		if c.cfg.DefaultResponse {
			s := peerSet(responseSets[i], v6)
			s.dynamic = true
			for _, a := range c.cfg.Response {
				s.put(a, 0)
			}
			c.table.sets = append(c.table.sets, s)
		}
	}
}

// put adds an address of the set's family that is not there yet.
func (s *set) put(a netip.Addr, timeout uint64) {
	a = a.WithZone("").Unmap()
	e := element{a.AsSlice(), timeout}
	if familyOf(a.Is6()) == s.family && !slices.ContainsFunc(s.elements, func(x element) bool { return bytes.Equal(x.key, e.key) }) {
		s.elements = append(s.elements, e)
	}
}

// peerSet returns an empty set of addresses.
func peerSet(name string, v6 bool) set {
	field, bits := ip4Saddr, 32
	if v6 {
		field, bits = ip6Saddr, 128
	}
	return set{name: name, family: familyOf(v6), keys: []key{{field, bits}}}
}

func milliseconds(d time.Duration) uint64 { return uint64(max(d.Milliseconds(), 1)) }

// AddSoft lets the filters of rs that allow it talk in clear with a peer, for
// a time; if they do already, from now for that time. It is ErrStale when rs
// has no such filter, or is not in force in the network namespace of the
// calling thread.
func AddSoft(rs Ruleset, peer netip.Addr, timeout time.Duration) error {
	if timeout <= 0 {
		return RemoveSoft(rs, peer)
	}
	return rs.change(softSets, peer, milliseconds(timeout), true)
}

// RemoveSoft takes a peer back from AddSoft. It is no error that it is not
// there.
func RemoveSoft(rs Ruleset, peer netip.Addr) error { return rs.change(softSets, peer, 0, false) }

// AddResponse says that the default response rule has SAs with a peer: what no
// filter decides is secured on the way to it, and dropped when it comes from
// it in clear. It is no error that it was said before.
func AddResponse(rs Ruleset, peer netip.Addr) error { return rs.change(responseSets, peer, 0, true) }

// RemoveResponse takes a peer back from AddResponse. It is no error that it is
// not there.
func RemoveResponse(rs Ruleset, peer netip.Addr) error {
	return rs.change(responseSets, peer, 0, false)
}

// change puts an address into one of a pair of sets, or takes it out. An
// address that is there is first taken out, for a new timeout, and one that
// is not is first put in, because it could not be taken out.
func (rs Ruleset) change(sets [2]string, a netip.Addr, timeout uint64, in bool) error {
	a = a.WithZone("").Unmap()
	if !a.IsValid() {
		return fmt.Errorf("set %s: %s is no address", sets[0], a)
	}
	name := sets[0]
	if a.Is6() {
		name = sets[1]
	}
	for i := range rs.tables {
		x := &rs.tables[i]
		for j := range x.sets {
			if x.sets[j].name != name {
				continue
			}
			s := peerSet(name, a.Is6())
			s.elements = []element{{a.AsSlice(), timeout}}
			t := transaction{}
			t.haveElements(x.family, tableName, &s, all(&s))
			t.delElements(x.family, tableName, &s, all(&s))
			if in {
				t.newElements(x.family, tableName, &s, all(&s))
			}
			return stale(t.commit(), x)
		}
	}
	return fmt.Errorf("%w: it has no set %s", ErrStale, name)
}

// Soft returns the peers of AddSoft, with the time that each has left.
func Soft(rs Ruleset) ([]SoftPeer, error) {
	var out []SoftPeer
	err := rs.read(softSets, func(e *read) {
		if a, ok := netip.AddrFromSlice(e.key); ok {
			out = append(out, SoftPeer{a, e.expires})
		}
	})
	return out, err
}

// Response returns the peers of AddResponse.
func Response(rs Ruleset) ([]netip.Addr, error) {
	var out []netip.Addr
	err := rs.read(responseSets, func(e *read) {
		if a, ok := netip.AddrFromSlice(e.key); ok {
			out = append(out, a)
		}
	})
	return out, err
}

// read calls f with each element that a pair of sets of rs has in force.
func (rs Ruleset) read(sets [2]string, f func(*read)) error {
	for i := range rs.tables {
		x := &rs.tables[i]
		for j := range x.sets {
			if n := x.sets[j].name; n == sets[0] || n == sets[1] {
				if err := readSet(x, n, f); err != nil {
					return err
				}
			}
		}
	}
	return nil
}
