package ike

import (
	"slices"

	"github.com/ipsecfw/ipsecfw/ipsec"
)

// suite is a named choice of algorithms.
type suite struct {
	name     string
	ike, esp func() [][]ipsec.Transform // one list for each proposal
}

// suites are in order of preference. None has a weak transform. ESP proposals
// have no key exchange of their own: their keys come from that of the IKE SA,
// as most peers have it.
var suites = []suite{
	{"default", defaultIKE, defaultESP},
	{"cnsa2", cnsa2IKE, cnsa2ESP},
	{"interop", interopIKE, interopESP},
}

// SuiteNames returns the names of the suites: default, cnsa2 and interop.
func SuiteNames() []string {
	names := make([]string, len(suites))
	for i, s := range suites {
		names[i] = s.name
	}
	return names
}

// Suite returns the proposals of a named suite, in order of preference; ok is
// false for a name that is none. The slices are the caller's.
//
//   - default is for peers of our kind: X25519 with ML-KEM-768 after it where
//     the peer has RFC 9370, and without it where not.
//   - cnsa2 is the Commercial National Security Algorithm Suite 2.0 (as
//     draft-guthrie-cnsa2-ipsec-profile has it) with P-384 before ML-KEM-1024:
//     AES-256-GCM and SHA-384 or SHA-512, and nothing else.
//   - interop is for other vendors' peers of the last ten years, and has nothing
//     that one of them might stumble over.
func Suite(name string) (ike, esp []ipsec.Proposal, ok bool) {
	i := slices.IndexFunc(suites, func(s suite) bool { return s.name == name })
	if i < 0 {
		return nil, nil, false
	}
	return suiteProposals(ipsec.ProtoIKE, suites[i].ike()), suiteProposals(ipsec.ProtoESP, suites[i].esp()), true
}

// suiteOf returns the name of the suite that proposals for IKE or ESP are, in
// whatever order, or an empty one.
func suiteOf(ps []ipsec.Proposal) string {
	i := slices.IndexFunc(suites, func(s suite) bool {
		ike, esp, _ := Suite(s.name)
		return sameSet(ps, ike) || sameSet(WithoutGroups(ps), WithoutGroups(esp))
	})
	if i < 0 {
		return ""
	}
	return suites[i].name
}

// sameSet reports whether two lists hold the same proposals.
func sameSet(a, b []ipsec.Proposal) bool {
	return len(a) == len(b) && !slices.ContainsFunc(a, func(p ipsec.Proposal) bool {
		return !slices.ContainsFunc(b, func(q ipsec.Proposal) bool {
			return p.Protocol == q.Protocol && len(p.Transforms) == len(q.Transforms) &&
				!slices.ContainsFunc(p.Transforms, func(t ipsec.Transform) bool { return !slices.Contains(q.Transforms, t) })
		})
	})
}

// DefaultProposals returns what is offered and accepted for an IKE SA when
// the policy names nothing: those of the suite "default" (RFC 8247).
func DefaultProposals() []ipsec.Proposal {
	return suiteProposals(ipsec.ProtoIKE, defaultIKE())
}

func suiteProposals(p ipsec.ProtocolID, lists [][]ipsec.Transform) []ipsec.Proposal {
	out := make([]ipsec.Proposal, len(lists))
	for i, ts := range lists {
		out[i] = ipsec.Proposal{Number: uint8(i + 1), Protocol: p, Transforms: ts}
	}
	return out
}

// listOf returns transforms of one type that have no Key Length attribute.
func listOf(t ipsec.TransformType, ids ...uint16) []ipsec.Transform {
	out := make([]ipsec.Transform, len(ids))
	for i, id := range ids {
		out[i] = ipsec.Transform{Type: t, ID: id}
	}
	return out
}

// aesOf returns the transforms of one mode of AES, with the longest key first.
func aesOf(id uint16) []ipsec.Transform {
	return []ipsec.Transform{
		{Type: ipsec.TypeEncr, ID: id, KeyBits: 256},
		{Type: ipsec.TypeEncr, ID: id, KeyBits: 128},
	}
}

// aeadList are the ciphers that bring their own integrity.
func aeadList() []ipsec.Transform {
	return append(aesOf(ipsec.EncrAESGCM16), listOf(ipsec.TypeEncr, ipsec.EncrChaCha20Poly1305)...)
}

// cbcList is AES-CBC with its integrity, for peers that have no AEAD.
func cbcList() []ipsec.Transform {
	return slices.Concat(aesOf(ipsec.EncrAESCBC),
		listOf(ipsec.TypeInteg, ipsec.IntegHMACSHA256, ipsec.IntegHMACSHA384, ipsec.IntegHMACSHA512))
}

func prfList() []ipsec.Transform {
	return listOf(ipsec.TypePRF, ipsec.PRFHMACSHA256, ipsec.PRFHMACSHA384, ipsec.PRFHMACSHA512)
}

func esnList() []ipsec.Transform { return listOf(ipsec.TypeESN, ipsec.ESNYes, ipsec.ESNNo) }

// defaultIKE has each proposal with the post-quantum key exchange and, because
// who does not know that type of transform must refuse a proposal with it
// whole (RFC 7296 section 3.3.6), without.
func defaultIKE() [][]ipsec.Transform {
	groups := listOf(ipsec.TypeGroup, ipsec.GroupX25519, ipsec.GroupP256, ipsec.GroupP384, ipsec.GroupMODP2048)
	after := listOf(ipsec.TypeADDKE1, ipsec.GroupMLKEM768)
	return [][]ipsec.Transform{
		slices.Concat(aeadList(), prfList(), groups, after),
		slices.Concat(cbcList(), prfList(), groups, after),
		slices.Concat(aeadList(), prfList(), groups),
		slices.Concat(cbcList(), prfList(), groups),
	}
}

func defaultESP() [][]ipsec.Transform {
	return [][]ipsec.Transform{slices.Concat(aeadList(), esnList()), slices.Concat(cbcList(), esnList())}
}

func cnsa2IKE() [][]ipsec.Transform {
	return [][]ipsec.Transform{slices.Concat(
		[]ipsec.Transform{{Type: ipsec.TypeEncr, ID: ipsec.EncrAESGCM16, KeyBits: 256}},
		listOf(ipsec.TypePRF, ipsec.PRFHMACSHA384, ipsec.PRFHMACSHA512),
		listOf(ipsec.TypeGroup, ipsec.GroupP384),
		listOf(ipsec.TypeADDKE1, ipsec.GroupMLKEM1024),
	)}
}

func cnsa2ESP() [][]ipsec.Transform {
	return [][]ipsec.Transform{slices.Concat(
		[]ipsec.Transform{{Type: ipsec.TypeEncr, ID: ipsec.EncrAESGCM16, KeyBits: 256}}, esnList(),
	)}
}

func interopIKE() [][]ipsec.Transform {
	groups := listOf(ipsec.TypeGroup, ipsec.GroupP256, ipsec.GroupP384, ipsec.GroupX25519, ipsec.GroupP521,
		ipsec.GroupMODP2048, ipsec.GroupMODP3072, ipsec.GroupMODP4096)
	return [][]ipsec.Transform{
		slices.Concat(aesOf(ipsec.EncrAESGCM16), prfList(), groups),
		slices.Concat(cbcList(), prfList(), groups),
	}
}

func interopESP() [][]ipsec.Transform {
	return [][]ipsec.Transform{
		slices.Concat(aesOf(ipsec.EncrAESGCM16), esnList()),
		slices.Concat(cbcList(), esnList()),
	}
}
