package rules

import (
	"fmt"
	"slices"
	"strings"

	"github.com/ipsecfw/ipsecfw/ipsec"
)

// The algorithms that a file may name are those of package ipsec, by the
// keywords that it gives them.

// maxProposals is how many proposals there are numbers for (RFC 7296 section
// 3.3.1).
const maxProposals = 255

// addedTypes are the additional key exchanges of RFC 9370.
var addedTypes = func() []ipsec.TransformType {
	var out []ipsec.TransformType
	for t := ipsec.TypeADDKE1; t <= ipsec.TypeADDKE7; t++ {
		out = append(out, t)
	}
	return out
}()

// ikeTypes are the types of transforms of an IKE proposal.
var ikeTypes = append([]ipsec.TransformType{ipsec.TypeEncr, ipsec.TypePRF, ipsec.TypeInteg, ipsec.TypeGroup}, addedTypes...)

// byKeyword are the transforms that a file may name. That there is no key
// exchange can be said of additional ones only.
var byKeyword = func() map[string]ipsec.Transform {
	out := map[string]ipsec.Transform{}
	for _, of := range ikeTypes {
		for _, p := range []ipsec.ProtocolID{ipsec.ProtoIKE, ipsec.ProtoESP, ipsec.ProtoAH} {
			for _, t := range ipsec.Transforms(p, of) {
				if of != ipsec.TypeGroup || t.ID != ipsec.GroupNone {
					out[t.String()] = t
				}
			}
		}
	}
	return out
}()

// keyword returns the transform of some types that a keyword stands for, if a
// protocol may have it.
func keyword(p ipsec.ProtocolID, word string, of ...ipsec.TransformType) (ipsec.Transform, bool) {
	t, ok := byKeyword[word]
	return t, ok && t.Suits(p) && slices.Contains(of, t.Type)
}

// keywords returns the keywords of some types of transforms that a protocol may
// have, the preferred first.
func keywords(p ipsec.ProtocolID, of ...ipsec.TransformType) []string {
	var out []string
	for _, x := range of {
		for _, t := range ipsec.Transforms(p, x) {
			if word := t.String(); byKeyword[word] == t {
				out = append(out, word)
			}
		}
	}
	return out
}

// groupPattern is a regular expression for key exchanges: groups, and
// additional key exchanges.
func groupPattern() string {
	words := strings.Join(keywords(ipsec.ProtoIKE, ipsec.TypeGroup), "|")
	return words + "|ke[1-7]_(" + words + "|none)"
}

// ikePattern is a regular expression for IKE proposals.
func ikePattern() string {
	word := "(" + strings.Join(keywords(ipsec.ProtoIKE, ipsec.TypeEncr, ipsec.TypePRF, ipsec.TypeInteg), "|") + "|" + groupPattern() + ")"
	return "^" + word + "(-" + word + ")*$"
}

// parseIKE returns the transforms of an IKE proposal: keywords joined by "-",
// as in aes256gcm16-prfsha384-ecp384-ke1_mlkem1024. It may name several of a
// type, the preferred first. With a cipher that needs integrity the
// pseudo-random function may be left out, and is of the same hash.
func parseIKE(text string) (ts []ipsec.Transform, problem, hint string) {
	byType := map[ipsec.TransformType][]ipsec.Transform{}
	aead, plain := false, false
	for _, word := range strings.Split(text, "-") {
		t, ok := keyword(ipsec.ProtoIKE, word, ikeTypes...)
		if !ok {
			return nil, fmt.Sprintf("unknown keyword %q in IKE proposal %q", word, text), meant(word, keywords(ipsec.ProtoIKE, ikeTypes...), `write it as in aes256gcm16-prfsha256-x25519 or aes256-sha256-modp2048; "ipsecfw schema" has all keywords`)
		}
		if slices.Contains(byType[t.Type], t) {
			return nil, fmt.Sprintf("keyword %q comes twice in IKE proposal %q", word, text), "remove one of the two"
		}
		byType[t.Type] = append(byType[t.Type], t)
		aead = aead || t.AEAD()
		plain = plain || t.Type == ipsec.TypeEncr && !t.AEAD()
	}
	if byType[ipsec.TypePRF] == nil {
		for _, integ := range byType[ipsec.TypeInteg] {
			if prf, ok := keyword(ipsec.ProtoIKE, "prf"+integ.String(), ipsec.TypePRF); ok {
				byType[ipsec.TypePRF] = append(byType[ipsec.TypePRF], prf)
			}
		}
	}
	integ := byType[ipsec.TypeInteg]
	switch {
	case !aead && !plain:
		problem, hint = "has no cipher", "add one, as in aes256gcm16-prfsha256-x25519"
	case aead && plain:
		problem, hint = "mixes ciphers with and without integrity of their own", "write two proposals"
	case aead && integ != nil:
		problem, hint = fmt.Sprintf("has integrity twice: by its cipher and by %s", integ[0]), fmt.Sprintf("remove %s, or write prf%s if you meant the pseudo-random function", integ[0], integ[0])
	case plain && integ == nil:
		problem, hint = "has no integrity", "add sha256, sha384 or sha512"
	case byType[ipsec.TypePRF] == nil:
		problem, hint = "has no pseudo-random function", "add prfsha256, prfsha384 or prfsha512"
	case byType[ipsec.TypeGroup] == nil:
		problem, hint = "has no key exchange group", "add x25519, ecp384 or another"
	default:
		for _, of := range ikeTypes {
			ts = append(ts, byType[of]...)
		}
		return ts, "", ""
	}
	return nil, fmt.Sprintf("IKE proposal %q %s", text, problem), hint
}

// weak returns the transforms of proposals that are weak, each once.
func weak(ps []ipsec.Proposal) []ipsec.Transform {
	var out []ipsec.Transform
	for _, p := range ps {
		for _, t := range p.Transforms {
			if _, is := t.Weak(); is && !slices.Contains(out, t) {
				out = append(out, t)
			}
		}
	}
	return out
}

// WeakText says of weak transforms which they are, and why.
func WeakText(ts []ipsec.Transform) string {
	words := make([]string, len(ts))
	for i, t := range ts {
		why, _ := t.Weak()
		words[i] = fmt.Sprintf("%s (%s)", t, why)
	}
	return strings.Join(words, ", ")
}

// meant is didYouMean for keywords, those that are not weak first.
func meant(word string, known []string, otherwise string) string {
	strong := slices.DeleteFunc(slices.Clone(known), func(k string) bool {
		return slices.ContainsFunc(strings.Split(k, "-"), func(part string) bool { _, weak := byKeyword[part].Weak(); return weak })
	})
	return didYouMean(word, strong, didYouMean(word, known, otherwise))
}

// numbered gives proposals of a protocol their numbers.
func numbered(of ipsec.ProtocolID, choices [][]ipsec.Transform) []ipsec.Proposal {
	out := make([]ipsec.Proposal, len(choices))
	for i, ts := range choices {
		out[i] = ipsec.Proposal{Number: uint8(i + 1), Protocol: of, Transforms: ts}
	}
	return out
}
