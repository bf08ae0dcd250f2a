package rules

import (
	"fmt"
	"slices"
	"strings"

	"github.com/ipsecfw/ipsecfw/ipsec"
)

// The transforms that a file may name, in order of preference.
var (
	aeadCiphers = []ipsec.Transform{
		{Type: ipsec.TypeEncr, ID: ipsec.EncrAESGCM16, KeyBits: 256},
		{Type: ipsec.TypeEncr, ID: ipsec.EncrAESGCM16, KeyBits: 128},
		{Type: ipsec.TypeEncr, ID: ipsec.EncrChaCha20Poly1305},
	}
	cbcCiphers = []ipsec.Transform{
		{Type: ipsec.TypeEncr, ID: ipsec.EncrAESCBC, KeyBits: 256},
		{Type: ipsec.TypeEncr, ID: ipsec.EncrAESCBC, KeyBits: 128},
	}
	prfs = []ipsec.Transform{
		{Type: ipsec.TypePRF, ID: ipsec.PRFHMACSHA256},
		{Type: ipsec.TypePRF, ID: ipsec.PRFHMACSHA384},
		{Type: ipsec.TypePRF, ID: ipsec.PRFHMACSHA512},
	}
	integs = []ipsec.Transform{
		{Type: ipsec.TypeInteg, ID: ipsec.IntegHMACSHA256},
		{Type: ipsec.TypeInteg, ID: ipsec.IntegHMACSHA384},
		{Type: ipsec.TypeInteg, ID: ipsec.IntegHMACSHA512},
	}
	groups = []ipsec.Transform{
		{Type: ipsec.TypeGroup, ID: ipsec.GroupX25519},
		{Type: ipsec.TypeGroup, ID: ipsec.GroupP256},
		{Type: ipsec.TypeGroup, ID: ipsec.GroupMODP2048},
		{Type: ipsec.TypeGroup, ID: ipsec.GroupP384},
	}
)

// defaultIKE returns the IKE proposals of a file that names none: one with
// ciphers that bring their own integrity and one without, because a proposal
// cannot offer both (RFC 7296 section 3.3).
func defaultIKE() []ipsec.Proposal {
	return []ipsec.Proposal{
		{Number: 1, Protocol: ipsec.ProtoIKE, Transforms: slices.Concat(aeadCiphers, prfs, groups)},
		{Number: 2, Protocol: ipsec.ProtoIKE, Transforms: slices.Concat(cbcCiphers, prfs, integs, groups)},
	}
}

// ikeTransforms are those that an IKE proposal may have.
func ikeTransforms() []ipsec.Transform {
	return slices.Concat(aeadCiphers, cbcCiphers, prfs, integs, groups)
}

// keyword returns the transform among known that a keyword stands for.
func keyword(word string, known []ipsec.Transform) (ipsec.Transform, bool) {
	i := slices.IndexFunc(known, func(t ipsec.Transform) bool { return t.String() == word })
	if i < 0 {
		return ipsec.Transform{}, false
	}
	return known[i], true
}

func keywords(ts []ipsec.Transform) []string {
	out := make([]string, len(ts))
	for i, t := range ts {
		out[i] = t.String()
	}
	return out
}

// parseIKE returns the transforms of an IKE proposal: keywords joined by "-",
// as in aes256gcm16-prfsha384-ecp384. It may name several of a type, the
// preferred first. With a cipher that needs integrity the pseudo-random
// function may be left out, and is of the same hash.
func parseIKE(text string) (ts []ipsec.Transform, problem, hint string) {
	known := ikeTransforms()
	byType := map[ipsec.TransformType][]ipsec.Transform{}
	aead, cbc := false, false
	for _, word := range strings.Split(text, "-") {
		t, ok := keyword(word, known)
		if !ok {
			return nil, fmt.Sprintf("unknown keyword %q in IKE proposal %q", word, text), didYouMean(word, keywords(known), "write keywords among "+oneOf(keywords(known)))
		}
		if slices.Contains(byType[t.Type], t) {
			return nil, fmt.Sprintf("keyword %q comes twice in IKE proposal %q", word, text), "remove one of the two"
		}
		byType[t.Type] = append(byType[t.Type], t)
		aead = aead || t.AEAD()
		cbc = cbc || t.Type == ipsec.TypeEncr && !t.AEAD()
	}
	if byType[ipsec.TypePRF] == nil {
		for _, integ := range byType[ipsec.TypeInteg] {
			if prf, ok := keyword("prf"+integ.String(), prfs); ok {
				byType[ipsec.TypePRF] = append(byType[ipsec.TypePRF], prf)
			}
		}
	}
	integ := byType[ipsec.TypeInteg]
	switch {
	case !aead && !cbc:
		problem, hint = "has no cipher", "add one, as in aes256gcm16-prfsha256-x25519"
	case aead && cbc:
		problem, hint = "mixes ciphers with and without integrity of their own", "write two proposals"
	case aead && integ != nil:
		problem, hint = fmt.Sprintf("has integrity twice: by its cipher and by %s", integ[0]), fmt.Sprintf("remove %s, or write prf%s if you meant the pseudo-random function", integ[0], integ[0])
	case cbc && integ == nil:
		problem, hint = "has no integrity", "add sha256, sha384 or sha512"
	case byType[ipsec.TypePRF] == nil:
		problem, hint = "has no pseudo-random function", "add prfsha256, prfsha384 or prfsha512"
	case byType[ipsec.TypeGroup] == nil:
		problem, hint = "has no key exchange group", "add "+oneOf(keywords(groups))
	default:
		return slices.Concat(byType[ipsec.TypeEncr], byType[ipsec.TypePRF], integ, byType[ipsec.TypeGroup]), "", ""
	}
	return nil, fmt.Sprintf("IKE proposal %q %s", text, problem), hint
}
