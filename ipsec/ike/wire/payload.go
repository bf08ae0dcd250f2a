package wire

import (
	"encoding/binary"
	"math"

	"github.com/ipsecfw/ipsecfw/ipsec"
)

// Type returns TypeKE.
func (*KE) Type() PayloadType { return TypeKE }

func decodeKE(c cursor) (*KE, error) {
	head, err := c.take(4)
	if err != nil {
		return nil, err
	}
	if len(c.rest) == 0 {
		return nil, c.fail("no key exchange data")
	}
	return &KE{Group: binary.BigEndian.Uint16(head), Data: c.takeRest()}, nil
}

func (k *KE) appendBody(dst []byte) ([]byte, error) {
	if len(k.Data) == 0 {
		return nil, cannotEncode(TypeKE, dst, "no key exchange data")
	}
	dst = binary.BigEndian.AppendUint16(dst, k.Group)
	return append(append(dst, 0, 0), k.Data...), nil
}

// Type returns TypeCert.
func (*Cert) Type() PayloadType { return TypeCert }

func decodeCert(c cursor) (*Cert, error) {
	head, err := c.take(1)
	if err != nil {
		return nil, err
	}
	return &Cert{Encoding: CertEncoding(head[0]), Data: c.takeRest()}, nil
}

func (p *Cert) appendBody(dst []byte) ([]byte, error) {
	return append(append(dst, byte(p.Encoding)), p.Data...), nil
}

// Type returns TypeCertReq.
func (*CertReq) Type() PayloadType { return TypeCertReq }

// whole reports whether the authorities of an X.509 request are whole hashes.
func (p *CertReq) whole() bool {
	const sha1Len = 20
	return p.Encoding != CertX509 || len(p.Authorities)%sha1Len == 0
}

func decodeCertReq(c cursor) (*CertReq, error) {
	head, err := c.take(1)
	if err != nil {
		return nil, err
	}
	at := c
	p := &CertReq{Encoding: CertEncoding(head[0]), Authorities: c.takeRest()}
	if !p.whole() {
		return nil, at.fail("%d bytes of authorities are not whole hashes", len(p.Authorities))
	}
	return p, nil
}

func (p *CertReq) appendBody(dst []byte) ([]byte, error) {
	if !p.whole() {
		return nil, cannotEncode(TypeCertReq, dst, "%d bytes of authorities are not whole hashes", len(p.Authorities))
	}
	return append(append(dst, byte(p.Encoding)), p.Authorities...), nil
}

// Type returns TypeAuth.
func (*Auth) Type() PayloadType { return TypeAuth }

func decodeAuth(c cursor) (*Auth, error) {
	head, err := c.take(4)
	if err != nil {
		return nil, err
	}
	return &Auth{Method: AuthMethod(head[0]), Data: c.takeRest()}, nil
}

func (a *Auth) appendBody(dst []byte) ([]byte, error) {
	return append(append(dst, byte(a.Method), 0, 0, 0), a.Data...), nil
}

// Bounds of a nonce in bytes (section 3.9).
const (
	minNonce = 16
	maxNonce = 256
)

// Type returns TypeNonce.
func (*Nonce) Type() PayloadType { return TypeNonce }

func decodeNonce(c cursor) (*Nonce, error) {
	if n := len(c.rest); n < minNonce || n > maxNonce {
		return nil, c.fail("a nonce has %d to %d bytes, not %d", minNonce, maxNonce, n)
	}
	return &Nonce{Data: c.takeRest()}, nil
}

func (n *Nonce) appendBody(dst []byte) ([]byte, error) {
	if l := len(n.Data); l < minNonce || l > maxNonce {
		return nil, cannotEncode(TypeNonce, dst, "a nonce has %d to %d bytes, not %d", minNonce, maxNonce, l)
	}
	return append(dst, n.Data...), nil
}

// Type returns TypeNotify.
func (*Notify) Type() PayloadType { return TypeNotify }

