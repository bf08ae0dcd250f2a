package daemon

import (
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/ipsecfw/ipsecfw/ipsec"
	"github.com/ipsecfw/ipsecfw/ipsec/ike"
)

// keyLog is files with the keys of all SAs, in the form in which Wireshark 4.0
// keeps them in a profile: those of IKE SAs in the file that the daemon was
// told, called ikev2_decryption_table in a profile, and those of Child SAs in
// esp_sa beside it. A nil one keeps nothing.
type keyLog struct {
	mu       sync.Mutex
	ike, esp *os.File
	log      *slog.Logger
}

// espTable is Wireshark's name for the file with the keys of ESP.
const espTable = "esp_sa"

// openKeyLog opens the files, which nobody but their owner may read, and adds to
// what is in them.
func openKeyLog(path string, log *slog.Logger) (*keyLog, error) {
	k := &keyLog{log: log}
	var err error
	if k.ike, err = openSecret(path); err != nil {
		return nil, err
	}
	if k.esp, err = openSecret(filepath.Join(filepath.Dir(path), espTable)); err != nil {
		return nil, errors.Join(err, k.ike.Close())
	}
	log.Warn("the keys of all SAs are being written to files: whoever reads them reads all traffic", "ike", k.ike.Name(), "esp", k.esp.Name())
	return k, nil
}

