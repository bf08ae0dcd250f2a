package wire

import (
	"encoding/binary"
	"math"

	"github.com/ipsecfw/ipsecfw/ipsec"
)

const (
	proposalLen  = 8 // before the SPI, section 3.3.1
	transformLen = 8 // before the attributes, section 3.3.2

	moreProposals  = 2
	moreTransforms = 3

	attributeTV        = 0x8000 // the value stands in place of the length, section 3.3.5
	attributeKeyLength = 14
)

// Type returns TypeSA.
func (*SA) Type() PayloadType { return TypeSA }

func decodeSA(c cursor) (*SA, error) {
	sa := new(SA)
	for more := true; more; {
		head, body, err := c.structure(proposalLen)
		if err != nil {
			return nil, err
		}
		if more, err = follows(head[0], moreProposals, &c); err != nil {
			return nil, err
		}
		p, err := decodeProposal(head, body)
		if err != nil {
			return nil, err
		}
		sa.Proposals = append(sa.Proposals, p)
	}
	return sa, nil
}

// follows reads the first byte of a substructure, which says whether another
// one follows, and checks it against what does follow in c.
func follows(mark, more byte, c *cursor) (bool, error) {
	switch {
	case mark != 0 && mark != more:
		return false, c.fail("%d is neither the mark of a last substructure nor %d", mark, more)
	case mark == 0 && len(c.rest) != 0:
		return false, c.fail("%d bytes follow the last substructure", len(c.rest))
	case mark != 0 && len(c.rest) == 0:
		return false, c.fail("a substructure is announced and missing")
	}
	return mark != 0, nil
}

func decodeProposal(head []byte, c cursor) (ipsec.Proposal, error) {
	p := ipsec.Proposal{Number: head[4], Protocol: ipsec.ProtocolID(head[5])}
	size, count := int(head[6]), int(head[7])
	if !validSPISize(p.Protocol, size) {
		return p, c.fail("an SPI of %d bytes for %s", size, p.Protocol)
	}
	var err error
	if p.SPI, err = c.take(size); err != nil {
		return p, err
	}
	for more := true; more; {
		head, body, err := c.structure(transformLen)
		if err != nil {
			return p, err
		}
		if more, err = follows(head[0], moreTransforms, &c); err != nil {
			return p, err
		}
		t, err := decodeTransform(head, body)
		if err != nil {
			return p, err
		}
		p.Transforms = append(p.Transforms, t)
	}
	if len(p.Transforms) != count {
		return p, c.fail("%d transforms, but the proposal says %d", len(p.Transforms), count)
	}
	return p, nil
}

// validSPISize holds for a proposal: an IKE SA's first SPIs are those of the
// header, its later ones stand in the proposal (section 3.3.1).
func validSPISize(p ipsec.ProtocolID, n int) bool {
	switch p {
	case ipsec.ProtoIKE:
		return n == 0 || n == 8
	case ipsec.ProtoAH, ipsec.ProtoESP:
		return n == 4
	}
	return true
}

func decodeTransform(head []byte, c cursor) (ipsec.Transform, error) {
	t := ipsec.Transform{Type: ipsec.TransformType(head[4]), ID: binary.BigEndian.Uint16(head[6:])}
	usable := true
	for len(c.rest) > 0 {
		attr, err := c.take(4)
		if err != nil {
			return t, err
		}
		kind, value := binary.BigEndian.Uint16(attr), binary.BigEndian.Uint16(attr[2:])
		if kind == attributeTV|attributeKeyLength && value != 0 && t.KeyBits == 0 {
			t.KeyBits = value
			continue
		}
		usable = false
		if kind&attributeTV == 0 {
			if _, err := c.take(int(value)); err != nil {
				return t, err
			}
		}
	}
	if !usable {
		t.ID, t.KeyBits = Unusable, Unusable
	}
	return t, nil
}

func (s *SA) appendBody(dst []byte) ([]byte, error) {
	if len(s.Proposals) == 0 {
		return nil, cannotEncode(TypeSA, dst, "no proposal")
	}
	for i, p := range s.Proposals {
		var mark byte
		if i < len(s.Proposals)-1 {
			mark = moreProposals
		}
		var err error
		if dst, err = appendProposal(dst, mark, p); err != nil {
			return nil, err
		}
	}
	return dst, nil
}

func appendProposal(dst []byte, mark byte, p ipsec.Proposal) ([]byte, error) {
	switch {
	case len(p.SPI) > math.MaxUint8 || !validSPISize(p.Protocol, len(p.SPI)):
		return nil, cannotEncode(TypeSA, dst, "an SPI of %d bytes for %s", len(p.SPI), p.Protocol)
	case len(p.Transforms) == 0 || len(p.Transforms) > math.MaxUint8:
		return nil, cannotEncode(TypeSA, dst, "a proposal has 1 to %d transforms, not %d", math.MaxUint8, len(p.Transforms))
	}
	start := len(dst)
	dst = append(dst, mark, 0, 0, 0, p.Number, byte(p.Protocol), byte(len(p.SPI)), byte(len(p.Transforms)))
	dst = append(dst, p.SPI...)
	for i, t := range p.Transforms {
		var mark byte
		if i < len(p.Transforms)-1 {
			mark = moreTransforms
		}
		dst = appendTransform(dst, mark, t)
	}
	// At most 8 + 255 + 255·12 bytes: the length always fits.
	binary.BigEndian.PutUint16(dst[start+2:], uint16(len(dst)-start))
	return dst, nil
}

func appendTransform(dst []byte, mark byte, t ipsec.Transform) []byte {
	n := byte(transformLen)
	if t.KeyBits != 0 {
		n += 4
	}
	dst = append(dst, mark, 0, 0, n, byte(t.Type), 0)
	dst = binary.BigEndian.AppendUint16(dst, t.ID)
	if t.KeyBits != 0 {
		dst = binary.BigEndian.AppendUint16(dst, attributeTV|attributeKeyLength)
		dst = binary.BigEndian.AppendUint16(dst, t.KeyBits)
	}
	return dst
}
