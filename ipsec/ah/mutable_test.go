package ah

import (
	"bytes"
	"encoding/hex"
	"strings"
	"testing"
)

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.ReplaceAll(s, " ", ""))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// Headers, without and with options or extension headers, and what of them is
// covered. %s is the next header.
const (
	four    = "10 ff 0064 1234 4000 40 33 abcd c0000201 c0000202"
	zeroed  = "10 00 0064 1234 0000 00 33 0000 c0000201 c0000202"
	head6   = "6fffffff 0040 %s ff 20010db8000000000000000000000001 20010db8000000000000000000000002"
	zeroed6 = "60000000 0040 %s 00 20010db8000000000000000000000001 20010db8000000000000000000000002"
	first   = "20010db800000000000000000000000a"
	second  = "20010db800000000000000000000000b"
)

func with(s, next string) string { return strings.ReplaceAll(s, "%s", next) }

func ipv4(base, words, options string) string { return "4" + words + base[2:] + options }

func TestCovered(t *testing.T) {
	for _, tt := range []struct {
		name   string
		header string
		want   string // as the ICV covers it, sent or received; empty for malformed
	}{
		{"IPv4", ipv4(four, "5", ""), ipv4(zeroed, "5", "")},
		{"IPv4 option that stays", ipv4(four, "6", "94040000"), ipv4(zeroed, "6", "94040000")},
		{"security options", ipv4(four, "8", "82038585 038601860301 0100"), ipv4(zeroed, "8", "82038585 038601860301 0100")},
		{"all that stay", ipv4(four, "9", "820385850386860301950301 01000000"), ipv4(zeroed, "9", "820385850386860301950301 01000000")},
		{"timestamp", ipv4(four, "8", "440c0501 00000001 00000002"), ipv4(zeroed, "8", "000000000000000000000000")},
		{"record route among others", ipv4(four, "8", "01 070704 c0000263 94040000"), ipv4(zeroed, "8", "01 00000000000000 94040000")},
		{"unknown option", ipv4(four, "6", "de04ffff"), ipv4(zeroed, "6", "00000000")},
		{"after the end of options", ipv4(four, "6", "00ffffff"), ipv4(zeroed, "6", "00ffffff")},
		{"strict route at its end", ipv4(four, "8", "01 890b0c c0000264 c0000265"), ipv4(zeroed, "8", "01 0000000000000000000000")},
		{"option of no length", ipv4(four, "6", "83000000"), ""},
		{"option that is too long", ipv4(four, "6", "83050000"), ""},
		{"option without a length", ipv4(four, "6", "01010183"), ""},
		{"more fragments", ipv4("00 00 0064 1234 2000 40 33 abcd c0000201 c0000202", "5", ""), ""},
		{"last fragment", ipv4("00 00 0064 1234 0001 40 33 abcd c0000201 c0000202", "5", ""), ""},
		{"header of another length", ipv4(four, "6", ""), ""},
		{"IPv5", "5" + ipv4(four, "5", "")[1:], ""},

		{"IPv6", with(head6, "33"), with(zeroed6, "33")},
		{"hop-by-hop options", with(head6, "00") + "3301 0502abcd 3e04ffffffff 00 0101 00", with(zeroed6, "00") + "3301 0502abcd 3e0400000000 00 0101 00"},
		{"destination options", with(head6, "3c") + "3300 c202ffff e200", with(zeroed6, "3c") + "3300 c202ffff e200"},
		{"an option that changes", with(head6, "3c") + "3300 e204ffffffff", with(zeroed6, "3c") + "3300 e20400000000"},
		{"routing header at its end", with(head6, "2b") + "3304000000000000" + first + second, with(zeroed6, "2b") + "3304000000000000" + first + second},
		{"type 4", with(head6, "2b") + "3302040100000000" + first, with(zeroed6, "2b") + "3302040100000000" + first},
		{"fragment header of a whole packet", with(head6, "2c") + "3300000012345678", strings.Replace(with(zeroed6, "33"), "0040", "0038", 1)},
		{"that before others", with(head6, "3c") + "2c00010400000000" + "3c00000012345678" + "3300010400000000",
			strings.Replace(with(zeroed6, "3c"), "0040", "0038", 1) + "3c00010400000000" + "3300010400000000"},
		{"fragment", with(head6, "2c") + "3300000112345678", ""},
		{"last fragment of IPv6", with(head6, "2c") + "3300000812345678", ""},
		{"not followed by AH", with(head6, "3c") + "1100010400000000", ""},
		{"not AH", with(head6, "11"), ""},
		{"unknown header", with(head6, "87") + "3300010400000000", ""},
		{"header that is cut off", with(head6, "3c") + "3300010400", ""},
		{"header that is too long", with(head6, "3c") + "3301010400000000", ""},
		{"option that is cut off", with(head6, "3c") + "3300010600000000", ""},
		{"option of one byte", with(head6, "3c") + "3300000000000001", ""},
		{"too short", "6fffffff 0040 33 ff 20010db8", ""},
	} {
		t.Run(tt.name, func(t *testing.T) { checkCovered(t, tt.header, tt.want, tt.want) })
	}
}

// Who sends a source-routed packet knows how it arrives.
func TestCoveredRoute(t *testing.T) {
	for _, tt := range []struct {
		name          string
		header        string
		sent, arrived string // as the ICV covers them
	}{
		{"loose route to come", ipv4(four, "8", "01 830b04 c0000264 c0000265"),
			ipv4("10 00 0064 1234 0000 00 33 0000 c0000201 c0000265", "8", "01 000000 00000000 00000000"),
			ipv4(zeroed, "8", "01 000000 00000000 00000000")},
		{"type 0 to come", with(head6, "2b") + "3304000200000000" + first + second,
			with(strings.Replace(zeroed6, "20010db8000000000000000000000002", second, 1), "2b") + "3304000000000000" + "20010db8000000000000000000000002" + first,
			with(zeroed6, "2b") + "3304000200000000" + first + second},
		{"type 0 half way", with(head6, "2b") + "3304000100000000" + first + second,
			with(strings.Replace(zeroed6, "20010db8000000000000000000000002", second, 1), "2b") + "3304000000000000" + first + "20010db8000000000000000000000002",
			with(zeroed6, "2b") + "3304000100000000" + first + second},
		{"type 2", with(head6, "2b") + "3302020100000000" + first,
			with(strings.Replace(zeroed6, "20010db8000000000000000000000002", first, 1), "2b") + "3302020000000000" + "20010db8000000000000000000000002",
			with(zeroed6, "2b") + "3302020100000000" + first},
		{"too many to come", with(head6, "2b") + "3304000300000000" + first + second, "", with(zeroed6, "2b") + "3304000300000000" + first + second},
	} {
		t.Run(tt.name, func(t *testing.T) { checkCovered(t, tt.header, tt.sent, tt.arrived) })
	}
}

func checkCovered(t *testing.T, hexHeader, sent, arrived string) {
	t.Helper()
	for sending, want := range map[bool]string{true: sent, false: arrived} {
		header := unhex(t, hexHeader)
		got, ok := appendCovered([]byte("x"), header, sending)
		if ok != (want != "") {
			t.Errorf("sending=%v: %v", sending, ok)
		}
		if ok && !bytes.Equal(got[1:], unhex(t, want)) {
			t.Errorf("sending=%v: %x\nwant %x", sending, got[1:], unhex(t, want))
		}
		if !bytes.Equal(header, unhex(t, hexHeader)) {
			t.Error("the header itself was changed")
		}
	}
}
