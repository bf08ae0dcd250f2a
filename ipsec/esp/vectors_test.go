package esp

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"testing"

	"github.com/ipsecfw/ipsecfw/ipsec"
)

var (
	gcm128 = ipsec.Transform{Type: ipsec.TypeEncr, ID: ipsec.EncrAESGCM16, KeyBits: 128}
	gcm256 = ipsec.Transform{Type: ipsec.TypeEncr, ID: ipsec.EncrAESGCM16, KeyBits: 256}
	chacha = ipsec.Transform{Type: ipsec.TypeEncr, ID: ipsec.EncrChaCha20Poly1305}
	cbc128 = ipsec.Transform{Type: ipsec.TypeEncr, ID: ipsec.EncrAESCBC, KeyBits: 128}
	cbc256 = ipsec.Transform{Type: ipsec.TypeEncr, ID: ipsec.EncrAESCBC, KeyBits: 256}
	sha1   = ipsec.Transform{Type: ipsec.TypeInteg, ID: ipsec.IntegHMACSHA1}
	sha256 = ipsec.Transform{Type: ipsec.TypeInteg, ID: ipsec.IntegHMACSHA256}
	sha384 = ipsec.Transform{Type: ipsec.TypeInteg, ID: ipsec.IntegHMACSHA384}
	sha512 = ipsec.Transform{Type: ipsec.TypeInteg, ID: ipsec.IntegHMACSHA512}
)

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// vectors are whole packets of AEADs. Contents are the payload with padding
// and trailer. The numbers are those of the cases in
// draft-mcgrew-gcm-test-01 section 4, without those of AES-192 and of SPI 0.
var vectors = []struct {
	name     string
	encr     ipsec.Transform
	esn      bool
	keymat   string
	seq      uint64
	contents string
	packet   string
}{
	{
		name: "RFC 7634 appendix A", encr: chacha, seq: 5,
		keymat: "808182838485868788898a8b8c8d8e8f909192939495969798999a9b9c9d9e9f" + "a0a1a2a3",
		contents: "45000054a6f200004001e778c6336405c000020508005b7a3a080000553bec10" +
			"0007362708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f20212223" +
			"2425262728292a2b2c2d2e2f3031323334353637" + "01020204",
		packet: "01020304" + "00000005" + "1011121314151617" +
			"24039428b97f417e3c13753a4f05087b67c352e6a7fab1b982d466ef407ae5c6" +
			"14ee8099d52844eb61aa95dfab4c02f72aa71e7c4c4f64c9befe2facc638e8f3" +
			"cbec163fac469b502773f6fb94e664da9165b82829f641e0" +
			"76aaa8266b7fb0f7b11b369907e1ad43",
	},
	{
		name: "GCM 1", encr: gcm128, esn: true, seq: 0x8765432100000000,
		keymat: "4c80cdefbb5d10da906ac73c3613a634" + "2e443b68",
		contents: "45000048699a000080114db7c0a80102c0a801010a9bf15638d3010000010000" +
			"00000000045f736970045f756470037369700963796265726369747902646b00" +
			"0021000101020201",
		packet: "00004321" + "00000000" + "4956ed7e3b244cfe" +
			"fecf537e729d5b07dc30df528dd22b768d1b98736696a6fd348509fa13ceac34" +
			"cfa2436f14a3f3cf65925bf1f4a13c5d15b21e1884f5ff6247aeabb786b93bce" +
			"61bc17d768fd9732" + "459018148f6cbe722fd04796562dfdb4",
	},
	{
		name: "GCM 2", encr: gcm128, seq: 10,
		keymat: "feffe9928665731c6d6a8f9467308308" + "cafebabe",
		contents: "4500003e698f000080114dccc0a80102c0a801010a980035002a2343b2d00100" +
			"0001000000000000037369700963796265726369747902646b00000100010001",
		packet: "0000a5f8" + "0000000a" + "facedbaddecaf888" +
			"deb22cd9b07c72c16e3a65beeb8df304a5a5897d33ae530f1ba76d5d114d2a5c" +
			"3de81827c10e9a4f51330d0eec416642cfbb85a5b47e48a4ec3b9ba95d918bd1" +
			"83b70d3aa8bc6ee4c309e9d85a41ad4a",
	},
	{
		name: "GCM 3", encr: gcm256, seq: 2,
		keymat: "abbccddef00112233445566778899aababbccddef00112233445566778899aab" + "11223344",
		contents: "4500003069a6400080062690c0a801029389155e0a9e008b2dc57ee000000000" +
			"7002400020bf0000020405b40101040201020201",
		packet: "4a2cbfe3" + "00000002" + "0102030405060708" +
			"ff425c9b724599df7a3bcd510194e00d6a78107f1b0b1cbf06efae9d65a5d763" +
			"748a637985771d347f0545659f14e99def842d8e" +
			"b335f4eecfdbf831824b4c4915956c96",
	},
	{
		name: "GCM 5", encr: gcm128, esn: true, seq: 0x1010101010101010,
		keymat: "3de09874b388e6491988d0c3607eae1f" + "57690e43",
		contents: "4500003c99c300008001cb7c40679318010101010800085c0200430061626364" +
			"65666768696a6b6c6d6e6f707172737475767761626364656667686901020201",
		packet: "42f67e3f" + "10101010" + "4e280000a2fca1a3" +
			"fba2caa4853cf9f0f22cb10d86dd83b0fec75691cf1a04b00d1138ec9c357917" +
			"65acbd8701ad79845bf9fe3fba487bc91755e6662b4c8d0d1f5e22739530320a" +
			"e0d731cc978ecafaeae88f00e80d6e48",
	},
	{
		name: "GCM 8", encr: gcm128, esn: true, seq: 1,
		keymat: "abbccddef00112233445566778899aab" + "decaf888",
		contents: "4500004933ba00007f119106c3fb1d10c2b1d326c02831ce0035dd7b800302d5" +
			"00004e20001e8c18d75b81dc91baa0476b91b924b280389d92c963bac046ec95" +
			"9b6266c04722b14923010101",
		packet: "00000100" + "00000001" + "cafedebaceface74" +
			"18a6fd42f72cbf4ab2a2ea901f73d814e3e7f243d95412e1c349c1d2fbec168f" +
			"9190feebaf2cb01984e65863965d7472b79da345e0e780191f0d2f0e0f496c22" +
			"6f2127b27db35724e7845d68" + "651f57e65f354f75ff17015769623436",
	},
	{
		name: "GCM 12", encr: gcm256, esn: true, seq: 0x156f3126dd0db99b,
		keymat: "abbccddef00112233445566778899aababbccddef00112233445566778899aab" + "73616c74",
		contents: "636973636f0172756c657301746865016e6574776501646566696e6501746865" +
			"746563686e6f6c6f67696573017468617477696c6c01646566696e65746f6d6f" +
			"72726f7701020201",
		packet: "17405e67" + "dd0db99b" + "616e640169766563" +
			"d4b7ed86a1777f2ea13d6973d324c69e7b43f826fb56831226508bebd2dceb18" +
			"d0a6df10e5487df074113e14c641024e3e6773d91a62ee429b043a10e3efe6b0" +
			"12a49363412364f8" + "c0cac587f249e56b11e24f30e44ccc76",
	},
	{
		name: "GCM 13", encr: gcm128, seq: 0xffffffff,
		keymat:   "7d773d00c144c525ac619d18c84a3f47" + "d9664267",
		contents: "01020201",
		packet:   "335467ae" + "ffffffff" + "43457e9182443bc6" + "437f866b" + "cb3f699fe9b0822bac961c4504bef270",
	},
	{
		name: "GCM 15", encr: gcm256, esn: true, seq: 0xffffffffffffffff,
		keymat: "6c6567616c697a656d6172696a75616e61616e64646f69746265666f72656961" + "7475726e",
		contents: "45000030da3a00008001df3bc0a80005c0a800010800c6cd0200070061626364" +
			"65666768696a6b6c6d6e6f707172737401020201",
		packet: "796b6963" + "ffffffff" + "333021696765746d" +
			"f97ab2aa356d8edce17644ac8c78e25dd24dedbb29ebf1b64a274b39b49c3a86" +
			"4cd3d78ca4ae68a32b42458fb57dbe821dcc63b9" +
			"d0937ba2945f669368661a329fb4c053",
	},
}

