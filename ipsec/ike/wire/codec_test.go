package wire

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"reflect"
	"runtime"
	"strings"
	"testing"

	"github.com/ipsecfw/ipsecfw/ipsec"
)

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.Join(strings.Fields(s), ""))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// initRequest is an IKE_SA_INIT request, put together by hand from the
// drawings in RFC 7296 sections 3.1 to 3.10.
const initRequest = `
	0102030405060708              SPIi
	0000000000000000              SPIr, not known yet
	21 20 22 08                   SA next; version 2.0; IKE_SA_INIT; I
	00000000                      message ID
	000000b8                      length 184

	22 00 0030                    SA: KE next
	00 00 002c 01 01 00 04        the only proposal: number 1, IKE, no SPI, 4 transforms
	03 00 000c 01 00 000c         ENCR AES-CBC
	800e 0100                     Key Length 256
	03 00 0008 03 00 000c         INTEG HMAC-SHA2-256-128
	03 00 0008 02 00 0005         PRF HMAC-SHA2-256
	00 00 0008 04 00 001f         KE X25519

	28 00 0028                    KE: Nonce next
	001f 0000                     group 31
	0000000000000000111111111111111122222222222222223333333333333333

	29 00 0014                    Nonce: Notify next
	a0a1a2a3a4a5a6a7a8a9aaabacadaeaf

	29 00 001c                    Notify: Notify next
	00 00 4004                    NAT_DETECTION_SOURCE_IP
	5050505050505050505050505050505050505050

	2b 00 000c                    Notify: Vendor ID next
	00 00 402f                    SIGNATURE_HASH_ALGORITHMS
	0002 0003                     SHA2-256, SHA2-384

	00 00 0008                    Vendor ID, last
	deadbeef

	`

// annotated reads hexadecimal with a remark behind it on each line; a remark
// begins with two or more spaces.
func annotated(t testing.TB, s string) []byte {
	t.Helper()
	var b []byte
	for line := range strings.Lines(s) {
		data, _, _ := strings.Cut(strings.TrimSpace(line), "  ")
		b = append(b, unhex(t, data)...)
	}
	return b
}

var initHeader = Header{
	SPIi:         0x0102030405060708,
	Version:      Version2,
	Exchange:     IKESAInit,
	Initiator:    true,
	FirstPayload: TypeSA,
}

func initPayloads(t testing.TB) []Payload {
	return []Payload{
		&SA{Proposals: []ipsec.Proposal{{
			Number:   1,
			Protocol: ipsec.ProtoIKE,
			Transforms: []ipsec.Transform{
				{Type: ipsec.TypeEncr, ID: ipsec.EncrAESCBC, KeyBits: 256},
				{Type: ipsec.TypeInteg, ID: ipsec.IntegHMACSHA256},
				{Type: ipsec.TypePRF, ID: ipsec.PRFHMACSHA256},
				{Type: ipsec.TypeGroup, ID: ipsec.GroupX25519},
			},
		}}},
		&KE{Group: ipsec.GroupX25519, Data: unhex(t, "0000000000000000111111111111111122222222222222223333333333333333")},
		&Nonce{Data: unhex(t, "a0a1a2a3a4a5a6a7a8a9aaabacadaeaf")},
		&Notify{Kind: NATDetectionSourceIP, Data: fill(20, 0x50)},
		&Notify{Kind: SignatureHashAlgorithms, Data: []byte{0, 2, 0, 3}},
		&VendorID{Data: []byte{0xde, 0xad, 0xbe, 0xef}},
	}
}

func TestInitRequest(t *testing.T) {
	want := annotated(t, initRequest)
	got, err := Encode(initHeader, initPayloads(t))
	if err != nil || !bytes.Equal(got, want) {
		t.Fatalf("encode: %v\n got %x\nwant %x", err, got, want)
	}
	h, ps, err := Decode(want)
	if err != nil || h != initHeader || !reflect.DeepEqual(ps, initPayloads(t)) {
		t.Fatalf("decode: %v\n got %+v %+v", err, h, ps)
	}
}

