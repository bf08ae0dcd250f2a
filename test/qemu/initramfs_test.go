package qemu

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestInitramfs(t *testing.T) {
	source := filepath.Join(t.TempDir(), "source")
	must(t, os.WriteFile(source, []byte("hello"), 0o600))
	var b bytes.Buffer
	a := newInitramfs(&b)
	a.dir("/a")
	a.file("/a/b/c", source)
	a.dir("/a/b")
	must(t, a.end())
	// The fields: magic, inode, mode, user, group, links, time, size, device
	// and special device, each of two numbers, size of the name, checksum.
	want := "070701" + "00000001" + "000041ed" + "00000000" + "00000000" + "00000001" + "00000000" + "00000000" +
		"00000000" + "00000000" + "00000000" + "00000000" + "00000002" + "00000000" + "a\x00" +
		"070701" + "00000002" + "000041ed" + "00000000" + "00000000" + "00000001" + "00000000" + "00000000" +
		"00000000" + "00000000" + "00000000" + "00000000" + "00000004" + "00000000" + "a/b\x00\x00\x00" +
		"070701" + "00000003" + "000081ed" + "00000000" + "00000000" + "00000001" + "00000000" + "00000005" +
		"00000000" + "00000000" + "00000000" + "00000000" + "00000006" + "00000000" + "a/b/c\x00" +
		"hello\x00\x00\x00" +
		"070701" + "00000004" + "00000000" + "00000000" + "00000000" + "00000001" + "00000000" + "00000000" +
		"00000000" + "00000000" + "00000000" + "00000000" + "0000000b" + "00000000" + "TRAILER!!!\x00\x00\x00\x00"
	if b.String() != want {
		t.Errorf("the archive is\n%q, want\n%q", b.String(), want)
	}
}

func TestInitramfsWithoutAFile(t *testing.T) {
	a := newInitramfs(new(bytes.Buffer))
	a.file("/init", filepath.Join(t.TempDir(), "none"))
	a.dir("/later")
	if err := a.end(); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("error %v, want that the file does not exist", err)
	}
}

func TestParseDepends(t *testing.T) {
	for _, tt := range []struct{ name, info, want string }{
		{"two", "license=GPL\x00depends=nf_tables,nf_conntrack\x00name=nft_ct\x00", "nf_tables nf_conntrack"},
		{"none", "depends=\x00retpoline=Y\x00", ""},
		{"no word of it", "license=GPL\x00", ""},
		{"nothing", "", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := strings.Join(parseDepends(tt.info), " "); got != tt.want {
				t.Errorf("depends on %q, want %q", got, tt.want)
			}
		})
	}
}
