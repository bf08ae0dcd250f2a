package test

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ipsecfw/ipsecfw/filter/packet"
	"github.com/ipsecfw/ipsecfw/ipsec"
	"github.com/ipsecfw/ipsecfw/ipsec/ah"
	"github.com/ipsecfw/ipsecfw/ipsec/esp"
	"github.com/ipsecfw/ipsecfw/ipsec/xform"
	"github.com/ipsecfw/ipsecfw/nfq"
)

// specimen is a packet under an SA, clear and as we have sealed it.
type specimen struct {
	name        string
	protocol    ipsec.ProtocolID
	spi         ipsec.SPI
	encr, integ ipsec.Transform
	esn         bool
	keys        ipsec.Keys
	seq         uint64
	outer       []byte // a packet whose header is the outer one in tunnel mode, or nil
	clear       []byte
	headerLen   int // of the sealed packet's IP header
	sealed      []byte
	route       int // where a routing header stands, with an address to come; 0 for none
}

// params are those of a new SA whose next packet is the specimen.
func (s *specimen) params() ipsec.Params {
	return ipsec.Params{
		SPI: s.spi, Encr: s.encr, Integ: s.integ, ESN: s.esn, Last: s.seq - 1,
		Keys:   ipsec.Keys{Encr: bytes.Clone(s.keys.Encr), Integ: bytes.Clone(s.keys.Integ)},
		Outer6: s.header()[0]>>4 == 6,
	}
}

// header is the packet that begins with the IP header that stands before ESP
// or AH.
func (s *specimen) header() []byte {
	if s.outer != nil {
		return s.outer
	}
	return s.clear
}

// arrived returns a packet as it is when it has been at the address of its
// routing header.
func (s *specimen) arrived(ip []byte) []byte {
	ip = bytes.Clone(ip)
	if s.route != 0 {
		ip[s.route+3] = 0 // segments left
		via, to := ip[s.route+8:][:16], ip[24:40]
		for i := range to {
			via[i], to[i] = to[i], via[i]
		}
	}
	return ip
}

func (s *specimen) sealer() (nfq.Sealer, error) {
	if s.protocol == ipsec.ProtoAH {
		return ah.NewOutbound(s.params())
	}
	return esp.NewOutbound(s.params())
}

func (s *specimen) opener() (nfq.Opener, error) {
	if s.protocol == ipsec.ProtoAH {
		return ah.NewInbound(s.params())
	}
	return esp.NewInbound(s.params())
}

// seal fills in the sealed packet.
func (s *specimen) seal(t *testing.T) {
	t.Helper()
	o, err := s.sealer()
	must(t, err)
	var p packet.Packet
	must(t, packet.Parse(s.arrived(s.header()), &p))
	payload, next := s.clear[p.HeaderLen:], p.Protocol
	if s.outer != nil {
		payload, next = s.clear, esp.IPv4Packet
		if s.clear[0]>>4 == 6 {
			next = esp.IPv6Packet
		}
	}
	ip := bytes.Clone(s.header()[:p.HeaderLen])
	ip[p.NextHeaderAt] = o.Protocol()
	ip, err = o.Seal(ip, payload, next)
	must(t, err)
	if p.Is4() {
		binary.BigEndian.PutUint16(ip[2:], uint16(len(ip)))
		packet.FinishHeaderChecksum(ip[:p.HeaderLen])
	} else {
		binary.BigEndian.PutUint16(ip[4:], uint16(len(ip)-packet.IPv6HeaderLen))
	}
	o.Finish(ip, p.HeaderLen)
	s.headerLen, s.sealed = p.HeaderLen, ip
}

// open opens a sealed packet when it has arrived, and returns the clear one.
func (s *specimen) open(t *testing.T, sealed []byte) []byte {
	t.Helper()
	in, err := s.opener()
	must(t, err)
	sealed = s.arrived(sealed)
	payload, next, err := in.Open(sealed[:s.headerLen], sealed[s.headerLen:])
	if err != nil {
		t.Errorf("%s: ours does not open it: %v", s.name, err)
		return nil
	}
	if s.outer != nil {
		return payload
	}
	var p packet.Packet
	clear := s.arrived(s.clear)
	must(t, packet.Parse(clear, &p))
	if next != p.Protocol {
		t.Errorf("%s: next header %d, want %d", s.name, next, p.Protocol)
	}
	return append(clear[:s.headerLen], payload...)
}