func TestTruncated(t *testing.T) {
	msg := annotated(t, initRequest)
	for n := range msg {
		if _, _, err := Decode(msg[:n]); err == nil {
			t.Errorf("%d of %d bytes are taken for the whole", n, len(msg))
		}
		if n < headerLen {
			continue
		}
		cut := bytes.Clone(msg[:n])
		binary.BigEndian.PutUint32(cut[24:], uint32(n))
		if h, ps, err := Decode(cut); err == nil || h != initHeader || ps != nil {
			t.Errorf("%d of %d bytes, with the length set right: %+v %v %v", n, len(msg), h, ps, err)
		}
	}
}

func TestTrailing(t *testing.T) {
	msg := append(annotated(t, initRequest), 0)
	_, _, err := Decode(msg)
	wantError(t, err, NoNextPayload)
	binary.BigEndian.PutUint32(msg[24:], uint32(len(msg)))
	_, _, err = Decode(msg)
	wantError(t, err, NoNextPayload)
}

func TestHeader(t *testing.T) {
	for _, tt := range []struct {
		name string
		hex  string
		want Header
	}{
		{"response", "0102030405060708 1112131415161718 00 20 25 20 000000ff 0000001c", Header{
			SPIi: 0x0102030405060708, SPIr: 0x1112131415161718, Version: 0x20, Exchange: Informational,
			Response: true, MessageID: 255}},
		{"every known flag", "0102030405060708 1112131415161718 2e 21 23 38 ffffffff 0000001c", Header{
			SPIi: 0x0102030405060708, SPIr: 0x1112131415161718, Version: 0x21, Exchange: IKEAuth, FirstPayload: TypeEncrypted,
			Initiator: true, Response: true, HigherMinor: true, MessageID: 0xffffffff}},
		{"reserved flags", "0000000000000001 0000000000000002 00 20 24 c7 00000000 0000001c", Header{
			SPIi: 1, SPIr: 2, Version: 0x20, Exchange: CreateChildSA}},
		{"version 3", "0000000000000001 0000000000000000 21 30 22 08 00000000 0000001c", Header{
			SPIi: 1, Version: 0x30, Exchange: IKESAInit, Initiator: true, FirstPayload: TypeSA}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			h, err := ParseHeader(unhex(t, tt.hex))
			if err != nil || h != tt.want || h.Major() != tt.want.Version>>4 {
				t.Errorf("%v\n got %+v\nwant %+v", err, h, tt.want)
			}
		})
	}
}

func TestHeaderRefused(t *testing.T) {
	for _, tt := range []struct {
		name string
		hex  string
	}{
		{"nothing", ""},
		{"27 bytes", "0102030405060708 1112131415161718 00 20 25 20 000000ff 00001b"},
		{"length too small", "0102030405060708 1112131415161718 00 20 25 20 000000ff 0000001b"},
		{"length too great", "0102030405060708 1112131415161718 00 20 25 20 000000ff 0000001d"},
		{"length far too great", "0102030405060708 1112131415161718 00 20 25 20 000000ff ffffffff"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := ParseHeader(unhex(t, tt.hex))
			wantError(t, err, NoNextPayload)
			_, _, err = Decode(unhex(t, tt.hex))
			wantError(t, err, NoNextPayload)
		})
	}
}

func TestOtherVersions(t *testing.T) {
	for _, version := range []uint8{0, 0x10, 0x30} {
		msg := annotated(t, initRequest)
		msg[17] = version
		h, ps, err := Decode(msg)
		wantError(t, err, NoNextPayload)
		if h.Version != version || ps != nil {
			t.Errorf("version %#x: %+v %v", version, h, ps)
		}
		_, err = Encode(Header{Version: version}, nil)
		wantError(t, err, NoNextPayload)
	}
}

