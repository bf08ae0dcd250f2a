package ikev2

import (
	"encoding/binary"
	"math"
	"time"

	"github.com/ipsecfw/ipsecfw/ipsec/ike"
	"github.com/ipsecfw/ipsecfw/ipsec/ike/wire"
)

// defaultFragment is the largest IP datagram in bytes, as no path of IPv6 cuts
// it (RFC 7383 section 2.5.1).
const defaultFragment = 1280

// fragmentSize returns the policy's, or 0 if messages are to stay whole.
func (s *SA) fragmentSize() int {
	switch n := s.cfg.Policy.FragmentSize; {
	case n < 0:
		return 0
	case n > 0:
		return n
	}
	return defaultFragment
}

// extensions returns what IKE_SA_INIT says that we can do besides RFC 7296. A
// responder, who has the initiator's message, says only what that has in it
// too, except for CHILDLESS_IKEV2_SUPPORTED, which only a responder says.
func (s *SA) extensions(initiator bool, theirs []wire.Payload) (out []wire.Payload) {
	add := func(kind wire.NotifyType, data []byte, can bool) {
		_, said := wire.FindNotify(theirs, kind)
		if can && (initiator || said) {
			out = append(out, &wire.Notify{Kind: kind, Data: data})
		}
	}
	add(wire.FragmentationSupported, nil, s.fragmentSize() > 0)
	add(wire.SignatureHashAlgorithms, ike.OurHashes(), true)
	add(wire.IntermediateSupported, nil, true)
	add(wire.UsePPK, nil, len(s.cfg.Policy.PPKs) > 0)
	if !initiator {
		out = append(out, &wire.Notify{Kind: wire.ChildlessIKESupported})
	}
	return out
}

// noteExtensions remembers what the peer's IKE_SA_INIT says that it can do.
func (s *SA) noteExtensions(ps []wire.Payload, ses *session) {
	said := func(kind wire.NotifyType) bool {
		_, ok := wire.FindNotify(ps, kind)
		return ok
	}
	if n, ok := wire.FindNotify(ps, wire.SignatureHashAlgorithms); ok {
		s.start.hashes = ike.ParseHashes(n.Data)
	}
	if said(wire.FragmentationSupported) {
		ses.fragmentSize = s.fragmentSize()
	}
	s.peer.Childless = said(wire.ChildlessIKESupported)
	s.start.requests.Note(ps)
}

// lifetimeNotify tells the initiator after how many seconds it has to
// authenticate anew (RFC 4478), if it ever has.
func (s *SA) lifetimeNotify() []wire.Payload {
	d, ok := s.authLifetime()
	if !ok {
		return nil
	}
	seconds := min(uint64(d/time.Second), math.MaxUint32)
	return []wire.Payload{&wire.Notify{Kind: wire.AuthLifetime, Data: binary.BigEndian.AppendUint32(nil, uint32(seconds))}}
}

// defaultWindow is how many requests a peer may have under way at a time, if
// the policy does not say.
const defaultWindow = 8

// windowNotify tells the peer how many requests we take at a time, if it is
// not the one that it assumes (RFC 7296 section 2.3).
func (s *SA) windowNotify() []wire.Payload {
	n := s.cfg.Policy.Window
	switch {
	case n <= 0:
		n = defaultWindow
	case n == 1:
		return nil
	}
	return []wire.Payload{&wire.Notify{Kind: wire.SetWindowSize, Data: binary.BigEndian.AppendUint32(nil, uint32(min(n, maxWindow)))}}
}
