package ike

import (
	"slices"

	"github.com/ipsecfw/ipsecfw/ipsec"
)

// Difference is why one proposal agrees with none of the other end: what it
// lacks to agree with the closest one.
type Difference struct {
	Ours   string           `json:"ours"`   // a proposal of this host
	Theirs string           `json:"theirs"` // the peer's that is closest to it
	Types  []TypeDifference `json:"types"`  // what they have nothing in common of
}

// TypeDifference is a kind of algorithm of which two proposals have none in
// common.
type TypeDifference struct {
	// Type is protocol, encryption, prf, integrity, key-exchange,
	// additional-key-exchange-1 to -7, esn, or unknown for one that this host
	// does not know, because of which it refuses the whole proposal.
	Type   string   `json:"type"`
	Ours   []string `json:"ours"` // in the words of the rule file; "none" for no algorithm
	Theirs []string `json:"theirs"`
}

// Differences compares two lists of proposals, and returns one difference for
// each proposal of ours, the smallest first. It is empty if some proposals
// agree, or if one end has none.
func Differences(ours, theirs []ipsec.Proposal) []Difference {
	var out []Difference
	for _, w := range ours {
		var best *Difference
		for _, o := range theirs {
			d := Difference{Ours: w.String(), Theirs: o.String(), Types: typeDifferences(w, o)}
			if len(d.Types) == 0 {
				return nil
			}
			if best == nil || len(d.Types) < len(best.Types) {
				best = &d
			}
		}
		if best != nil {
			out = append(out, *best)
		}
	}
	slices.SortStableFunc(out, func(a, b Difference) int { return len(a.Types) - len(b.Types) })
	return out
}

func typeDifferences(w, o ipsec.Proposal) []TypeDifference {
	if w.Protocol != o.Protocol {
		return []TypeDifference{{"protocol", []string{w.Protocol.String()}, []string{o.Protocol.String()}}}
	}
	var out []TypeDifference
	differ := func(name string, ours, theirs []ipsec.Transform) {
		if ours, theirs = orNone(ours), orNone(theirs); !slices.ContainsFunc(ours, among(theirs)) {
			out = append(out, TypeDifference{name, texts(named(ours)), texts(named(theirs))})
		}
	}
	differ("encryption", w.Of(ipsec.TypeEncr), o.Of(ipsec.TypeEncr))
	if w.Protocol == ipsec.ProtoIKE {
		differ("prf", w.Of(ipsec.TypePRF), o.Of(ipsec.TypePRF))
	}
	if separate(w) && separate(o) { // or else a cipher that brings its own integrity would agree
		differ("integrity", w.Of(ipsec.TypeInteg), o.Of(ipsec.TypeInteg))
	}
	differ("key-exchange", w.Of(ipsec.TypeGroup), o.Of(ipsec.TypeGroup))
	for t := ipsec.TypeADDKE1; t <= ipsec.TypeADDKE7; t++ {
		differ("additional-key-exchange-"+string('1'+rune(t-ipsec.TypeADDKE1)), w.Of(t), o.Of(t))
	}
	if w.Protocol != ipsec.ProtoIKE {
		differ("esn", orNoESN(w.Of(ipsec.TypeESN)), orNoESN(o.Of(ipsec.TypeESN)))
	}
	if strangers := slices.DeleteFunc(slices.Clone(o.Transforms), func(t ipsec.Transform) bool { return known(t.Type) }); len(strangers) > 0 {
		out = append(out, TypeDifference{"unknown", []string{nothing}, texts(named(strangers))})
	}
	return out
}

// separate reports whether a proposal has a cipher that needs an integrity
// beside it.
func separate(p ipsec.Proposal) bool {
	return slices.ContainsFunc(p.Of(ipsec.TypeEncr), func(t ipsec.Transform) bool { return !t.AEAD() })
}

func among(ts []ipsec.Transform) func(ipsec.Transform) bool {
	return func(t ipsec.Transform) bool {
		// No algorithm at all is the number 0 of whatever type.
		return slices.ContainsFunc(ts, func(u ipsec.Transform) bool { return t.ID == u.ID && t.KeyBits == u.KeyBits })
	}
}

func known(t ipsec.TransformType) bool {
	return t >= ipsec.TypeEncr && t <= ipsec.TypeESN || t.Additional()
}

// orNone has a proposal that says nothing of a type want none of it.
func orNone(ts []ipsec.Transform) []ipsec.Transform {
	if len(ts) == 0 {
		return []ipsec.Transform{{}}
	}
	return ts
}

func orNoESN(ts []ipsec.Transform) []ipsec.Transform {
	if len(ts) == 0 {
		return []ipsec.Transform{{Type: ipsec.TypeESN, ID: ipsec.ESNNo}}
	}
	return ts
}

const nothing = "none"

// named writes transforms as people do, among whom none has the type 0.
func named(ts []ipsec.Transform) []namedTransform {
	out := make([]namedTransform, len(ts))
	for i, t := range ts {
		out[i] = namedTransform(t)
	}
	return out
}

type namedTransform ipsec.Transform

// String returns the rule file's keyword, or "none".
func (a namedTransform) String() string {
	if t := ipsec.Transform(a); t.Type != ipsec.TypeESN && t.ID == 0 {
		return nothing
	}
	return ipsec.Transform(a).String()
}
