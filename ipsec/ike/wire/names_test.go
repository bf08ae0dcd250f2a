package wire

import (
	"crypto/x509/pkix"
	"encoding/asn1"
	"net/netip"
	"testing"
)

func TestNames(t *testing.T) {
	for _, tt := range []struct {
		got, want string
	}{
		{TypeSA.String(), "SA"},
		{TypeIDr.String(), "IDr"},
		{TypeEncrypted.String(), "SK"},
		{NoNextPayload.String(), "none"},
		{PayloadType(99).String(), "payload 99"},
		{IKESAInit.String(), "IKE_SA_INIT"},
		{CreateChildSA.String(), "CREATE_CHILD_SA"},
		{ExchangeType(240).String(), "exchange 240"},
		{InvalidKEPayload.String(), "INVALID_KE_PAYLOAD"},
		{NATDetectionDestinationIP.String(), "NAT_DETECTION_DESTINATION_IP"},
		{TypeFragment.String(), "SKF"},
		{NotifyType(16396).String(), "MOBIKE_SUPPORTED"},
		{IntermediateSupported.String(), "INTERMEDIATE_EXCHANGE_SUPPORTED"},
		{AdditionalKeyExchange.String(), "ADDITIONAL_KEY_EXCHANGE"},
		{StateNotFound.String(), "STATE_NOT_FOUND"},
		{IDDN.String(), "DER_ASN1_DN"},
		{IDKind(77).String(), "ID type 77"},
		{CertRawKey.String(), "raw public key"},
		{CertEncoding(11).String(), "encoding 11"},
		{AuthECDSA384.String(), "ECDSA P-384"},
		{AuthMethod(200).String(), "method 200"},
		{NotifyType(40961).String(), "notify 40961"},
		{(&Error{Offset: 24, Reason: "r"}).Error(), "IKE message at byte 24: r"},
		{(&Error{Payload: TypeKE, Offset: 32, Reason: "r"}).Error(), "IKE payload KE at byte 32: r"},
	} {
		if tt.got != tt.want {
			t.Errorf("got %q, want %q", tt.got, tt.want)
		}
	}
}

func TestNotifyIsError(t *testing.T) {
	for kind, want := range map[NotifyType]bool{
		UnsupportedCriticalPayload: true,
		ChildSANotFound:            true,
		8192:                       true, // private use
		16383:                      true,
		InitialContact:             false,
		SignatureHashAlgorithms:    false,
		40960:                      false, // private use
	} {
		if kind.IsError() != want {
			t.Errorf("%s: IsError is %v", kind, !want)
		}
	}
}

func TestIDString(t *testing.T) {
	der := func(n pkix.Name) []byte {
		b, err := asn1.Marshal(n.ToRDNSequence())
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	dn := der(pkix.Name{Country: []string{"DE"}, Organization: []string{"Example, Inc."}, CommonName: "Zoë"})
	for _, tt := range []struct {
		name string
		id   ID
		want string
	}{
		{"IPv4", ID{Kind: IDIPv4, Data: []byte{10, 0, 0, 1}}, "10.0.0.1"},
		{"IPv6", ID{Kind: IDIPv6, Data: netip.MustParseAddr("2001:db8::1").AsSlice()}, "2001:db8::1"},
		{"IPv4 of 16 bytes", ID{Kind: IDIPv4, Data: make([]byte, 16)}, "ID type 1 00000000000000000000000000000000"},
		{"name", ID{Kind: IDFQDN, Data: []byte("host.example")}, "host.example"},
		{"mail", ID{Kind: IDEmail, Data: []byte("a@host.example")}, "a@host.example"},
		{"name with a line of its own", ID{Kind: IDFQDN, Data: []byte("a\nb")}, `"a\nb"`},
		{"name that is no text", ID{Kind: IDFQDN, Data: []byte{0xff}}, `"\xff"`},
		{"name that runs backwards", ID{Kind: IDFQDN, Data: []byte("a\u202eb")}, `"a\u202eb"`},
		{"nobody", ID{Kind: IDNull}, "anonymous"},
		{"key", ID{Kind: IDKeyID, Data: []byte("gate-7")}, "gate-7"},
		{"distinguished name", ID{Kind: IDDN, Data: dn}, `CN=Zoë,O=Example\, Inc.,C=DE`},
		{"distinguished name with a line of its own", ID{Kind: IDDN, Data: der(pkix.Name{CommonName: "a\nb"})}, `"CN=a\nb"`},
		{"not a distinguished name", ID{Kind: IDDN, Data: []byte{0x30, 1}}, "ID type 9 3001"},
		{"distinguished name and more", ID{Kind: IDDN, Data: append(der(pkix.Name{}), 0)}, "ID type 9 300000"},
		{"kind that is not known", ID{Kind: 10, Data: []byte{1}}, "ID type 10 01"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := tt.id.String(); got != tt.want {
				t.Errorf("got %s, want %s", got, tt.want)
			}
		})
	}
}
