package ike

import (
	"fmt"
	"slices"
	"strings"

	"github.com/ipsecfw/ipsecfw/ipsec"
)

// Offer returns proposals as they go into an SA payload: numbered from 1,
// with our SPI, and with an ESN transform, which ESP and AH must have
// (RFC 7296 section 3.3.3), where the policy says nothing about it.
func Offer(ps []ipsec.Proposal, spi []byte) []ipsec.Proposal {
	out := make([]ipsec.Proposal, len(ps))
	for i, p := range ps {
		p.Number, p.SPI = uint8(i+1), spi
		if _, ok := p.First(ipsec.TypeESN); !ok && p.Protocol != ipsec.ProtoIKE {
			p.Transforms = append(slices.Clip(p.Transforms), ipsec.Transform{Type: ipsec.TypeESN, ID: ipsec.ESNNo})
		}
		out[i] = p
	}
	return out
}

// WithoutGroups returns proposals without their key exchanges, the additional
// ones included, and each of them once: a Child SA that comes with IKE_AUTH has
// the IKE SA's key exchanges (RFC 7296 section 1.2).
func WithoutGroups(ps []ipsec.Proposal) []ipsec.Proposal {
	var out []ipsec.Proposal
	for _, p := range ps {
		p = keep(p, func(t ipsec.Transform) bool { return !keyExchange(t.Type) })
		if !slices.ContainsFunc(out, func(q ipsec.Proposal) bool { return sameTransforms(p, q) }) {
			out = append(out, p)
		}
	}
	return out
}

// WithExchange returns proposals for Child SAs of which those that name no key
// exchange have these groups. Vendors differ in whether they insist on a key
// exchange for each Child SA, which shows only when the first keys are
// replaced: who has no wish of its own follows the peer's.
func WithExchange(ps []ipsec.Proposal, groups ...ipsec.Transform) []ipsec.Proposal {
	out := slices.Clone(ps)
	for i, p := range out {
		if slices.ContainsFunc(p.Transforms, func(t ipsec.Transform) bool { return keyExchange(t.Type) }) {
			continue
		}
		out[i].Transforms = slices.Concat(p.Transforms, groups)
	}
	return out
}

// AnyExchange returns NONE, and the key exchange groups that no rule has to
// allow, in order of preference: the common ones that cost little, and own, the
// group of the IKE SA.
func AnyExchange(own ipsec.Transform) []ipsec.Transform {
	out := listOf(ipsec.TypeGroup, ipsec.GroupNone, ipsec.GroupX25519, ipsec.GroupP256, ipsec.GroupP384, ipsec.GroupMODP2048)
	if !slices.Contains(out, own) {
		out = append(out, own)
	}
	return out
}

// Costly reports whether a key exchange with a group takes milliseconds, so
// that peers must not have as many of them as they like.
func Costly(group uint16) bool {
	switch group {
	case ipsec.GroupMODP3072, ipsec.GroupMODP4096, ipsec.GroupMODP6144, ipsec.GroupMODP8192,
		ipsec.GroupBrainpoolP256, ipsec.GroupBrainpoolP384, ipsec.GroupBrainpoolP512:
		return true
	}
	return false
}

// Weak returns the weak transforms of a proposal.
func Weak(p ipsec.Proposal) []ipsec.Transform {
	return keep(p, func(t ipsec.Transform) bool { _, weak := t.Weak(); return weak }).Transforms
}

// WithoutAdditional returns what is left of the proposals that an IKE SA may
// have with a peer that knows no IKE_INTERMEDIATE (RFC 9370 section 2.2.1):
// those without additional key exchanges, or that may leave them all out. It
// never makes one of them optional: a policy that insists on it is left with
// nothing.
func WithoutAdditional(ps []ipsec.Proposal) []ipsec.Proposal {
	var out []ipsec.Proposal
	for _, p := range ps {
		if slices.ContainsFunc(p.Transforms, func(t ipsec.Transform) bool {
			return t.Type.Additional() && !slices.Contains(p.Transforms, ipsec.Transform{Type: t.Type})
		}) {
			continue
		}
		out = append(out, keep(p, func(t ipsec.Transform) bool { return !t.Type.Additional() }))
	}
	return out
}

// keyExchange reports whether a type is that of the initial or of an
// additional key exchange.
func keyExchange(t ipsec.TransformType) bool { return t == ipsec.TypeGroup || t.Additional() }

