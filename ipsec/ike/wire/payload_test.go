package wire

import (
	"bytes"
	"encoding/binary"
	"errors"
	"net/netip"
	"reflect"
	"strings"
	"testing"

	"github.com/ipsecfw/ipsecfw/ipsec"
)

func fill(n int, b byte) []byte { return bytes.Repeat([]byte{b}, n) }

// payloadCases has every kind of payload with its body as the RFC draws it.
var payloadCases = []struct {
	name  string
	p     Payload
	body  string // hexadecimal, spaces ignored
	fixed bool   // nothing may follow the body
}{
	{"SA of IKE, two proposals", &SA{Proposals: []ipsec.Proposal{
		{Number: 1, Protocol: ipsec.ProtoIKE, Transforms: []ipsec.Transform{
			{Type: ipsec.TypeEncr, ID: ipsec.EncrAESGCM16, KeyBits: 256},
			{Type: ipsec.TypePRF, ID: ipsec.PRFHMACSHA256},
			{Type: ipsec.TypeGroup, ID: ipsec.GroupX25519},
		}},
		{Number: 2, Protocol: ipsec.ProtoIKE, SPI: []byte{1, 2, 3, 4, 5, 6, 7, 8}, Transforms: []ipsec.Transform{
			{Type: ipsec.TypeEncr, ID: ipsec.EncrChaCha20Poly1305},
		}},
	}}, "02000024 01010003  0300000c 01000014 800e0100  03000008 02000005  00000008 0400001f" +
		"00000018 02010801 0102030405060708  00000008 0100001c", true},
	{"SA of ESP", &SA{Proposals: []ipsec.Proposal{
		{Number: 1, Protocol: ipsec.ProtoESP, SPI: []byte{0xca, 0xfe, 0, 1}, Transforms: []ipsec.Transform{
			{Type: ipsec.TypeEncr, ID: ipsec.EncrAESCBC, KeyBits: 128},
			{Type: ipsec.TypeInteg, ID: ipsec.IntegHMACSHA256},
			{Type: ipsec.TypeESN, ID: ipsec.ESNNo},
		}},
	}}, "00000028 01030403 cafe0001  0300000c 0100000c 800e0080  03000008 0300000c  00000008 05000000", true},
	{"SA with additional key exchanges", &SA{Proposals: []ipsec.Proposal{
		{Number: 1, Protocol: ipsec.ProtoIKE, Transforms: []ipsec.Transform{
			{Type: ipsec.TypeGroup, ID: ipsec.GroupX25519}, {Type: ipsec.TypeADDKE1, ID: ipsec.GroupMLKEM768}, {Type: ipsec.TypeADDKE7, ID: ipsec.GroupNone},
		}},
	}}, "00000020 01010003  03000008 0400001f  03000008 06000024  00000008 0c000000", true},
	{"SA of a protocol that is not known", &SA{Proposals: []ipsec.Proposal{
		{Number: 1, Protocol: 200, SPI: []byte{9}, Transforms: []ipsec.Transform{{Type: 77, ID: 5}}},
	}}, "00000011 01c80101 09  00000008 4d000005", true},
	{"SA with an unusable transform", &SA{Proposals: []ipsec.Proposal{
		{Number: 1, Protocol: ipsec.ProtoIKE, Transforms: []ipsec.Transform{{Type: ipsec.TypePRF, ID: Unusable, KeyBits: Unusable}}},
	}}, "00000014 01010001  0000000c 0200ffff 800effff", true},
	{"KE", &KE{Group: 31, Data: fill(32, 0xab)}, "001f0000" + strings.Repeat("ab", 32), false},
	{"IDi IPv4", &ID{Kind: IDIPv4, Data: []byte{10, 0, 0, 1}}, "01000000 0a000001", true},
	{"IDr IPv6", &ID{Responder: true, Kind: IDIPv6, Data: netip.MustParseAddr("2001:db8::1").AsSlice()},
		"05000000 20010db8 00000000 00000000 00000001", true},
	{"IDi FQDN", &ID{Kind: IDFQDN, Data: []byte("a.b")}, "02000000 612e62", false},
	{"IDi of nobody", &ID{Kind: IDNull}, "0d000000", true},
	{"IDr empty", &ID{Responder: true, Kind: IDKeyID}, "0b000000", false},
	{"CERT", &Cert{Encoding: CertX509, Data: []byte{0x30, 0}}, "04 3000", false},
	{"CERT, raw key", &Cert{Encoding: CertRawKey, Data: []byte{0x30, 0}}, "0f 3000", false},
	{"CERT, OCSP response", &Cert{Encoding: CertOCSP, Data: []byte{0x30, 0}}, "0e 3000", false},
	{"CERTREQ for OCSP responses", &CertReq{Encoding: CertOCSP}, "0e", false},
	{"CERTREQ for OCSP responses of one responder", &CertReq{Encoding: CertOCSP, Authorities: fill(21, 7)}, "0e" + strings.Repeat("07", 21), false},
	{"CERTREQ for raw keys", &CertReq{Encoding: CertRawKey}, "0f", false},
	{"CERTREQ", &CertReq{Encoding: CertX509, Authorities: fill(40, 7)}, "04" + strings.Repeat("07", 40), true},
	{"CERTREQ for anyone", &CertReq{Encoding: CertX509}, "04", true},
	{"CERTREQ of another encoding", &CertReq{Encoding: 11, Authorities: []byte{1, 2, 3}}, "0b 010203", false},
	{"AUTH", &Auth{Method: AuthPSK, Data: []byte{1, 2, 3, 4}}, "02000000 01020304", false},
	{"Nonce, shortest", &Nonce{Data: fill(16, 1)}, strings.Repeat("01", 16), false},
	{"Nonce, longest", &Nonce{Data: fill(256, 2)}, strings.Repeat("02", 256), true},
	{"Notify of nothing", &Notify{Kind: UseTransportMode}, "00004007", false},
	{"Notify of a window", &Notify{Kind: SetWindowSize, Data: []byte{0, 0, 0, 8}}, "00004001 00000008", false},
	{"Notify with data", &Notify{Kind: InvalidKEPayload, Data: []byte{0, 19}}, "00000011 0013", false},
	{"Notify with SPI", &Notify{Protocol: ipsec.ProtoESP, SPI: []byte{1, 2, 3, 4}, Kind: RekeySA, Data: []byte{9}},
		"03044009 01020304 09", false},
	{"Delete of the IKE SA", &Delete{Protocol: ipsec.ProtoIKE}, "01000000", true},
	{"Delete of ESP", &Delete{Protocol: ipsec.ProtoESP, SPIs: []ipsec.SPI{0x01020304, 0xfffefdfc}},
		"03040002 01020304 fffefdfc", true},
	{"Vendor ID", &VendorID{Data: []byte("v1")}, "7631", false},
	{"TSi", &TS{Selectors: []ipsec.TrafficSelector{
		{Protocol: 6, StartPort: 8443, EndPort: 8443, Start: netip.MustParseAddr("10.1.0.0"), End: netip.MustParseAddr("10.1.255.255")},
		{Protocol: 0, StartPort: 0, EndPort: 65535, Start: netip.MustParseAddr("fe80::"), End: netip.MustParseAddr("fe80::ff")},
	}}, "02000000  07060010 20fb20fb 0a010000 0a01ffff" +
		"08000028 0000ffff fe800000000000000000000000000000 fe8000000000000000000000000000ff", true},
	{"TSr, ICMP type and code, OPAQUE", &TS{Responder: true, Selectors: []ipsec.TrafficSelector{
		{Protocol: 1, StartPort: 0x0800, EndPort: 0x08ff, Start: netip.MustParseAddr("10.0.0.1"), End: netip.MustParseAddr("10.0.0.1")},
		{Protocol: 135, StartPort: 65535, EndPort: 0, Start: netip.MustParseAddr("10.0.0.1"), End: netip.MustParseAddr("10.0.0.1")},
	}}, "02000000  07010010 080008ff 0a000001 0a000001  07870010 ffff0000 0a000001 0a000001", true},
	{"TSi, IPv4 in IPv6", &TS{Selectors: []ipsec.TrafficSelector{
		{StartPort: 0, EndPort: 65535, Start: netip.MustParseAddr("::ffff:1.2.3.4"), End: netip.MustParseAddr("::ffff:1.2.3.4")},
	}}, "01000000  08000028 0000ffff 00000000000000000000ffff01020304 00000000000000000000ffff01020304", true},
	{"TSi of nothing", &TS{}, "00000000", true},
	{"unknown", &Unknown{Kind: 47, Body: []byte{1}}, "01", false},
	{"unknown and critical", &Unknown{Kind: 200, Critical: true}, "", false},
}

