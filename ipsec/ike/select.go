package ike

import (
	"fmt"
	"slices"
	"strings"

	"github.com/ipsecfw/ipsecfw/ipsec"
)

// groups are those of package xform, in order of preference.
var groups = []ipsec.Transform{
	{Type: ipsec.TypeGroup, ID: ipsec.GroupX25519},
	{Type: ipsec.TypeGroup, ID: ipsec.GroupP256},
	{Type: ipsec.TypeGroup, ID: ipsec.GroupP384},
	{Type: ipsec.TypeGroup, ID: ipsec.GroupMODP2048},
}

// DefaultProposals returns what is offered and accepted for an IKE SA when
// the policy names nothing (RFC 8247): AEADs first, and AES-CBC with SHA-2
// for peers that have no AEAD.
func DefaultProposals() []ipsec.Proposal {
	prfs := []ipsec.Transform{
		{Type: ipsec.TypePRF, ID: ipsec.PRFHMACSHA256},
		{Type: ipsec.TypePRF, ID: ipsec.PRFHMACSHA384},
		{Type: ipsec.TypePRF, ID: ipsec.PRFHMACSHA512},
	}
	return []ipsec.Proposal{
		{Number: 1, Protocol: ipsec.ProtoIKE, Transforms: slices.Concat([]ipsec.Transform{
			{Type: ipsec.TypeEncr, ID: ipsec.EncrAESGCM16, KeyBits: 256},
			{Type: ipsec.TypeEncr, ID: ipsec.EncrAESGCM16, KeyBits: 128},
			{Type: ipsec.TypeEncr, ID: ipsec.EncrChaCha20Poly1305},
		}, prfs, groups)},
		{Number: 2, Protocol: ipsec.ProtoIKE, Transforms: slices.Concat([]ipsec.Transform{
			{Type: ipsec.TypeEncr, ID: ipsec.EncrAESCBC, KeyBits: 256},
			{Type: ipsec.TypeEncr, ID: ipsec.EncrAESCBC, KeyBits: 128},
			{Type: ipsec.TypeInteg, ID: ipsec.IntegHMACSHA256},
			{Type: ipsec.TypeInteg, ID: ipsec.IntegHMACSHA384},
			{Type: ipsec.TypeInteg, ID: ipsec.IntegHMACSHA512},
		}, prfs, groups)},
	}
}

// Offer returns proposals as they go into an SA payload: numbered from 1,
// with our SPI, and with an ESN transform, which ESP must have
// (RFC 7296 section 3.3.3), where the policy says nothing about it.
func Offer(ps []ipsec.Proposal, spi []byte) []ipsec.Proposal {
	out := make([]ipsec.Proposal, len(ps))
	for i, p := range ps {
		p.Number, p.SPI = uint8(i+1), spi
		if _, ok := p.First(ipsec.TypeESN); !ok && p.Protocol == ipsec.ProtoESP {
			p.Transforms = append(slices.Clip(p.Transforms), ipsec.Transform{Type: ipsec.TypeESN, ID: ipsec.ESNNo})
		}
		out[i] = p
	}
	return out
}

// WithoutGroups returns proposals without their key exchange groups: a Child
// SA that comes with IKE_AUTH has the IKE SA's key exchange
// (RFC 7296 section 1.2).
func WithoutGroups(ps []ipsec.Proposal) []ipsec.Proposal {
	out := make([]ipsec.Proposal, len(ps))
	for i, p := range ps {
		out[i] = keep(p, func(t ipsec.Transform) bool { return t.Type != ipsec.TypeGroup })
	}
	return out
}

// keep returns a proposal with some of its transforms.
func keep(p ipsec.Proposal, wanted func(ipsec.Transform) bool) ipsec.Proposal {
	p.Transforms = slices.DeleteFunc(slices.Clone(p.Transforms), func(t ipsec.Transform) bool { return !wanted(t) })
	return p
}

// SelectProposal makes the responder's choice (RFC 7296 section 3.3.6): the
// first of the wanted proposals that agrees with an offered one, and of its
// transforms, the first of each type. The result has the number and the SPI
// of the offered proposal and one transform of each type. A proposal for ESP
// that names no group is one for the group NONE, at either end: whoever wants
// a key exchange for each Child SA does not get along with whoever wants none,
// and whoever takes both says so.
//
// The group is that of the KE payload, or 0 if there was none: where it is
// acceptable it is chosen, which spares INVALID_KE_PAYLOAD and another round.
func SelectProposal(wanted, offered []ipsec.Proposal, group uint16) (chosen ipsec.Proposal, ok bool) {
	if group != ipsec.GroupNone {
		only := make([]ipsec.Proposal, len(offered))
		for i, o := range offered {
			only[i] = keep(o, func(t ipsec.Transform) bool { return t.Type != ipsec.TypeGroup || t.ID == group })
		}
		only = slices.DeleteFunc(only, func(o ipsec.Proposal) bool {
			_, ok := o.First(ipsec.TypeGroup)
			return !ok
		})
		if chosen, ok := SelectProposal(wanted, only, ipsec.GroupNone); ok {
			return chosen, true
		}
	}
	for _, w := range wanted {
		for _, o := range offered {
			if chosen, ok := agree(w, o); ok {
				return chosen, true
			}
		}
	}
	return ipsec.Proposal{}, false
}

// agree chooses encryption first, because what integrity may be depends on it.
func agree(w, o ipsec.Proposal) (ipsec.Proposal, bool) {
	if w.Protocol != o.Protocol || slices.ContainsFunc(o.Transforms, strange) {
		return ipsec.Proposal{}, false
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
	for _, t := range []ipsec.TransformType{ipsec.TypePRF, ipsec.TypeInteg, ipsec.TypeGroup, ipsec.TypeESN} {
		ours, theirs := w.Of(t), o.Of(t)
		said := len(theirs) > 0 // only a type that the peer named may stand in the answer
		none := []ipsec.Transform{{Type: t}}
		if t == ipsec.TypeInteg && aead {
			ours = none
		}
		if len(ours) == 0 {
			ours = none // ESNNo, too, has the number 0
		}
		if len(theirs) == 0 {
			theirs = none
		}
		i := slices.IndexFunc(ours, func(x ipsec.Transform) bool { return slices.Contains(theirs, x) })
		if i < 0 {
			return false
		}
		if ours[i].ID == 0 && (required(t, w.Protocol, aead)) {
			return false
		}
		if said {
			chosen.Transforms = append(chosen.Transforms, ours[i])
		}
	}
	return true
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
func strange(t ipsec.Transform) bool { return t.Type < ipsec.TypeEncr || t.Type > ipsec.TypeESN }

// CheckChoice verifies the responder's answer to an offer: it must be one of
// the proposals, with one of its transforms for each type
// (RFC 7296 section 2.7). The error wraps ErrNoProposal.
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
	for t := ipsec.TypeEncr; t <= ipsec.TypeESN; t++ {
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