// keep returns a proposal with some of its transforms.
func keep(p ipsec.Proposal, wanted func(ipsec.Transform) bool) ipsec.Proposal {
	p.Transforms = slices.DeleteFunc(slices.Clone(p.Transforms), func(t ipsec.Transform) bool { return !wanted(t) })
	return p
}

// SelectProposal makes the responder's choice (RFC 7296 section 3.3.6): the
// first of the wanted proposals that agrees with an offered one, and of its
// transforms, the first of each type, but no key exchange twice (RFC 9370
// section 2.2.1). The result has the number and the SPI of the offered proposal
// and one transform of each type that the peer named. A proposal that names no
// group, or no additional key exchange of a type, is one for NONE there, at
// either end: whoever wants a key exchange for each Child SA does not get along
// with whoever wants none, and whoever takes both says so.
//
// The group is that of the KE payload, or 0 if there was none: where it is
// acceptable it is chosen, which spares INVALID_KE_PAYLOAD and another round.
// That round is not spared where it is the price of a post-quantum key exchange,
// of a proposal that we want more, or of an algorithm that is not weak: whoever
// can forge an INVALID_KE_PAYLOAD chooses the group of the KE payload.
func SelectProposal(wanted, offered []ipsec.Proposal, group uint16) (chosen ipsec.Proposal, ok bool) {
	first, chosen := firstAgreed(wanted, offered)
	if first < 0 || group == ipsec.GroupNone {
		return chosen, first >= 0
	}
	var only []ipsec.Proposal
	for _, o := range offered {
		o = keep(o, func(t ipsec.Transform) bool { return t.Type != ipsec.TypeGroup || t.ID == group })
		if _, ok := o.First(ipsec.TypeGroup); ok {
			only = append(only, o)
		}
	}
	if at, spared := firstAgreed(wanted, only); at == first && asGood(spared, chosen) {
		return spared, true
	}
	return chosen, true
}

// asGood reports whether a proposal has nothing weak that another has not, and
// all the post-quantum protection that it has.
func asGood(p, than ipsec.Proposal) bool {
	weaker := slices.ContainsFunc(Weak(p), func(t ipsec.Transform) bool { return !slices.Contains(than.Transforms, t) })
	return !weaker && (postQuantum(p) || !postQuantum(than))
}

func postQuantum(p ipsec.Proposal) bool {
	return slices.ContainsFunc(p.Transforms, ipsec.Transform.PostQuantum)
}

// firstAgreed returns the first of the wanted proposals that agrees with an
// offered one, by its index, or -1, and what is chosen of the two.
func firstAgreed(wanted, offered []ipsec.Proposal) (int, ipsec.Proposal) {
	for i, w := range wanted {
		for _, o := range offered {
			if chosen, ok := agree(w, o); ok {
				return i, chosen
			}
		}
	}
	return -1, ipsec.Proposal{}
}

// agree chooses encryption first, because what integrity may be depends on it.
// AH has none.
func agree(w, o ipsec.Proposal) (ipsec.Proposal, bool) {
	if w.Protocol != o.Protocol || slices.ContainsFunc(o.Transforms, strange) {
		return ipsec.Proposal{}, false
	}
	if _, encrypts := o.First(ipsec.TypeEncr); w.Protocol == ipsec.ProtoAH {
		chosen := ipsec.Proposal{Number: o.Number, Protocol: o.Protocol, SPI: o.SPI}
		ok := !encrypts && agreeOnRest(&chosen, false, w, o)
		return chosen, ok
	}
	for _, encr := range w.Of(ipsec.TypeEncr) {
		if !slices.Contains(o.Transforms, encr) {
			continue
		}
		chosen := ipsec.Proposal{Number: o.Number, Protocol: o.Protocol, SPI: o.SPI, Transforms: []ipsec.Transform{encr}}
		if agreeOnRest(&chosen, encr.AEAD(), w, o) {
			return chosen, true
		}
	}
	return ipsec.Proposal{}, false
}