func openSecret(path string) (*os.File, error) {
	// Somebody else may have put something there: neither follow it nor wait for it.
	f, err := os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open the key log: %w", err)
	}
	info, err := f.Stat()
	if err == nil {
		owner, ok := info.Sys().(*syscall.Stat_t)
		if !ok || int(owner.Uid) != os.Geteuid() || owner.Nlink != 1 || !info.Mode().IsRegular() || info.Mode().Perm()&0o077 != 0 {
			err = fmt.Errorf("the key log %s is no file of our own that nobody else can read: remove it, or set its mode to 0600", path)
		}
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// Close closes the files.
func (k *keyLog) Close() error {
	if k == nil {
		return nil
	}
	return errors.Join(k.ike.Close(), k.esp.Close())
}

// path is where the keys of IKE SAs go; empty if they are not kept.
func (k *keyLog) path() string {
	if k == nil {
		return ""
	}
	return k.ike.Name()
}

// secrets writes down the keys of an IKE SA.
func (k *keyLog) secrets(s ike.Secrets) { k.write(k.ike, ikeLine(s)) }

// child writes down the keys of a pair of SAs.
func (k *keyLog) child(sa *ipsec.ChildSA) {
	if k != nil {
		k.write(k.esp, espLine(sa, sa.RemoteAddr.Addr(), sa.LocalAddr.Addr(), sa.InSPI, sa.InKeys)+espLine(sa, sa.LocalAddr.Addr(), sa.RemoteAddr.Addr(), sa.OutSPI, sa.OutKeys))
	}
}

func (k *keyLog) write(f *os.File, line string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if _, err := f.WriteString(line); err != nil {
		k.log.Error("keys not written down", "file", f.Name(), "error", err)
	}
}

// ikeLine is a line of ikev2_decryption_table. What Wireshark cannot decrypt is
// a comment there: it takes no table with a name that it does not know.
func ikeLine(s ike.Secrets) string {
	encr, ok1 := ikeCiphers[ipsec.Transform{Type: s.Encr.Type, ID: s.Encr.ID, KeyBits: s.Encr.KeyBits}]
	integ, ok2 := ikeIntegrities[s.Integ.ID]
	if !ok1 || !ok2 {
		return fmt.Sprintf("# %016x,%016x: Wireshark knows no %s with %s\n", s.SPIi, s.SPIr, s.Encr, s.Integ)
	}
	return fmt.Sprintf("%016x,%016x,%x,%x,%q,%s,%s,%q\n", s.SPIi, s.SPIr, s.SKei, s.SKer, encr, hex(s.SKai), hex(s.SKar), integ)
}

// hex writes a key, and a missing one as a field that is there.
func hex(b []byte) string {
	if len(b) == 0 {
		return `""`
	}
	return fmt.Sprintf("%x", b)
}

// espLine is a line of esp_sa.
func espLine(sa *ipsec.ChildSA, from, to netip.Addr, spi ipsec.SPI, keys ipsec.Keys) string {
	encr, ok1 := espCiphers[sa.Encr.ID]
	integ, ok2 := espIntegrities[sa.Integ.ID]
	if !ok1 || !ok2 {
		return fmt.Sprintf("# 0x%s: Wireshark knows no %s with %s\n", spi, sa.Encr, sa.Integ)
	}
	family := "IPv4"
	if to.Is6() {
		family = "IPv6"
	}
	secret := ""
	if len(keys.Integ) > 0 {
		secret = fmt.Sprintf("0x%x", keys.Integ)
	}
	return fmt.Sprintf("%q,%q,%q,\"0x%s\",%q,\"0x%x\",%q,%q\n", family, from, to, spi, encr, keys.Encr, integ, secret)
}

// The names of Wireshark 4.0 for algorithms of IKE.
var (
	ikeCiphers = map[ipsec.Transform]string{
		{Type: ipsec.TypeEncr, ID: ipsec.Encr3DES}:                   "3DES [RFC2451]",
		{Type: ipsec.TypeEncr, ID: ipsec.EncrAESCBC, KeyBits: 128}:   "AES-CBC-128 [RFC3602]",
		{Type: ipsec.TypeEncr, ID: ipsec.EncrAESCBC, KeyBits: 192}:   "AES-CBC-192 [RFC3602]",
		{Type: ipsec.TypeEncr, ID: ipsec.EncrAESCBC, KeyBits: 256}:   "AES-CBC-256 [RFC3602]",
		{Type: ipsec.TypeEncr, ID: ipsec.EncrAESGCM16, KeyBits: 128}: "AES-GCM-128 with 16 octet ICV [RFC5282]",
		{Type: ipsec.TypeEncr, ID: ipsec.EncrAESGCM16, KeyBits: 192}: "AES-GCM-192 with 16 octet ICV [RFC5282]",
		{Type: ipsec.TypeEncr, ID: ipsec.EncrAESGCM16, KeyBits: 256}: "AES-GCM-256 with 16 octet ICV [RFC5282]",
		{Type: ipsec.TypeEncr, ID: ipsec.EncrAESGCM12, KeyBits: 128}: "AES-GCM-128 with 12 octet ICV [RFC5282]",
		{Type: ipsec.TypeEncr, ID: ipsec.EncrAESGCM12, KeyBits: 256}: "AES-GCM-256 with 12 octet ICV [RFC5282]",
		{Type: ipsec.TypeEncr, ID: ipsec.EncrAESGCM8, KeyBits: 128}:  "AES-GCM-128 with 8 octet ICV [RFC5282]",
		{Type: ipsec.TypeEncr, ID: ipsec.EncrAESGCM8, KeyBits: 256}:  "AES-GCM-256 with 8 octet ICV [RFC5282]",
		{Type: ipsec.TypeEncr, ID: ipsec.EncrAESCCM16, KeyBits: 128}: "AES-CCM-128 with 16 octet ICV [RFC5282]",
		{Type: ipsec.TypeEncr, ID: ipsec.EncrAESCCM16, KeyBits: 256}: "AES-CCM-256 with 16 octet ICV [RFC5282]",
		{Type: ipsec.TypeEncr, ID: ipsec.EncrAESCCM12, KeyBits: 128}: "AES-CCM-128 with 12 octet ICV [RFC5282]",
		{Type: ipsec.TypeEncr, ID: ipsec.EncrAESCCM12, KeyBits: 256}: "AES-CCM-256 with 12 octet ICV [RFC5282]",
		{Type: ipsec.TypeEncr, ID: ipsec.EncrAESCCM8, KeyBits: 128}:  "AES-CCM-128 with 8 octet ICV [RFC5282]",
		{Type: ipsec.TypeEncr, ID: ipsec.EncrAESCCM8, KeyBits: 256}:  "AES-CCM-256 with 8 octet ICV [RFC5282]",
	}
	ikeIntegrities = map[uint16]string{
		ipsec.IntegNone:       "NONE [RFC4306]",
		ipsec.IntegHMACSHA1:   "HMAC_SHA1_96 [RFC2404]",
		ipsec.IntegHMACSHA256: "HMAC_SHA2_256_128 [RFC4868]",
		ipsec.IntegHMACSHA384: "HMAC_SHA2_384_192 [RFC4868]",
		ipsec.IntegHMACSHA512: "HMAC_SHA2_512_256 [RFC4868]",
	}
)

// Its names for those of ESP.
var (
	espCiphers = map[uint16]string{
		ipsec.Encr3DES:     "TripleDES-CBC [RFC2451]",
		ipsec.EncrNull:     "NULL",
		ipsec.EncrAESCBC:   "AES-CBC [RFC3602]",
		ipsec.EncrAESCTR:   "AES-CTR [RFC3686]",
		ipsec.EncrAESGCM16: "AES-GCM with 16 octet ICV [RFC4106]",
		ipsec.EncrAESGCM12: "AES-GCM with 12 octet ICV [RFC4106]",
		ipsec.EncrAESGCM8:  "AES-GCM with 8 octet ICV [RFC4106]",
	}
	espIntegrities = map[uint16]string{
		ipsec.IntegNone:       "NULL",
		ipsec.IntegHMACSHA1:   "HMAC-SHA-1-96 [RFC2404]",
		ipsec.IntegHMACSHA256: "HMAC-SHA-256-128 [RFC4868]",
		ipsec.IntegHMACSHA384: "HMAC-SHA-384-192 [RFC4868]",
		ipsec.IntegHMACSHA512: "HMAC-SHA-512-256 [RFC4868]",
	}
)