func TestVectors(t *testing.T) {
	for _, tt := range vectors {
		t.Run(tt.name, func(t *testing.T) {
			packet, contents := unhex(t, tt.packet), unhex(t, tt.contents)
			p := ipsec.Params{
				SPI:  ipsec.SPI(binary.BigEndian.Uint32(packet)),
				Encr: tt.encr, ESN: tt.esn, Keys: ipsec.Keys{Encr: unhex(t, tt.keymat)},
			}
			s, err := newSuite(p)
			if err != nil {
				t.Fatal(err)
			}
			pkt := append(bytes.Clone(packet[:16]), contents...)
			pkt = append(pkt, make([]byte, 16)...)
			s.seal(pkt, uint32(tt.seq>>32))
			if !bytes.Equal(pkt, packet) {
				t.Errorf("sealed %x\nwant   %x", pkt, packet)
			}

			p.Last = tt.seq - 1
			in, err := NewInbound(p)
			if err != nil {
				t.Fatal(err)
			}
			payload, nextHeader, err := in.Open(nil, packet)
			if err != nil {
				t.Fatal(err)
			}
			want, pad := contents[:len(contents)-2], int(contents[len(contents)-2])
			want = want[:len(want)-pad]
			if !bytes.Equal(payload, want) {
				t.Errorf("opened %x\nwant   %x", payload, want)
			}
			if nextHeader != contents[len(contents)-1] {
				t.Errorf("next header %d", nextHeader)
			}
		})
	}
}