// chainOf puts a generic header in front of a body.
func chainOf(critical bool, body []byte) []byte {
	b := []byte{0, 0, 0, 0}
	if critical {
		b[1] = 0x80
	}
	b = append(b, body...)
	binary.BigEndian.PutUint16(b[2:], uint16(len(b)))
	return b
}

func TestPayloads(t *testing.T) {
	for _, tt := range payloadCases {
		t.Run(tt.name, func(t *testing.T) {
			u, _ := tt.p.(*Unknown)
			want := chainOf(u != nil && u.Critical, unhex(t, tt.body))
			first, b, err := EncodePayloads([]Payload{tt.p})
			if err != nil || first != tt.p.Type() || !bytes.Equal(b, want) {
				t.Fatalf("encode: %v %v\n got %x\nwant %x", first, err, b, want)
			}
			ps, err := DecodePayloads(first, want)
			if err != nil || !reflect.DeepEqual(ps, []Payload{tt.p}) {
				t.Fatalf("decode: %v\n got %+v\nwant %+v", err, ps, tt.p)
			}
		})
	}
}

// TestPayloadsCutShort cuts every body, with a payload length that agrees: a
// format with a fixed end must notice, and one without must not read on.
func TestPayloadsCutShort(t *testing.T) {
	for _, tt := range payloadCases {
		t.Run(tt.name, func(t *testing.T) {
			body := unhex(t, tt.body)
			for n := range body {
				_, err := DecodePayloads(tt.p.Type(), chainOf(false, body[:n]))
				if err == nil && tt.fixed && !cutIsWhole(tt.p, n) {
					t.Errorf("%d of %d bytes are taken for the whole", n, len(body))
				}
				if err != nil {
					wantError(t, err, tt.p.Type())
				}
				// A length beyond what there is.
				long := chainOf(false, body)[:genericLen+n]
				if _, err := DecodePayloads(tt.p.Type(), long); err == nil {
					t.Errorf("the first %d of %d bytes are taken for the whole payload", n, len(body))
				}
			}
			_, err := DecodePayloads(tt.p.Type(), chainOf(false, append(body, 0)))
			if (err != nil) != tt.fixed {
				t.Errorf("with one byte more: %v", err)
			}
		})
	}
}