// scapyNames are Scapy's names for our transforms. AES-GCM with short ICVs and
// AES-XCBC are the script's own.
var (
	scapyCiphers = map[uint16]string{
		ipsec.EncrNull: "NULL", ipsec.Encr3DES: "3DES", ipsec.EncrAESCBC: "AES-CBC", ipsec.EncrAESCTR: "AES-CTR",
		ipsec.EncrAESGCM8: "AES-GCM-8", ipsec.EncrAESGCM12: "AES-GCM-12", ipsec.EncrAESGCM16: "AES-GCM",
		ipsec.EncrAESCCM8: "AES-CCM", ipsec.EncrAESCCM12: "AES-CCM", ipsec.EncrAESCCM16: "AES-CCM",
		ipsec.EncrChaCha20Poly1305: "CHACHA20-POLY1305",
	}
	scapyICVs        = map[uint16]int{ipsec.EncrAESCCM8: 8, ipsec.EncrAESCCM12: 12} // where they are not those of the name
	scapyIntegrities = map[uint16]string{
		ipsec.IntegHMACSHA1: "HMAC-SHA1-96", ipsec.IntegHMACSHA256: "SHA2-256-128", ipsec.IntegHMACSHA384: "SHA2-384-192",
		ipsec.IntegHMACSHA512: "SHA2-512-256", ipsec.IntegAESCMAC: "AES-CMAC-96", ipsec.IntegAESXCBC: "AES-XCBC-96",
	}
)

// What specimens hold, to a port that means nothing to Wireshark.
const (
	specimenPayload = "a payload that does not fill its last block"
	specimenPort    = 40001
)

// specimenPackets are clear packets and outer headers.
func specimenPackets(t *testing.T) (clear [2][]byte, outer [2][]byte) {
	datagram := func(from, to string, payload string) []byte {
		src, dst := netip.MustParseAddr(from), netip.MustParseAddr(to)
		n := 8 + len(payload)
		var b []byte
		if src.Is4() {
			b = packet.AppendIPv4Header(nil, src, dst, packet.UDP, 0xb9, 63, n, true)
			binary.BigEndian.PutUint16(b[4:], 0x1234) // identification
			packet.FinishHeaderChecksum(b)
		} else {
			b = packet.AppendIPv6Header(nil, src, dst, packet.UDP, 0xb9, 63, n)
			b[2], b[3] = 0x12, 0x34 // flow label
		}
		for _, x := range []int{40000, specimenPort, n, 0} {
			b = binary.BigEndian.AppendUint16(b, uint16(x))
		}
		b = append(b, payload...)
		var p packet.Packet
		must(t, packet.Parse(b, &p))
		packet.FinishChecksum(b, &p)
		return b
	}
	clear = [2][]byte{datagram("192.0.2.1", "192.0.2.77", specimenPayload), datagram("2001:db8::1", "2001:db8::77", specimenPayload)}
	outer = [2][]byte{datagram("198.51.100.1", "198.51.100.2", ""), datagram("2001:db8:1::1", "2001:db8:1::2", "")}
	return clear, outer
}