func agreeOnRest(chosen *ipsec.Proposal, aead bool, w, o ipsec.Proposal) bool {
	var exchanges [][]ipsec.Transform // what may be chosen for each of the key exchanges
	for t := ipsec.TypePRF; t <= ipsec.TypeADDKE7; t++ {
		common := inCommon(t, aead, w, o)
		if required(t, w.Protocol, aead) {
			common = slices.DeleteFunc(common, func(x ipsec.Transform) bool { return x.ID == 0 })
		}
		if len(common) == 0 {
			return false
		}
		if keyExchange(t) {
			exchanges = append(exchanges, common)
			continue
		}
		choose(chosen, common[0], o)
	}
	exchange, ok := distinct(exchanges)
	for _, x := range exchange {
		choose(chosen, x, o)
	}
	slices.SortFunc(chosen.Transforms, func(a, b ipsec.Transform) int { return int(a.Type) - int(b.Type) })
	return ok
}

// choose adds a transform to an answer, in which only a type that the peer
// named may stand.
func choose(chosen *ipsec.Proposal, x ipsec.Transform, o ipsec.Proposal) {
	if _, said := o.First(x.Type); said {
		chosen.Transforms = append(chosen.Transforms, x)
	}
}

// inCommon returns the transforms of a type that both ends take, in our order.
func inCommon(t ipsec.TransformType, aead bool, w, o ipsec.Proposal) []ipsec.Transform {
	none := []ipsec.Transform{{Type: t}} // ESNNo, too, has the number 0
	ours, theirs := w.Of(t), o.Of(t)
	if len(ours) == 0 || t == ipsec.TypeInteg && aead {
		ours = none
	}
	if len(theirs) == 0 {
		theirs = none
	}
	return slices.DeleteFunc(slices.Clone(ours), func(x ipsec.Transform) bool { return !slices.Contains(theirs, x) })
}

// required reports whether a proposal without the type would leave an SA
// without protection (RFC 7296 section 3.3.3).
func required(t ipsec.TransformType, p ipsec.ProtocolID, aead bool) bool {
	switch t {
	case ipsec.TypePRF, ipsec.TypeGroup:
		return p == ipsec.ProtoIKE
	case ipsec.TypeInteg:
		return !aead
	}
	return false
}

// strange holds for a transform of a type that we do not know, for which a
// whole proposal must be refused (RFC 7296 section 3.3.6).
func strange(t ipsec.Transform) bool { return t.Type < ipsec.TypeEncr || t.Type > ipsec.TypeADDKE7 }

// CheckChoice verifies the responder's answer to an offer: it must be one of
// the proposals, with one of its transforms for each type (RFC 7296
// section 2.7) and no key exchange twice (RFC 9370 section 2.2.1). The error
// wraps ErrNoProposal.
func CheckChoice(offered []ipsec.Proposal, answer []ipsec.Proposal) (chosen ipsec.Proposal, err error) {
	if len(answer) != 1 {
		return chosen, fmt.Errorf("%w: the peer answered with %d proposals, not 1", ErrNoProposal, len(answer))
	}
	chosen = answer[0]
	i := slices.IndexFunc(offered, func(o ipsec.Proposal) bool {
		return o.Number == chosen.Number && o.Protocol == chosen.Protocol
	})
	if i < 0 {
		return chosen, fmt.Errorf("%w: the peer chose the proposal %d for %s, which was not offered", ErrNoProposal, chosen.Number, chosen.Protocol)
	}
	encr, _ := chosen.First(ipsec.TypeEncr)
	for t := ipsec.TypeEncr; t <= ipsec.TypeADDKE7; t++ {
		ours, theirs := offered[i].Of(t), chosen.Of(t)
		switch {
		case len(theirs) == 0 && (len(ours) == 0 || slices.Contains(ours, ipsec.Transform{Type: t})):
		case len(theirs) == 0 && t == ipsec.TypeInteg && encr.AEAD():
		case len(theirs) == 1 && slices.Contains(ours, theirs[0]):
		default:
			return chosen, fmt.Errorf("%w: the peer chose %s, which is not within the offered %s", ErrNoProposal, chosen, offered[i])
		}
	}
	if slices.ContainsFunc(chosen.Transforms, strange) {
		return chosen, fmt.Errorf("%w: the peer chose %s, which is not within the offered %s", ErrNoProposal, chosen, offered[i])
	}
	if twice, ok := repeated(chosen); ok {
		return chosen, fmt.Errorf("%w: the peer chose %s, which has the key exchange %s twice", ErrNoProposal, chosen, twice)
	}
	return chosen, nil
}

// Proposals writes proposals for an error message.
func Proposals(ps []ipsec.Proposal) string {
	var names []string
	for _, p := range ps {
		names = append(names, p.String())
	}
	return strings.Join(names, ", ")
}
