package daemon

import (
	"bytes"
	"errors"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/ipsecfw/ipsecfw/ipsec"
	"github.com/ipsecfw/ipsecfw/ipsec/ike"
)

// The lines are those that Wireshark 4.0 writes into its own tables.
func TestKeyLogLines(t *testing.T) {
	key := func(n int, b byte) []byte { return bytes.Repeat([]byte{b}, n) }
	encr := func(id, bits uint16) ipsec.Transform {
		return ipsec.Transform{Type: ipsec.TypeEncr, ID: id, KeyBits: bits}
	}
	integ := func(id uint16) ipsec.Transform { return ipsec.Transform{Type: ipsec.TypeInteg, ID: id} }
	for _, tt := range []struct {
		name string
		s    ike.Secrets
		want string
	}{
		{"an AEAD", ike.Secrets{SPIi: 0x1122, SPIr: 0xff00000000000001, Encr: encr(ipsec.EncrAESGCM16, 256), SKei: key(36, 1), SKer: key(36, 2)},
			"0000000000001122,ff00000000000001," + strings.Repeat("01", 36) + "," + strings.Repeat("02", 36) +
				`,"AES-GCM-256 with 16 octet ICV [RFC5282]","","","NONE [RFC4306]"`},
		{"with integrity", ike.Secrets{SPIi: 1, SPIr: 2, Encr: encr(ipsec.EncrAESCBC, 128), Integ: integ(ipsec.IntegHMACSHA256), SKei: key(16, 1), SKer: key(16, 2), SKai: key(32, 3), SKar: key(32, 4)},
			"0000000000000001,0000000000000002," + strings.Repeat("01", 16) + "," + strings.Repeat("02", 16) + `,"AES-CBC-128 [RFC3602]",` +
				strings.Repeat("03", 32) + "," + strings.Repeat("04", 32) + `,"HMAC_SHA2_256_128 [RFC4868]"`},
		{"unknown to it", ike.Secrets{SPIi: 1, SPIr: 2, Encr: encr(ipsec.EncrChaCha20Poly1305, 0), SKei: key(36, 1), SKer: key(36, 2)},
			"# 0000000000000001,0000000000000002: Wireshark knows no chacha20poly1305"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := ikeLine(tt.s); !strings.HasPrefix(got, tt.want) || !strings.HasSuffix(got, "\n") {
				t.Errorf("got  %q\nwant %q", got, tt.want)
			}
		})
	}
	sa := &ipsec.ChildSA{
		Encr: encr(ipsec.EncrAESGCM16, 128), InSPI: 0x1000, OutSPI: 0x2000,
		InKeys: ipsec.Keys{Encr: key(20, 1)}, OutKeys: ipsec.Keys{Encr: key(20, 2)},
		LocalAddr: netip.MustParseAddrPort("10.0.0.1:0"), RemoteAddr: netip.MustParseAddrPort("10.0.0.2:0"),
	}
	want := `"IPv4","10.0.0.2","10.0.0.1","0x00001000","AES-GCM with 16 octet ICV [RFC4106]","0x` + strings.Repeat("01", 20) + `","NULL",""` + "\n"
	if got := espLine(sa, sa.RemoteAddr.Addr(), sa.LocalAddr.Addr(), sa.InSPI, sa.InKeys); got != want {
		t.Errorf("got  %q\nwant %q", got, want)
	}
}

func TestKeyLogFiles(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "ikev2_decryption_table")
	var log bytes.Buffer
	logger := slog.New(slog.NewTextHandler(&log, nil))
	for range 2 { // what is there stays
		k, err := openKeyLog(path, logger)
		if err != nil {
			t.Fatal(err)
		}
		k.secrets(ike.Secrets{Encr: ipsec.Transform{Type: ipsec.TypeEncr, ID: ipsec.EncrAESGCM16, KeyBits: 256}, SKei: []byte("secret"), SKer: []byte("secret")})
		k.child(&ipsec.ChildSA{Encr: ipsec.Transform{Type: ipsec.TypeEncr, ID: ipsec.EncrAESGCM16, KeyBits: 256}})
		if k.path() != path {
			t.Errorf("path %q", k.path())
		}
		if err := k.Close(); err != nil {
			t.Error(err)
		}
	}
	for name, lines := range map[string]int{"ikev2_decryption_table": 2, "esp_sa": 4} {
		b, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		info, err := os.Stat(filepath.Join(dir, name))
		if err != nil || info.Mode() != 0o600 || bytes.Count(b, []byte("\n")) != lines {
			t.Errorf("%s: mode %v, %q", name, info.Mode(), b)
		}
	}
	if !strings.Contains(log.String(), "level=WARN") || strings.Contains(log.String(), "secret") {
		t.Errorf("log %q", log.String())
	}
	if err := os.Chmod(path, 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := openKeyLog(path, logger); err == nil {
		t.Error("a file that others can read gets the keys")
	}
	for name, put := range map[string]func(at string) error{
		"a symbolic link": func(at string) error { return os.Symlink(filepath.Join(dir, "target"), at) },
		"a file with another name": func(at string) error {
			return errors.Join(os.WriteFile(filepath.Join(dir, "first"), nil, 0o600), os.Link(filepath.Join(dir, "first"), at))
		},
		"a pipe":                func(at string) error { return unix.Mkfifo(at, 0o600) },
		"a directory":           func(at string) error { return os.Mkdir(at, 0o700) },
		"a file of another one": func(at string) error { return errors.Join(os.WriteFile(at, nil, 0o600), os.Chown(at, 65534, 65534)) },
	} {
		at := filepath.Join(dir, name)
		if err := put(at); err != nil {
			t.Fatal(err)
		}
		if k, err := openKeyLog(at, logger); err == nil {
			t.Errorf("%s gets the keys", name)
			k.Close()
		}
	}
	if _, err := os.Stat(filepath.Join(dir, "target")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("where the symbolic link leads: %v", err)
	}
	var none *keyLog
	none.child(nil)
	if none.path() != "" || none.Close() != nil {
		t.Error("without a key log")
	}
}