// Headers that AH covers in part: IPv4 options, and IPv6 extension headers.
func optionPackets(t *testing.T) map[string][]byte {
	clear, _ := specimenPackets(t)
	four := func(options ...byte) []byte {
		b := append(append(bytes.Clone(clear[0][:20]), options...), clear[0][20:]...)
		b[0] = 0x40 | byte(20+len(options))/4
		binary.BigEndian.PutUint16(b[2:], uint16(len(b)))
		packet.FinishHeaderChecksum(b[:20+len(options)])
		return b
	}
	six := func(first byte, headers ...byte) []byte {
		b := append(append(bytes.Clone(clear[1][:40]), headers...), clear[1][40:]...)
		b[6] = first
		binary.BigEndian.PutUint16(b[4:], uint16(len(b)-40))
		return b
	}
	via := netip.MustParseAddr("2001:db8::99").As16()
	return map[string][]byte{
		"router alert":        four(148, 4, 0, 0),
		"record route":        four(7, 11, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0),
		"timestamp":           four(68, 8, 5, 0, 0, 0, 0, 0),
		"security":            four(130, 11, 1, 2, 3, 4, 5, 6, 7, 8, 9, 0),
		"stream and alert":    four(136, 4, 1, 2, 148, 4, 0, 0),
		"hop-by-hop":          six(0, packet.UDP, 0, 5, 2, 0, 0, 1, 0),
		"mutable hop-by-hop":  six(0, packet.UDP, 0, 0x3e, 4, 1, 2, 3, 4),
		"mutable destination": six(60, packet.UDP, 1, 0x1e, 2, 1, 2, 0x3e, 6, 1, 2, 3, 4, 5, 6, 0, 0),
		"routing":             six(43, append([]byte{packet.UDP, 2, 0, 1, 0, 0, 0, 0}, via[:]...)...),
		"three of them":       six(0, append([]byte{43, 0, 0x3e, 4, 1, 2, 3, 4, packet.UDP, 2, 0, 1, 0, 0, 0, 0}, via[:]...)...),
	}
}

// specimens are packets for every algorithm that Scapy or its library has, in
// both modes, with and without ESN.
func specimens(t *testing.T) []*specimen {
	clear, outer := specimenPackets(t)
	var out []*specimen
	versions := []string{"IPv4", "IPv6"}
	add := func(protocol ipsec.ProtocolID, encr, integ ipsec.Transform) {
		e, i, err := xform.KeyLens(encr, integ)
		must(t, err)
		key := func(n int, first byte) []byte {
			k := make([]byte, n)
			for j := range k {
				k[j] = first + byte(7*j)
			}
			return k
		}
		for _, esn := range []bool{false, true} {
			s := specimen{
				protocol: protocol, spi: 0x5ca9ca9e, encr: encr, integ: integ, esn: esn, seq: 0xfffffff1,
				keys: ipsec.Keys{Encr: key(e, 1), Integ: key(i, 3)},
			}
			if esn {
				s.seq += 7 << 32
			}
			words := []string{protocol.String()}
			for _, t := range []ipsec.Transform{encr, integ} {
				if t != (ipsec.Transform{}) {
					words = append(words, t.String())
				}
			}
			protection := fmt.Sprintf("%s esn=%v", strings.Join(words, " "), esn)
			for v, inner := range clear {
				x := s
				x.name, x.clear = protection+" transport "+versions[v], inner
				out = append(out, &x)
				for w, header := range outer {
					x := s
					x.name, x.clear, x.outer = fmt.Sprintf("%s tunnel %s in %s", protection, versions[v], versions[w]), inner, header
					out = append(out, &x)
				}
			}
			if protocol == ipsec.ProtoAH && integ.ID == ipsec.IntegHMACSHA256 {
				for name, inner := range optionPackets(t) {
					x := s
					x.name, x.clear = protection+" transport, "+name, inner
					x.route = map[string]int{"routing": 40, "three of them": 48}[name]
					out = append(out, &x)
				}
			}
		}
	}
	for _, encr := range ipsec.Transforms(ipsec.ProtoESP, ipsec.TypeEncr) {
		switch {
		case scapyCiphers[encr.ID] == "": // AES-GMAC
		case encr.AEAD():
			add(ipsec.ProtoESP, encr, ipsec.Transform{})
		default:
			for _, integ := range ipsec.Transforms(ipsec.ProtoESP, ipsec.TypeInteg) {
				add(ipsec.ProtoESP, encr, integ)
			}
		}
	}
	for _, integ := range ipsec.Transforms(ipsec.ProtoAH, ipsec.TypeInteg) {
		if scapyIntegrities[integ.ID] != "" {
			add(ipsec.ProtoAH, ipsec.Transform{}, integ)
		}
	}
	return out
}