// cutIsWhole says which beginnings of a body are another valid body.
func cutIsWhole(p Payload, n int) bool {
	switch p.(type) {
	case *CertReq:
		return n == 1 || n == 21
	case *Nonce:
		return n >= minNonce
	}
	return false
}

func wantError(t *testing.T, err error, p PayloadType) {
	t.Helper()
	var e *Error
	if !errors.As(err, &e) || e.Payload != p {
		t.Errorf("error %v (%T), want an *Error about %s", err, err, p)
	}
}

func TestPayloadsRefused(t *testing.T) {
	for _, tt := range []struct {
		name string
		t    PayloadType
		body string
	}{
		{"SA without a proposal", TypeSA, ""},
		{"proposal without a transform", TypeSA, "00000008 01010000"},
		{"proposal shorter than its head", TypeSA, "00000007 01010001 00000008 0100001c"},
		{"proposal mark 1", TypeSA, "01000010 01010001 00000008 0100001c"},
		{"proposal announced and missing", TypeSA, "02000010 01010001 00000008 0100001c"},
		{"proposal behind the last", TypeSA, "00000010 01010001 00000008 0100001c 00000010 02010001 00000008 0100001c"},
		{"ESP without SPI", TypeSA, "00000010 01030001 00000008 0100001c"},
		{"IKE with an SPI of 4 bytes", TypeSA, "00000014 01010401 01020304 00000008 0100001c"},
		{"SPI beyond the proposal", TypeSA, "00000010 01c8ff01 00000008 0100001c"},
		{"more transforms than counted", TypeSA, "00000018 01010001 03000008 0100001c 00000008 02000005"},
		{"fewer transforms than counted", TypeSA, "00000010 01010002 00000008 0100001c"},
		{"transform mark 2", TypeSA, "00000018 01010002 02000008 0100001c 00000008 02000005"},
		{"transform shorter than its head", TypeSA, "00000010 01010001 00000007 0100001c"},
		{"transform beyond the proposal", TypeSA, "00000010 01010001 0000000c 0100001c"},
		{"half an attribute", TypeSA, "00000012 01010001 0000000a 0100000c 800e"},
		{"attribute beyond the transform", TypeSA, "00000014 01010001 0000000c 0100000c 00120004"},
		{"KE without data", TypeKE, "001f0000"},
		{"IPv4 of 5 bytes", TypeIDi, "01000000 0a00000101"},
		{"IPv6 of 4 bytes", TypeIDr, "05000000 0a000001"},
		{"nobody with a name", TypeIDi, "0d000000 61"},
		{"CERT of nothing", TypeCert, ""},
		{"CERTREQ with half a hash", TypeCertReq, "04 0102030405060708090a"},
		{"nonce of 15 bytes", TypeNonce, strings.Repeat("00", 15)},
		{"nonce of 257 bytes", TypeNonce, strings.Repeat("00", 257)},
		{"Notify with an ESP SPI of 8 bytes", TypeNotify, "03084009 0102030405060708"},
		{"Notify with an SPI beyond the end", TypeNotify, "01084009 01020304"},
		{"Delete of IKE with an SPI", TypeDelete, "01080001 0102030405060708"},
		{"Delete of IKE, counted", TypeDelete, "01000001"},
		{"Delete of ESP with SPIs of 8 bytes", TypeDelete, "03080001 0102030405060708"},
		{"Delete of a protocol that is not known", TypeDelete, "09040001 01020304"},
		{"Delete with a count too high", TypeDelete, "0304ffff 01020304"},
		{"TS with a count too high", TypeTSi, "02000000 07000010 0000ffff 0a000001 0a000001"},
		{"TS with a count too low", TypeTSi, "01000000 07000010 0000ffff 0a000001 0a000001 07000010 0000ffff 0a000001 0a000001"},
		{"TS IPv4 with IPv6 length", TypeTSi, "01000000 07000028 0000ffff" + strings.Repeat("00", 32)},
		{"TS IPv6 with IPv4 length", TypeTSi, "01000000 08000010 0000ffff 0a000001 0a000001"},
		{"TS shorter than its head", TypeTSi, "01000000 09000003"},
		{"TS addresses reversed", TypeTSr, "01000000 07000010 0000ffff 0a000002 0a000001"},
		{"TS ports reversed", TypeTSr, "01000000 07060010 00020001 0a000001 0a000001"},
		{"SK inside of SK", TypeEncrypted, "00000000"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			ps, err := DecodePayloads(tt.t, chainOf(false, unhex(t, tt.body)))
			if err == nil {
				t.Fatalf("decoded to %+v", ps[0])
			}
			wantError(t, err, tt.t)
		})
	}
}