// childSPILen is the size in bytes of the SPI of ESP and AH.
const childSPILen = 4

func isChild(p ipsec.ProtocolID) bool { return p == ipsec.ProtoESP || p == ipsec.ProtoAH }

func decodeNotify(c cursor) (*Notify, error) {
	head, err := c.take(4)
	if err != nil {
		return nil, err
	}
	n := &Notify{Kind: NotifyType(binary.BigEndian.Uint16(head[2:]))}
	if size := int(head[1]); size > 0 {
		n.Protocol = ipsec.ProtocolID(head[0])
		if isChild(n.Protocol) && size != childSPILen {
			return nil, c.fail("an SPI of %d bytes for %s", size, n.Protocol)
		}
		if n.SPI, err = c.take(size); err != nil {
			return nil, err
		}
	}
	n.Data = c.takeRest()
	return n, nil
}

func (n *Notify) appendBody(dst []byte) ([]byte, error) {
	protocol := n.Protocol
	switch size := len(n.SPI); {
	case size == 0:
		protocol = 0
	case size > math.MaxUint8 || isChild(protocol) && size != childSPILen:
		return nil, cannotEncode(TypeNotify, dst, "an SPI of %d bytes for %s", size, protocol)
	}
	dst = append(dst, byte(protocol), byte(len(n.SPI)))
	dst = binary.BigEndian.AppendUint16(dst, uint16(n.Kind))
	return append(append(dst, n.SPI...), n.Data...), nil
}

// Type returns TypeDelete.
func (*Delete) Type() PayloadType { return TypeDelete }

func decodeDelete(c cursor) (*Delete, error) {
	head, err := c.take(4)
	if err != nil {
		return nil, err
	}
	d := &Delete{Protocol: ipsec.ProtocolID(head[0])}
	size, count := int(head[1]), int(binary.BigEndian.Uint16(head[2:]))
	switch {
	case d.Protocol == ipsec.ProtoIKE && size == 0 && count == 0:
	case isChild(d.Protocol) && size == childSPILen:
	default:
		return nil, c.fail("%d SPIs of %d bytes for %s", count, size, d.Protocol)
	}
	if len(c.rest) != size*count {
		return nil, c.fail("%d SPIs are announced in %d bytes", count, len(c.rest))
	}
	for b := c.rest; len(b) > 0; b = b[childSPILen:] {
		d.SPIs = append(d.SPIs, ipsec.SPI(binary.BigEndian.Uint32(b)))
	}
	return d, nil
}

func (d *Delete) appendBody(dst []byte) ([]byte, error) {
	var size byte
	switch {
	case isChild(d.Protocol) && len(d.SPIs) <= math.MaxUint16:
		size = childSPILen
	case d.Protocol == ipsec.ProtoIKE && len(d.SPIs) == 0:
	default:
		return nil, cannotEncode(TypeDelete, dst, "%d SPIs for %s", len(d.SPIs), d.Protocol)
	}
	dst = append(dst, byte(d.Protocol), size)
	dst = binary.BigEndian.AppendUint16(dst, uint16(len(d.SPIs)))
	for _, s := range d.SPIs {
		dst = binary.BigEndian.AppendUint32(dst, uint32(s))
	}
	return dst, nil
}

// Type returns TypeVendorID.
func (*VendorID) Type() PayloadType { return TypeVendorID }

func (v *VendorID) appendBody(dst []byte) ([]byte, error) { return append(dst, v.Data...), nil }

// Type returns the type that the payload came with.
func (u *Unknown) Type() PayloadType { return u.Kind }

func (u *Unknown) appendBody(dst []byte) ([]byte, error) {
	if u.Kind == NoNextPayload || u.Kind >= TypeSA && u.Kind <= TypeEncrypted || u.Kind == TypeFragment {
		return nil, cannotEncode(u.Kind, dst, "this type has a struct of its own")
	}
	return append(dst, u.Body...), nil
}
