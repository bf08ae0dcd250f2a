package ike

import (
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/ipsecfw/ipsecfw/ipsec/ike/wire"
)

// attributeTypes are the names of attributes that a distinguished name may be
// written with (RFC 4514 section 3, and what OpenSSL writes).
var attributeTypes = map[string]asn1.ObjectIdentifier{
	"CN": {2, 5, 4, 3}, "COMMONNAME": {2, 5, 4, 3},
	"SN": {2, 5, 4, 4}, "SURNAME": {2, 5, 4, 4},
	"SERIALNUMBER": {2, 5, 4, 5},
	"C":            {2, 5, 4, 6}, "L": {2, 5, 4, 7},
	"ST": {2, 5, 4, 8}, "S": {2, 5, 4, 8},
	"STREET": {2, 5, 4, 9},
	"O":      {2, 5, 4, 10}, "OU": {2, 5, 4, 11},
	"T": {2, 5, 4, 12}, "TITLE": {2, 5, 4, 12},
	"POSTALCODE": {2, 5, 4, 17},
	"GN":         {2, 5, 4, 42}, "GIVENNAME": {2, 5, 4, 42},
	"INITIALS": {2, 5, 4, 43}, "DNQUALIFIER": {2, 5, 4, 46},
	"ORGANIZATIONIDENTIFIER": {2, 5, 4, 97},
	"UID":                    {0, 9, 2342, 19200300, 100, 1, 1},
	"DC":                     {0, 9, 2342, 19200300, 100, 1, 25},
	"E":                      {1, 2, 840, 113549, 1, 9, 1}, "EMAILADDRESS": {1, 2, 840, 113549, 1, 9, 1},
}

// ia5 holds the attributes whose strings are IA5String (RFC 5280 appendix A.1).
var ia5 = []asn1.ObjectIdentifier{attributeTypes["DC"], attributeTypes["E"]}

// dnID reads a distinguished name as an identity.
func dnID(s string) (wire.ID, error) {
	dn, err := parseDN(s)
	if err != nil {
		return wire.ID{}, err
	}
	for _, rdn := range dn {
		for i, a := range rdn {
			if v, ok := a.Value.(string); ok && ascii(v) && slices.ContainsFunc(ia5, a.Type.Equal) {
				rdn[i].Value = asn1.RawValue{Tag: asn1.TagIA5String, Bytes: []byte(v)}
			}
		}
	}
	der, err := asn1.Marshal(dn)
	if err != nil {
		return wire.ID{}, fmt.Errorf("%q: %w", s, err)
	}
	return wire.ID{Kind: wire.IDDN, Data: der}, nil
}

func decodeDN(der []byte) (dn pkix.RDNSequence, err error) {
	rest, err := asn1.Unmarshal(der, &dn)
	if err == nil && len(rest) > 0 {
		err = errors.New("something follows the distinguished name")
	}
	return dn, err
}

// parseDN reads a distinguished name as RFC 4514 writes it, or RFC 2253, with
// spaces around the separators if need be. The result has the order of the
// encoding, which is the opposite one.
func parseDN(s string) (pkix.RDNSequence, error) {
	var dn pkix.RDNSequence
	var rdn pkix.RelativeDistinguishedNameSET
	for rest := s; ; {
		a, sep, after, err := parseAttribute(rest)
		if err != nil {
			return nil, fmt.Errorf("%q is no distinguished name: %w", s, err)
		}
		rdn = append(rdn, a)
		if sep != '+' {
			dn, rdn = append(dn, rdn), nil
		}
		if sep == 0 {
			break
		}
		rest = after
	}
	slices.Reverse(dn)
	return dn, nil
}

// parseAttribute reads "type=value" and the separator after it: ',', '+', or 0
// at the end.
func parseAttribute(s string) (a pkix.AttributeTypeAndValue, sep byte, rest string, err error) {
	name, rest, ok := strings.Cut(s, "=")
	if !ok {
		return a, 0, "", fmt.Errorf("%q has no \"=\"", strings.TrimSpace(s))
	}
	name = strings.TrimSpace(name)
	if a.Type, ok = attributeTypes[strings.ToUpper(name)]; !ok {
		if a.Type, err = parseOID(name); err != nil {
			return a, 0, "", fmt.Errorf("the attribute %q is not known", name)
		}
	}
	value, sep, rest, err := parseValue(strings.TrimLeft(rest, " "))
	if err != nil {
		return a, 0, "", err
	}
	if value == "" {
		return a, 0, "", fmt.Errorf("the attribute %s has no value", name)
	}
	if !utf8.ValidString(value) {
		return a, 0, "", fmt.Errorf("the value of %s is not UTF-8", name)
	}
	a.Value = value
	return a, sep, rest, nil
}

func parseOID(s string) (oid asn1.ObjectIdentifier, err error) {
	for part := range strings.SplitSeq(strings.TrimPrefix(strings.ToUpper(s), "OID."), ".") {
		n, err := strconv.ParseUint(part, 10, 31)
		if err != nil {
			return nil, err
		}
		oid = append(oid, int(n))
	}
	if len(oid) < 2 || oid[0] > 2 || oid[0] < 2 && oid[1] > 39 {
		return nil, errors.New("no object identifier")
	}
	return oid, nil
}