// scapyRequest is a line for the script.
type scapyRequest struct {
	Protocol          string
	SPI               ipsec.SPI
	Encr, Integ       string
	EncrKey, IntegKey string
	EncrICV           int // bytes; 0 for that of the algorithm
	ESN               bool
	High, Low         uint32
	IV                string
	Outer             string
	Clear, Sealed     string
}

func (s *specimen) request() scapyRequest {
	r := scapyRequest{
		Protocol: s.protocol.String(), SPI: s.spi,
		Encr: scapyCiphers[s.encr.ID], EncrKey: hex.EncodeToString(s.keys.Encr), EncrICV: scapyICVs[s.encr.ID],
		Integ: scapyIntegrities[s.integ.ID], IntegKey: hex.EncodeToString(s.keys.Integ),
		ESN: s.esn, Low: uint32(s.seq),
		Clear: hex.EncodeToString(s.clear), Sealed: hex.EncodeToString(s.arrived(s.sealed)),
	}
	if s.outer != nil {
		r.Outer = hex.EncodeToString(s.outer[:s.headerLen])
	}
	if s.esn {
		r.High = uint32(s.seq >> 32)
	}
	if s.protocol == ipsec.ProtoESP {
		iv := 8
		switch s.encr.ID {
		case ipsec.EncrNull:
			iv = 0
		case ipsec.EncrAESCBC:
			iv = 16
		}
		r.IV = hex.EncodeToString(s.sealed[s.headerLen+8:][:iv])
	}
	return r
}

// scapyModule is Scapy's IPsec layer.
const scapyModule = "/usr/lib/python3/dist-packages/scapy/layers/ipsec.py"

// Scapy opens what we seal, and seals as we do, byte for byte; and we open it.
func TestScapy(t *testing.T) {
	const python = "/usr/bin/python3" // Debian's, for which the module is
	need(t, python, scapyModule)
	all := specimens(t)
	var requests bytes.Buffer
	lines := json.NewEncoder(&requests)
	for _, s := range all {
		s.seal(t)
		must(t, lines.Encode(s.request()))
	}
	cmd := exec.CommandContext(t.Context(), python, "scapy_ipsec.py")
	cmd.Stdin = &requests
	var problem strings.Builder
	cmd.Stderr = &problem
	out, err := cmd.StdoutPipe()
	must(t, err)
	must(t, cmd.Start())
	answers := bufio.NewScanner(out)
	answers.Buffer(nil, 1<<20)
	compare := func(s *specimen) {
		if !answers.Scan() {
			t.Fatalf("%s: no answer: %v\n%s", s.name, answers.Err(), &problem)
		}
		var a struct{ Opened, Sealed, Error string }
		must(t, json.Unmarshal(answers.Bytes(), &a))
		switch theirs, err := hex.DecodeString(a.Sealed); {
		case a.Error != "":
			t.Errorf("%s: %s", s.name, a.Error)
		case err != nil:
			t.Errorf("%s: %v", s.name, err)
		case a.Opened != hex.EncodeToString(s.arrived(s.clear)):
			t.Errorf("%s: Scapy opened it to %s\nand not %x", s.name, a.Opened, s.arrived(s.clear))
		case !bytes.Equal(theirs, s.sealed):
			t.Errorf("%s: Scapy seals it as %x\nand we as %x", s.name, theirs, s.sealed)
		default:
			if got := s.open(t, theirs); !bytes.Equal(got, s.arrived(s.clear)) {
				t.Errorf("%s: we opened it to %x\nand not %x", s.name, got, s.arrived(s.clear))
			}
		}
	}
	for _, s := range all {
		compare(s)
	}
	_, err = io.Copy(io.Discard, out)
	must(t, err)
	if err := cmd.Wait(); err != nil {
		t.Fatalf("%v\n%s", err, &problem)
	}
	t.Logf("%d packets", len(all))
}