// TestPayloadsTolerated has what is not as we would write it and must be
// read all the same.
func TestPayloadsTolerated(t *testing.T) {
	sa := func(tr ipsec.Transform) *SA {
		return &SA{Proposals: []ipsec.Proposal{{Number: 1, Protocol: ipsec.ProtoIKE, Transforms: []ipsec.Transform{tr}}}}
	}
	unusable := sa(ipsec.Transform{Type: ipsec.TypeEncr, ID: Unusable, KeyBits: Unusable})
	for _, tt := range []struct {
		name string
		body string
		want Payload
	}{
		{"reserved bytes of SA", "00ff0010 01010001 00ff0008 01ff001c", sa(ipsec.Transform{Type: ipsec.TypeEncr, ID: 28})},
		{"unknown attribute, short", "00000014 01010001 0000000c 0100000c 80120080", unusable},
		{"unknown attribute, long", "00000018 01010001 00000010 0100000c 00120004 01020304", unusable},
		{"unknown attribute behind a known one", "00000018 01010001 00000010 0100000c 800e0080 80120080", unusable},
		{"Key Length in the long form", "00000016 01010001 0000000e 0100000c 000e0002 0080", unusable},
		{"Key Length of zero", "00000014 01010001 0000000c 0100000c 800e0000", unusable},
		{"Key Length twice", "00000018 01010001 00000010 0100000c 800e0080 800e0100", unusable},
		{"reserved bytes of KE", "001fffff 01", &KE{Group: 31, Data: []byte{1}}},
		{"reserved bytes of ID", "02ffffff 61", &ID{Kind: IDFQDN, Data: []byte("a")}},
		{"reserved bytes of AUTH", "02ffffff 61", &Auth{Method: AuthPSK, Data: []byte("a")}},
		{"reserved bytes of TS", "01ffffff 07000010 0000ffff 0a000001 0a000002", &TS{Selectors: []ipsec.TrafficSelector{
			{EndPort: 65535, Start: netip.MustParseAddr("10.0.0.1"), End: netip.MustParseAddr("10.0.0.2")}}}},
		{"other types of TS", "03000000 09000014" + strings.Repeat("00", 16) + "07000010 0000ffff 0a000001 0a000002 0a000004",
			&TS{Selectors: []ipsec.TrafficSelector{
				{EndPort: 65535, Start: netip.MustParseAddr("10.0.0.1"), End: netip.MustParseAddr("10.0.0.2")}}}},
		{"only other types of TS", "01000000 0a000005 01", &TS{}},
		{"protocol of a Notify without SPI", "01004000", &Notify{Kind: InitialContact}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			b := chainOf(true, unhex(t, tt.body)) // critical says nothing about a known type
			b[1] |= 0x7f
			ps, err := DecodePayloads(tt.want.Type(), b)
			if err != nil || !reflect.DeepEqual(ps, []Payload{tt.want}) {
				t.Errorf("%v\n got %+v\nwant %+v", err, ps, tt.want)
			}
		})
	}
}