// parseValue reads the value of an attribute up to the separator: quoted, in
// hexadecimal after "#", or with backslashes before what would end it.
func parseValue(s string) (value string, sep byte, rest string, err error) {
	var b strings.Builder
	quoted := strings.HasPrefix(s, `"`)
	i, kept := 0, 0 // spaces before kept were escaped, and stay
	if quoted {
		i = 1
	}
scan:
	for ; i < len(s); i++ {
		switch c := s[i]; {
		case c == '\\' && i+2 < len(s) && isHex(s[i+1]) && isHex(s[i+2]):
			d, err := hex.DecodeString(s[i+1 : i+3])
			if err != nil {
				return "", 0, "", err
			}
			b.Write(d)
			i, kept = i+2, b.Len()
		case c == '\\' && i+1 < len(s):
			b.WriteByte(s[i+1])
			i, kept = i+1, b.Len()
		case c == '\\':
			return "", 0, "", errors.New("it ends in a backslash")
		case quoted && c == '"':
			quoted, kept = false, b.Len()
			i++
			break scan
		case !quoted && (c == ',' || c == '+'):
			break scan
		case !quoted && (c == '"' || c == ';' || c == '<' || c == '>'):
			return "", 0, "", fmt.Errorf("%q has to stand after a backslash", c)
		default:
			b.WriteByte(c)
		}
	}
	if quoted {
		return "", 0, "", errors.New("a quotation mark is missing")
	}
	value = b.String()
	value = value[:kept] + strings.TrimRight(value[kept:], " ")
	if strings.HasPrefix(s, "#") {
		if value, err = hexValue(value[1:]); err != nil {
			return "", 0, "", err
		}
	}
	after := strings.TrimLeft(s[i:], " ")
	switch {
	case after == "":
		return value, 0, "", nil
	case after[0] == ',' || after[0] == '+':
		return value, after[0], after[1:], nil
	}
	return "", 0, "", fmt.Errorf("%q follows a value", after)
}

// hexValue reads the BER of a string.
func hexValue(digits string) (string, error) {
	der, err := hex.DecodeString(digits)
	if err != nil {
		return "", fmt.Errorf("after # stand hexadecimal digits: %w", err)
	}
	var v any
	if rest, err := asn1.Unmarshal(der, &v); err != nil || len(rest) > 0 {
		return "", errors.New("after # stands the encoding of a string")
	}
	s, ok := v.(string)
	if !ok {
		return "", errors.New("after # stands the encoding of a string")
	}
	return s, nil
}

func isHex(c byte) bool {
	return c >= '0' && c <= '9' || c >= 'a' && c <= 'f' || c >= 'A' && c <= 'F'
}

// maxParts bounds the attributes of one part of a name that are compared, each
// with each: hardly any name has more than two.
const maxParts = 16

// sameDN compares two names part by part, in their order.
func sameDN(a, b pkix.RDNSequence) bool {
	return slices.EqualFunc(a, b, func(x, y pkix.RelativeDistinguishedNameSET) bool {
		return len(x) == len(y) && len(x) <= maxParts && !slices.ContainsFunc(x, func(p pkix.AttributeTypeAndValue) bool {
			return !slices.ContainsFunc(y, func(q pkix.AttributeTypeAndValue) bool { return sameAttribute(p, q) })
		})
	})
}

// sameAttribute compares values as strings, whatever their encoding. Case and
// the number of spaces do not count, as in RFC 4518, but only ASCII has case:
// there are other letters that fold to those of it, and are none of them.
func sameAttribute(a, b pkix.AttributeTypeAndValue) bool {
	x, ok1 := a.Value.(string)
	y, ok2 := b.Value.(string)
	return ok1 && ok2 && a.Type.Equal(b.Type) && folded(x) == folded(y)
}

func folded(s string) string {
	s = strings.Join(strings.FieldsFunc(s, func(r rune) bool { return r == ' ' }), " ")
	return strings.Map(func(r rune) rune {
		if r >= 'A' && r <= 'Z' {
			r += 'a' - 'A'
		}
		return r
	}, s)
}

// DNPattern is what the subject of a certificate must have: each attribute
// with its value, or with any value where the pattern has "*". What else the
// subject has does not count, nor does the order.
type DNPattern struct {
	text       string
	attributes []pkix.AttributeTypeAndValue
}

// ParseDNPattern reads a pattern as in "CN=*, OU=Sales, O=Acme". A star stands
// for a whole value and never for a part of one.
func ParseDNPattern(s string) (DNPattern, error) {
	dn, err := parseDN(s)
	if err != nil {
		return DNPattern{}, err
	}
	p := DNPattern{text: s, attributes: slices.Concat(dn...)}
	for _, a := range p.attributes {
		if v, ok := a.Value.(string); ok && v != "*" && strings.Contains(v, "*") {
			return DNPattern{}, fmt.Errorf("%q: a star stands for a whole value: write * or the value", s)
		}
	}
	return p, nil
}

// String returns the pattern as it was written.
func (p DNPattern) String() string { return p.text }

// matches reports whether a name has all attributes of the pattern. The zero
// pattern matches nothing.
func (p DNPattern) matches(dn pkix.RDNSequence) bool {
	have := slices.Concat(dn...)
	return len(p.attributes) > 0 && !slices.ContainsFunc(p.attributes, func(want pkix.AttributeTypeAndValue) bool {
		return !slices.ContainsFunc(have, func(a pkix.AttributeTypeAndValue) bool {
			return sameAttribute(want, a) || want.Value == "*" && want.Type.Equal(a.Type)
		})
	})
}