// Wireshark's names for what it can decrypt and check.
var (
	wiresharkCiphers = map[uint16]string{
		ipsec.EncrNull: "NULL", ipsec.Encr3DES: "TripleDES-CBC [RFC2451]", ipsec.EncrAESCBC: "AES-CBC [RFC3602]", ipsec.EncrAESCTR: "AES-CTR [RFC3686]",
		ipsec.EncrAESGCM8: "AES-GCM with 8 octet ICV [RFC4106]", ipsec.EncrAESGCM12: "AES-GCM with 12 octet ICV [RFC4106]",
		ipsec.EncrAESGCM16: "AES-GCM with 16 octet ICV [RFC4106]",
	}
	wiresharkIntegrities = map[uint16]string{
		ipsec.IntegNone: "NULL", ipsec.IntegHMACSHA1: "HMAC-SHA-1-96 [RFC2404]", ipsec.IntegHMACSHA256: "HMAC-SHA-256-128 [RFC4868]",
		ipsec.IntegHMACSHA384: "HMAC-SHA-384-192 [RFC4868]", ipsec.IntegHMACSHA512: "HMAC-SHA-512-256 [RFC4868]",
	}
)

// Wireshark with the keys decodes what we seal, and finds every ICV right, and
// one wrong that is.
func TestWiresharkESP(t *testing.T) {
	need(t, "tshark")
	args := []string{"-o", "esp.enable_encryption_decode:TRUE", "-o", "esp.enable_authentication_check:TRUE"}
	file := binary.NativeEndian.AppendUint32(nil, 0xa1b2c3d4) // pcap, raw IP
	file = binary.NativeEndian.AppendUint32(file, 2|4<<16)
	for _, n := range []uint32{0, 0, 65535, 101} {
		file = binary.NativeEndian.AppendUint32(file, n)
	}
	var written []*specimen
	spoiled := map[int]bool{}
	for _, s := range specimens(t) {
		cipher, integrity := wiresharkCiphers[s.encr.ID], wiresharkIntegrities[s.integ.ID]
		if s.protocol != ipsec.ProtoESP || s.esn || cipher == "" || integrity == "" {
			continue
		}
		s.spi = ipsec.SPI(0x1000 + len(written))
		s.seal(t)
		if len(written)%50 == 7 {
			spoiled[len(written)] = true
			s.sealed[len(s.sealed)-1] ^= 1
		}
		for _, n := range []uint32{0, 0, uint32(len(s.sealed)), uint32(len(s.sealed))} {
			file = binary.NativeEndian.AppendUint32(file, n)
		}
		file = append(file, s.sealed...)
		family := "IPv4"
		if s.sealed[0]>>4 == 6 {
			family = "IPv6"
		}
		secret := func(b []byte) string {
			if len(b) == 0 {
				return ""
			}
			return fmt.Sprintf("0x%x", b)
		}
		args = append(args, "-o", fmt.Sprintf("uat:esp_sa:%q,\"*\",\"*\",\"0x%s\",%q,%q,%q,%q", family, s.spi, cipher, secret(s.keys.Encr), integrity, secret(s.keys.Integ)))
		written = append(written, s)
	}
	capture := filepath.Join(t.TempDir(), "esp.pcap")
	must(t, os.WriteFile(capture, file, 0o600))
	args = append(args, "-r", capture, "-T", "fields", "-e", "esp.icv_good", "-e", "esp.icv_bad", "-e", "udp.dstport", "-e", "data.data")
	cmd := exec.Command("tshark", args...)
	cmd.Env = append(os.Environ(), "XDG_CONFIG_HOME="+t.TempDir())
	var problem strings.Builder
	cmd.Stderr = &problem
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%v\n%s", err, &problem)
	}
	lines := strings.Split(strings.TrimSuffix(string(out), "\n"), "\n")
	if len(lines) != len(written) || len(spoiled) < 4 {
		t.Fatalf("%d packets of %d, %d of them spoiled\n%s", len(lines), len(written), len(spoiled), &problem)
	}
	for i, s := range written {
		good := fmt.Sprintf("1\t0\t%d\t%x", specimenPort, specimenPayload)
		if spoiled[i] {
			if !strings.HasPrefix(lines[i], "0\t1\t") {
				t.Errorf("%s, with a wrong ICV: tshark says %q", s.name, lines[i])
			}
		} else if lines[i] != good {
			t.Errorf("%s: tshark says %q\nand not %q", s.name, lines[i], good)
		}
	}
	t.Logf("%d packets", len(written))
}
