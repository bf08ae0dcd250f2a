package wire

import (
	"encoding/binary"
	"fmt"
	"strings"

	"github.com/ipsecfw/ipsecfw/ipsec"
)

// maxDescription bounds Describe in bytes: a peer chooses how many payloads it
// sends.
const maxDescription = 600

// Describe writes a message in one line, in the notation of RFC 7296 section
// 1.2 and with what a reader wants to know of each payload, as in
//
//	IKE_AUTH request 1: IDi(FQDN a.example), AUTH(digital signature), N(INITIAL_CONTACT), SAi(ESP:aes256gcm16-noesn), TSi, TSr
//
// There are no keys, nonces, signatures or other bytes in it.
func Describe(h Header, ps []Payload) string {
	kind := "request"
	if h.Response {
		kind = "response"
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%s %s %d: ", h.Exchange, kind, h.MessageID)
	for i, p := range ps {
		if i > 0 {
			b.WriteString(", ")
		}
		d := describe(p, h.Response)
		if b.Len()+len(d) > maxDescription {
			fmt.Fprintf(&b, "and %d more", len(ps)-i)
			return b.String()
		}
		b.WriteString(d)
	}
	if len(ps) == 0 {
		b.WriteString("empty")
	}
	return b.String()
}

// describe writes one payload. The initiator's SA, KE and nonce have the
// suffix i, the responder's r.
func describe(p Payload, response bool) string {
	side := "i"
	if response {
		side = "r"
	}
	switch p := p.(type) {
	case *SA:
		return "SA" + side + "(" + proposals(p.Proposals) + ")"
	case *KE:
		return fmt.Sprintf("KE%s(%s)", side, groupName(p.Group))
	case *Nonce:
		return "N" + side
	case *ID:
		if p.Kind == IDNull {
			return fmt.Sprintf("%s(%s)", p.Type(), p.Kind)
		}
		return fmt.Sprintf("%s(%s %s)", p.Type(), p.Kind, brief(p.String()))
	case *Cert:
		return fmt.Sprintf("CERT(%s)", p.Encoding)
	case *CertReq:
		return fmt.Sprintf("CERTREQ(%s)", p.Encoding)
	case *Auth:
		return fmt.Sprintf("AUTH(%s)", p.Method)
	case *Notify:
		return "N(" + notify(p) + ")"
	case *Delete:
		if len(p.SPIs) == 0 {
			return fmt.Sprintf("D(%s)", p.Protocol)
		}
		return fmt.Sprintf("D(%s%s)", p.Protocol, spis(p.SPIs))
	case *VendorID:
		return "V"
	case *TS:
		return fmt.Sprintf("%s(%s)", p.Type(), selectors(p.Selectors))
	case *Fragment:
		return fmt.Sprintf("SKF(%d/%d)", p.Number, p.Total)
	case *Unknown:
		if p.Critical {
			return p.Kind.String() + " (critical)"
		}
	}
	return p.Type().String()
}

// maxListed is how many of a list are written out.
const maxListed = 4

// list joins the names of a list, the first ones.
func list[T any](of []T, sep string, name func(T) string) string {
	var names []string
	for i, x := range of {
		if i == maxListed {
			names = append(names, "…")
			break
		}
		names = append(names, name(x))
	}
	return strings.Join(names, sep)
}

func proposals(ps []ipsec.Proposal) string {
	return list(ps, ", ", func(p ipsec.Proposal) string { return brief(p.String()) })
}

func selectors(ts []ipsec.TrafficSelector) string {
	return list(ts, ", ", ipsec.TrafficSelector.String)
}

func spis(of []ipsec.SPI) string {
	return list(of, "", func(s ipsec.SPI) string { return " " + s.String() })
}

func groupName(id uint16) string {
	return ipsec.Transform{Type: ipsec.TypeGroup, ID: id}.String()
}

// notify adds to the name what a reader can do something with.
func notify(n *Notify) string {
	s := n.Kind.String()
	if len(n.SPI) == childSPILen {
		s += fmt.Sprintf(" %s %s", n.Protocol, ipsec.SPI(binary.BigEndian.Uint32(n.SPI)))
	}
	switch {
	case n.Kind == InvalidKEPayload && len(n.Data) == 2:
		s += " " + groupName(binary.BigEndian.Uint16(n.Data))
	case n.Kind == UnsupportedCriticalPayload && len(n.Data) == 1:
		s += " " + PayloadType(n.Data[0]).String()
	case (n.Kind == SetWindowSize || n.Kind == AuthLifetime) && len(n.Data) == 4:
		s += fmt.Sprintf(" %d", binary.BigEndian.Uint32(n.Data))
	}
	return s
}

// brief shortens what a peer chose.
func brief(s string) string {
	const most = 160
	if len(s) <= most {
		return s
	}
	return strings.ToValidUTF8(s[:most], "") + "…"
}
