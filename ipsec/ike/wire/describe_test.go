package wire

import (
	"bytes"
	"net/netip"
	"strings"
	"testing"

	"github.com/ipsecfw/ipsecfw/ipsec"
)

func TestDescribe(t *testing.T) {
	esp := &SA{Proposals: []ipsec.Proposal{{Number: 1, Protocol: ipsec.ProtoESP, SPI: []byte{1, 2, 3, 4}, Transforms: []ipsec.Transform{
		{Type: ipsec.TypeEncr, ID: ipsec.EncrAESGCM16, KeyBits: 256}, {Type: ipsec.TypeESN, ID: ipsec.ESNNo},
	}}}}
	one := []ipsec.TrafficSelector{{Protocol: 6, StartPort: 443, EndPort: 443, Start: netip.MustParseAddr("10.0.0.1"), End: netip.MustParseAddr("10.0.0.1")}}
	for _, tt := range []struct {
		name string
		h    Header
		ps   []Payload
		want string
	}{
		{"IKE_SA_INIT", Header{Exchange: IKESAInit}, initPayloads(t),
			"IKE_SA_INIT request 0: SAi(IKE:aes256-sha256-prfsha256-x25519), KEi(x25519), Ni, N(NAT_DETECTION_SOURCE_IP), N(SIGNATURE_HASH_ALGORITHMS), V"},
		{"IKE_AUTH", Header{Exchange: IKEAuth, MessageID: 1}, []Payload{
			&ID{Kind: IDFQDN, Data: []byte("a.example")}, &Cert{Encoding: CertX509, Data: []byte{1}}, &CertReq{Encoding: CertOCSP},
			&Auth{Method: AuthDigitalSignature, Data: []byte("the signature")}, &Notify{Kind: InitialContact}, esp,
			&TS{Selectors: one}, &TS{Responder: true, Selectors: one}, &Notify{Kind: SetWindowSize, Data: []byte{0, 0, 0, 8}},
		}, "IKE_AUTH request 1: IDi(FQDN a.example), CERT(X.509), CERTREQ(OCSP), AUTH(digital signature), N(INITIAL_CONTACT), " +
			"SAi(ESP:aes256gcm16-noesn), TSi(" + one[0].String() + "), TSr(" + one[0].String() + "), N(SET_WINDOW_SIZE 8)"},
		{"nobody", Header{Exchange: IKEAuth, Response: true, MessageID: 1}, []Payload{&ID{Responder: true, Kind: IDNull}, &Auth{Method: AuthNull}},
			"IKE_AUTH response 1: IDr(NULL), AUTH(NULL)"},
		{"rekeying", Header{Exchange: CreateChildSA, MessageID: 7}, []Payload{
			&Notify{Protocol: ipsec.ProtoESP, SPI: []byte{0xca, 0xfe, 0, 1}, Kind: RekeySA}, &Nonce{Data: fill(16, 1)}, &KE{Group: 35, Data: []byte{1}},
		}, "CREATE_CHILD_SA request 7: N(REKEY_SA ESP " + ipsec.SPI(0xcafe0001).String() + "), Ni, KEi(" + groupName(35) + ")"},
		{"another group", Header{Exchange: CreateChildSA, Response: true, MessageID: 7}, []Payload{&Notify{Kind: InvalidKEPayload, Data: []byte{0, 19}}},
			"CREATE_CHILD_SA response 7: N(INVALID_KE_PAYLOAD ecp256)"},
		{"deletions", Header{Exchange: Informational, Response: true, MessageID: 2}, []Payload{
			&Delete{Protocol: ipsec.ProtoESP, SPIs: []ipsec.SPI{0x100, 0x200}}, &Delete{Protocol: ipsec.ProtoIKE},
		}, "INFORMATIONAL response 2: D(ESP " + ipsec.SPI(0x100).String() + " " + ipsec.SPI(0x200).String() + "), D(IKE)"},
		{"liveness", Header{Exchange: Informational}, nil, "INFORMATIONAL request 0: empty"},
		{"what is not known", Header{Exchange: 240, MessageID: 9}, []Payload{
			&Unknown{Kind: 47}, &Unknown{Kind: 200, Critical: true}, &Notify{Kind: UnsupportedCriticalPayload, Data: []byte{200}}, &Notify{Kind: 40961},
		}, "exchange 240 request 9: CP, payload 200 (critical), N(UNSUPPORTED_CRITICAL_PAYLOAD payload 200), N(notify 40961)"},
		{"protected", Header{Exchange: IKEAuth, MessageID: 1}, []Payload{&Encrypted{Inner: TypeIDi}}, "IKE_AUTH request 1: SK"},
		{"fragment", Header{Exchange: IKEAuth, MessageID: 1}, []Payload{&Fragment{Number: 2, Total: 3}}, "IKE_AUTH request 1: SKF(2/3)"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := Describe(tt.h, tt.ps); got != tt.want {
				t.Errorf("\n got %s\nwant %s", got, tt.want)
			}
		})
	}
}

// TestDescribeBounded has a peer that sends as much as it can, and text that
// would deceive the reader of a log.
func TestDescribeBounded(t *testing.T) {
	var ps []Payload
	for range 50 {
		ps = append(ps, &ID{Kind: IDFQDN, Data: bytes.Repeat([]byte("é\n"), 10000)})
	}
	got := Describe(Header{Exchange: IKEAuth}, ps)
	if len(got) > maxDescription+100 || !strings.HasSuffix(got, " more") || strings.Contains(got, "\n") {
		t.Errorf("%d bytes: %.200s", len(got), got)
	}
	many := &SA{Proposals: make([]ipsec.Proposal, 100)}
	if got := Describe(Header{}, []Payload{many}); len(got) > 200 {
		t.Errorf("%d bytes of a hundred proposals", len(got))
	}
}

// TestDescribeKeepsSecrets looks for the bytes of what authenticates.
func TestDescribeKeepsSecrets(t *testing.T) {
	secret := []byte("swordfish")
	got := Describe(Header{}, []Payload{
		&Auth{Method: AuthPSK, Data: secret}, &Nonce{Data: append(secret, secret...)}, &KE{Group: 31, Data: secret},
		&Notify{Kind: Cookie, Data: secret}, &Notify{Kind: PPKIdentity, Data: secret}, &VendorID{Data: secret}, &Unknown{Kind: 48, Body: secret},
	})
	if strings.Contains(got, "sword") || strings.Contains(got, "73776f") {
		t.Error(got)
	}
}
