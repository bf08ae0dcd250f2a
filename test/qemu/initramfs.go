package qemu

import (
	"fmt"
	"io"
	"os"
	"path"

	"golang.org/x/sys/unix"
)

// initramfs writes an archive that the kernel unpacks as its first root: cpio
// in the format "newc" (Documentation/driver-api/early-userspace/buffer-format.rst).
// The first error stays.
type initramfs struct {
	w     io.Writer
	at    int64  // bytes written
	inode uint32 // of the last entry
	dirs  map[string]bool
	err   error
}

func newInitramfs(w io.Writer) *initramfs {
	return &initramfs{w: w, dirs: map[string]bool{"/": true}}
}

// dir adds a folder, and those above it.
func (a *initramfs) dir(name string) {
	if a.dirs[name] {
		return
	}
	a.dirs[name] = true
	a.dir(path.Dir(name))
	a.header(name, unix.S_IFDIR|0o755, 0)
}

// file adds a file with the contents of one of this machine, which anybody may
// execute, and the folders above it.
func (a *initramfs) file(name, source string) {
	f, err := os.Open(source)
	if err != nil {
		a.fail(err)
		return
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		a.fail(err)
		return
	}
	a.dir(path.Dir(name))
	a.header(name, unix.S_IFREG|0o755, info.Size())
	if a.err != nil {
		return
	}
	n, err := io.Copy(a.w, f)
	a.at += n
	if err == nil && n != info.Size() {
		err = fmt.Errorf("%s had %d bytes and has %d", source, info.Size(), n)
	}
	a.fail(err)
	a.pad()
}

// end ends the archive.
func (a *initramfs) end() error {
	a.header("/TRAILER!!!", 0, 0)
	return a.err
}

// header writes what stands before the contents of an entry.
func (a *initramfs) header(name string, mode uint32, size int64) {
	name = name[1:] // the archive's names are relative to the root
	if size != int64(uint32(size)) {
		a.fail(fmt.Errorf("%s is too large for the archive: %d bytes", name, size))
	}
	a.inode++
	a.write("070701")
	for _, field := range []uint32{
		a.inode, mode, 0, 0, 1, 0, // user and group, links, time of modification
		uint32(size), 0, 0, 0, 0, // device of the file, and that it stands for
		uint32(len(name) + 1), 0, // no checksum
	} {
		a.write(fmt.Sprintf("%08x", field))
	}
	a.write(name + "\x00")
	a.pad()
}

// pad fills up to a multiple of four bytes.
func (a *initramfs) pad() { a.write("\x00\x00\x00"[:-a.at&3]) }

func (a *initramfs) write(s string) {
	if a.err != nil {
		return
	}
	n, err := io.WriteString(a.w, s)
	a.at += int64(n)
	a.fail(err)
}

func (a *initramfs) fail(err error) {
	if a.err == nil {
		a.err = err
	}
}