func TestChain(t *testing.T) {
	vendor := &VendorID{Data: []byte{1}}
	sealed := &Encrypted{Inner: TypeIDi, Body: []byte{9, 9}}
	for _, tt := range []struct {
		name string
		ps   []Payload
		hex  string // behind the header
	}{
		{"empty", nil, ""},
		{"SK alone", []Payload{sealed}, "23000006 0909"},
		{"SK last", []Payload{vendor, sealed}, "2e000005 01  23000006 0909"},
		{"empty SK", []Payload{&Encrypted{}}, "00000004"},
		{"unknown between", []Payload{vendor, &Unknown{Kind: 99, Critical: true}, vendor}, "63000005 01  2b800004  00000005 01"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			h := Header{Version: Version2, Exchange: Informational}
			b, err := Encode(h, tt.ps)
			if err != nil || !bytes.Equal(b[headerLen:], unhex(t, tt.hex)) {
				t.Fatalf("encode: %v %x", err, b)
			}
			if len(tt.ps) > 0 {
				h.FirstPayload = tt.ps[0].Type()
			}
			got, ps, err := Decode(b)
			if err != nil || got != h || !reflect.DeepEqual(ps, tt.ps) {
				t.Fatalf("decode: %v %+v %+v", err, got, ps)
			}
		})
	}
}

func TestChainRefused(t *testing.T) {
	for _, tt := range []struct {
		name  string
		first PayloadType
		hex   string
		about PayloadType
	}{
		{"bytes and no payload", NoNextPayload, "00", NoNextPayload},
		{"payload and no bytes", TypeVendorID, "", TypeVendorID},
		{"half a generic header", TypeVendorID, "0000", TypeVendorID},
		{"length 0", TypeVendorID, "2b000000 00000004", TypeVendorID},
		{"length 3", TypeVendorID, "00000003", TypeVendorID},
		{"length beyond the end", TypeVendorID, "00000006 01", TypeVendorID},
		{"next payload missing", TypeVendorID, "29000005 01", TypeNotify},
		{"bytes behind the last", TypeVendorID, "00000005 01 02", NoNextPayload},
		{"SK and bytes", TypeEncrypted, "00000004 00", TypeEncrypted},
		{"SK and a payload", TypeEncrypted, "2b000004 00000004", TypeEncrypted},
	} {
		t.Run(tt.name, func(t *testing.T) {
			b := append(make([]byte, headerLen), unhex(t, tt.hex)...)
			b[16], b[17] = byte(tt.first), Version2
			binary.BigEndian.PutUint32(b[24:], uint32(len(b)))
			_, _, err := Decode(b)
			wantError(t, err, tt.about)
			_, err = DecodePayloads(tt.first, b[headerLen:])
			wantError(t, err, tt.about)
		})
	}
}

func TestEncodeRefused(t *testing.T) {
	h := Header{Version: Version2}
	_, err := Encode(h, []Payload{&Encrypted{}, &VendorID{}})
	wantError(t, err, TypeEncrypted)
	long := &Cert{Encoding: CertX509, Data: make([]byte, 40000)}
	_, err = Encode(h, []Payload{long, long})
	wantError(t, err, NoNextPayload)
}

func TestFind(t *testing.T) {
	i, r := &ID{Kind: IDFQDN}, &ID{Responder: true, Kind: IDFQDN}
	tsi, tsr := &TS{}, &TS{Responder: true}
	n, c := &Notify{Kind: UseTransportMode}, &Notify{Kind: Cookie}
	ps := []Payload{i, r, tsi, tsr, n, c, &Nonce{}}
	if got, ok := Find[*ID](ps); !ok || got != i {
		t.Errorf("Find[*ID]: %v %v", got, ok)
	}
	if got, ok := Find[*KE](ps); ok || got != nil {
		t.Errorf("Find[*KE]: %v %v", got, ok)
	}
	if got, ok := FindID(ps, false); !ok || got != i {
		t.Errorf("IDi: %v %v", got, ok)
	}
	if got, ok := FindID(ps, true); !ok || got != r {
		t.Errorf("IDr: %v %v", got, ok)
	}
	if got, ok := FindTS(ps, false); !ok || got != tsi {
		t.Errorf("TSi: %v %v", got, ok)
	}
	if got, ok := FindTS(ps, true); !ok || got != tsr {
		t.Errorf("TSr: %v %v", got, ok)
	}
	if got, ok := FindNotify(ps, Cookie); !ok || got != c {
		t.Errorf("COOKIE: %v %v", got, ok)
	}
	if got, ok := FindNotify(ps, RekeySA); ok || got != nil {
		t.Errorf("REKEY_SA: %v %v", got, ok)
	}
}

