package wire

import (
	"crypto/x509/pkix"
	"encoding/asn1"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"unicode/utf8"
)

// Type returns TypeIDi or TypeIDr.
func (i *ID) Type() PayloadType {
	if i.Responder {
		return TypeIDr
	}
	return TypeIDi
}

// whole reports whether the data has the size that its kind wants.
func (i *ID) whole() bool {
	switch i.Kind {
	case IDIPv4:
		return len(i.Data) == 4
	case IDIPv6:
		return len(i.Data) == 16
	case IDNull:
		return len(i.Data) == 0 // RFC 7619 section 2.2
	}
	return true
}

func decodeID(t PayloadType, c cursor) (*ID, error) {
	head, err := c.take(4)
	if err != nil {
		return nil, err
	}
	at := c
	id := &ID{Responder: t == TypeIDr, Kind: IDKind(head[0]), Data: c.takeRest()}
	if !id.whole() {
		return nil, at.fail("%s of %d bytes", id.Kind, len(id.Data))
	}
	return id, nil
}

func (i *ID) appendBody(dst []byte) ([]byte, error) {
	if !i.whole() {
		return nil, cannotEncode(i.Type(), dst, "%s of %d bytes", i.Kind, len(i.Data))
	}
	return append(append(dst, byte(i.Kind), 0, 0, 0), i.Data...), nil
}

// String writes the identity for people: an address, a name, or a
// distinguished name as in RFC 4514. What cannot be printed is quoted or
// written in hexadecimal. Two identities of different kinds may read the
// same, so compare Kind and Data, never the text.
func (i ID) String() string {
	switch i.Kind {
	case IDIPv4, IDIPv6:
		if a, ok := netip.AddrFromSlice(i.Data); ok && i.whole() {
			return a.String()
		}
	case IDNull:
		if i.whole() {
			return "anonymous"
		}
	case IDFQDN, IDEmail, IDKeyID:
		return printable(string(i.Data))
	case IDDN:
		var dn pkix.RDNSequence
		if rest, err := asn1.Unmarshal(i.Data, &dn); err == nil && len(rest) == 0 {
			return printable(dn.String())
		}
	}
	return fmt.Sprintf("ID type %d %x", i.Kind, i.Data)
}

// printable returns s, quoted if it holds what could deceive the reader of a
// log: a peer chooses its text.
func printable(s string) string {
	unprintable := func(r rune) bool { return !strconv.IsPrint(r) }
	if !utf8.ValidString(s) || strings.ContainsFunc(s, unprintable) {
		return strconv.Quote(s)
	}
	return s
}