func TestCannotEncode(t *testing.T) {
	ike := func(p ipsec.Proposal) *SA { return &SA{Proposals: []ipsec.Proposal{p}} }
	one := []ipsec.Transform{{Type: ipsec.TypeEncr, ID: 28}}
	a, b := netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("10.0.0.2")
	for _, tt := range []struct {
		name string
		p    Payload
	}{
		{"SA without a proposal", &SA{}},
		{"proposal without a transform", ike(ipsec.Proposal{Protocol: ipsec.ProtoIKE})},
		{"proposal with 256 transforms", ike(ipsec.Proposal{Protocol: ipsec.ProtoIKE, Transforms: make([]ipsec.Transform, 256)})},
		{"ESP proposal without SPI", ike(ipsec.Proposal{Protocol: ipsec.ProtoESP, Transforms: one})},
		{"SPI of 256 bytes", ike(ipsec.Proposal{Protocol: 99, SPI: make([]byte, 256), Transforms: one})},
		{"KE without data", &KE{Group: 31}},
		{"IPv4 of 16 bytes", &ID{Kind: IDIPv4, Data: make([]byte, 16)}},
		{"nobody with a name", &ID{Kind: IDNull, Data: []byte("a")}},
		{"CERTREQ with half a hash", &CertReq{Encoding: CertX509, Authorities: make([]byte, 10)}},
		{"CERT that is too long", &Cert{Encoding: CertX509, Data: make([]byte, 65531)}},
		{"short nonce", &Nonce{Data: make([]byte, 15)}},
		{"long nonce", &Nonce{Data: make([]byte, 257)}},
		{"Notify with a short SPI", &Notify{Protocol: ipsec.ProtoESP, SPI: []byte{1}}},
		{"Notify with an SPI of 256 bytes", &Notify{Protocol: ipsec.ProtoIKE, SPI: make([]byte, 256)}},
		{"Delete of no protocol", &Delete{}},
		{"Delete of IKE with SPIs", &Delete{Protocol: ipsec.ProtoIKE, SPIs: []ipsec.SPI{1}}},
		{"Delete of too many", &Delete{Protocol: ipsec.ProtoESP, SPIs: make([]ipsec.SPI, 65536)}},
		{"TS of too many", &TS{Selectors: make([]ipsec.TrafficSelector, 256)}},
		{"TS without addresses", &TS{Selectors: []ipsec.TrafficSelector{{}}}},
		{"TS of two families", &TS{Selectors: []ipsec.TrafficSelector{{Start: a, End: netip.MustParseAddr("::1")}}}},
		{"TS addresses reversed", &TS{Selectors: []ipsec.TrafficSelector{{Start: b, End: a}}}},
		{"TS ports reversed", &TS{Selectors: []ipsec.TrafficSelector{{Start: a, End: a, StartPort: 2, EndPort: 1}}}},
		{"Unknown of no type", &Unknown{}},
		{"Unknown of a known type", &Unknown{Kind: TypeKE}},
		{"SK", &Encrypted{}},
		{"SKF", &Fragment{Number: 1, Total: 1}},
		{"Unknown of SKF's type", &Unknown{Kind: TypeFragment}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, out, err := EncodePayloads([]Payload{tt.p})
			if err == nil {
				t.Fatalf("encoded to %x", out)
			}
			wantError(t, err, tt.p.Type())
		})
	}
}

// TestFieldsDoNotRunTogether appends to a field of a decoded payload.
func TestFieldsDoNotRunTogether(t *testing.T) {
	b := chainOf(false, unhex(t, "03044009 01020304 09"))
	ps, err := DecodePayloads(TypeNotify, b)
	if err != nil {
		t.Fatal(err)
	}
	n := ps[0].(*Notify)
	_ = append(n.SPI, 0xff)
	if n.Data[0] != 9 {
		t.Error("appending to the SPI overwrote the data")
	}
	if b[8] = 0xee; n.SPI[0] != 0xee {
		t.Error("the SPI is a copy of the input")
	}
}