// everything is a chain of all payloads that may follow each other.
func everything() []Payload {
	var ps []Payload
	for _, tt := range payloadCases {
		ps = append(ps, tt.p)
	}
	return ps
}

// FuzzDecode gives Decode what anybody may send to UDP port 500. It must not
// panic, and what it takes must be written as it was understood.
func FuzzDecode(f *testing.F) {
	f.Add(annotated(f, initRequest))
	for _, ps := range [][]Payload{nil, everything(), {&Encrypted{Inner: TypeIDi, Body: fill(40, 3)}}} {
		b, err := Encode(Header{SPIi: 1, SPIr: 2, Version: Version2, Exchange: IKEAuth, Response: true, MessageID: 1}, ps)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if _, _, err := Decode(b); len(b) < headerLen || len(b) > maxMessage {
			if len(b) < headerLen && err == nil {
				t.Fatal("a message shorter than its header was taken")
			}
			return
		}
		// A wrong length or version would hide the payloads from the fuzzer.
		b = bytes.Clone(b)
		b[17] = Version2 | b[17]&0x0f
		binary.BigEndian.PutUint32(b[24:], uint32(len(b)))
		h, ps, err := Decode(b)
		if err != nil {
			return
		}
		out, err := Encode(h, ps)
		if err != nil {
			t.Fatalf("encode: %v", err)
		}
		h2, ps2, err := Decode(out)
		if err != nil || h2 != h || !reflect.DeepEqual(ps, ps2) {
			t.Fatalf("again: %v\n got %+v %+v\nwant %+v %+v", err, h2, ps2, h, ps)
		}
	})
}

// FuzzDecodePayloads gives DecodePayloads what a peer that holds the keys may
// put inside an SK payload.
func FuzzDecodePayloads(f *testing.F) {
	for _, p := range everything() {
		first, b, err := EncodePayloads([]Payload{p})
		if err != nil {
			f.Fatal(err)
		}
		f.Add(uint8(first), b)
	}
	f.Fuzz(func(t *testing.T, first uint8, b []byte) {
		ps, err := DecodePayloads(PayloadType(first), b)
		if err != nil {
			return
		}
		for _, p := range ps {
			if id, ok := p.(*ID); ok && strings.ContainsAny(id.String(), "\r\n\x1b") {
				t.Errorf("an identity reads %q", id)
			}
		}
		first2, out, err := EncodePayloads(ps)
		if err != nil || first2 != PayloadType(first) {
			t.Fatalf("encode: %v, first %v", err, first2)
		}
		ps2, err := DecodePayloads(first2, out)
		if err != nil || !reflect.DeepEqual(ps, ps2) {
			t.Fatalf("again: %v\n got %+v\nwant %+v", err, ps2, ps)
		}
	})
}

func TestAllocationFollowsInput(t *testing.T) {
	// The most structures for the fewest bytes: empty payloads.
	const n = 10000
	b := bytes.Repeat([]byte{byte(TypeVendorID), 0, 0, genericLen}, n)
	b[len(b)-genericLen] = 0
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	ps, err := DecodePayloads(TypeVendorID, b)
	runtime.ReadMemStats(&after)
	allocated := after.TotalAlloc - before.TotalAlloc
	if err != nil || len(ps) != n {
		t.Fatalf("%d payloads, %v", len(ps), err)
	}
	if most := uint64(40 * len(b)); allocated > most {
		t.Errorf("%d bytes of input allocate %d bytes, more than %d", len(b), allocated, most)
	}
}
