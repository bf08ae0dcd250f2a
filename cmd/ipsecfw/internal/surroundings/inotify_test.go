package surroundings

import (
	"encoding/binary"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func event(wd int32, mask uint32, name string) []byte {
	b := binary.NativeEndian.AppendUint32(nil, uint32(wd))
	b = binary.NativeEndian.AppendUint32(b, mask)
	b = binary.NativeEndian.AppendUint32(b, 0)
	b = binary.NativeEndian.AppendUint32(b, uint32(len(name)))
	return append(b, name...)
}

func TestParseEvents(t *testing.T) {
	two := append(event(1, unix.IN_CREATE, "a\x00\x00\x00"), event(2, unix.IN_DELETE_SELF, "")...)
	tests := []struct {
		name string
		buf  []byte
		want []fileEvent
		bad  bool
	}{
		{"none", nil, nil, false},
		{"two", two, []fileEvent{{1, unix.IN_CREATE, "a"}, {2, unix.IN_DELETE_SELF, ""}}, false},
		{"a head cut off", two[:len(two)-1], nil, true},
		{"a name cut off", event(1, unix.IN_CREATE, "abcd")[:18], nil, true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := parseEvents(tt.buf)
			if (err != nil) != tt.bad || !slices.Equal(got, tt.want) {
				t.Errorf("%v, %v", got, err)
			}
		})
	}
}

func FuzzParseEvents(f *testing.F) {
	f.Add(event(1, unix.IN_CREATE, "a\x00\x00\x00"))
	f.Fuzz(func(t *testing.T, buf []byte) {
		events, err := parseEvents(buf)
		if err == nil && len(events)*unix.SizeofInotifyEvent > len(buf) {
			t.Errorf("%d events in %d bytes", len(events), len(buf))
		}
	})
}

// TestFileWatch does something to a folder and sees whether that concerns the
// places that are followed.
func TestFileWatch(t *testing.T) {
	must := func(t *testing.T, errs ...error) {
		t.Helper()
		for _, err := range errs {
			if err != nil {
				t.Fatal(err)
			}
		}
	}
	file := func(path string) error { return os.WriteFile(path, []byte("x"), 0o644) }
	tests := []struct {
		name          string
		prepare       func(t *testing.T, dir string)
		path, pattern string // what is followed
		change        func(t *testing.T, dir string)
		deaf          bool
	}{
		{name: "written in place", path: "f", prepare: func(t *testing.T, d string) { must(t, file(d+"/f")) },
			change: func(t *testing.T, d string) { must(t, file(d+"/f")) }},
		{name: "appended by who keeps it open", path: "f", prepare: func(t *testing.T, d string) { must(t, file(d+"/f")) },
			change: func(t *testing.T, d string) {
				f, err := os.OpenFile(d+"/f", os.O_APPEND|os.O_WRONLY, 0)
				must(t, err)
				t.Cleanup(func() { f.Close() })
				_, err = f.WriteString("y")
				must(t, err)
			}},
		{name: "replaced by a rename", path: "f", prepare: func(t *testing.T, d string) { must(t, file(d+"/f"), file(d+"/new")) },
			change: func(t *testing.T, d string) { must(t, os.Rename(d+"/new", d+"/f")) }},
		{name: "removed", path: "f", prepare: func(t *testing.T, d string) { must(t, file(d+"/f")) },
			change: func(t *testing.T, d string) { must(t, os.Remove(d+"/f")) }},
		{name: "made", path: "f", change: func(t *testing.T, d string) { must(t, file(d+"/f")) }},
		{name: "written by another of its names", path: "f", prepare: func(t *testing.T, d string) {
			must(t, os.Mkdir(d+"/e", 0o755), file(d+"/f"), os.Link(d+"/f", d+"/e/g"))
		}, change: func(t *testing.T, d string) { must(t, file(d+"/e/g")) }},
		{name: "the folders to it made", path: "a/b/f", change: func(t *testing.T, d string) { must(t, os.MkdirAll(d+"/a/b", 0o755), file(d+"/a/b/f")) }},
		{name: "a folder on the way replaced", path: "a/f", prepare: func(t *testing.T, d string) {
			must(t, os.Mkdir(d+"/a", 0o755), os.Mkdir(d+"/b", 0o755), file(d+"/a/f"), file(d+"/b/f"), os.Rename(d+"/a", d+"/c"))
		}, change: func(t *testing.T, d string) { must(t, os.Rename(d+"/b", d+"/a")) }},
		{name: "what a link points at", path: "f", prepare: func(t *testing.T, d string) {
			must(t, os.Mkdir(d+"/e", 0o755), os.Mkdir(d+"/g", 0o755), file(d+"/e/f"), file(d+"/e/new"), os.Symlink("g/../e/f", d+"/f"))
		}, change: func(t *testing.T, d string) { must(t, os.Rename(d+"/e/new", d+"/e/f")) }},
		{name: "what an absolute link to a folder points at", path: "e/f", prepare: func(t *testing.T, d string) {
			must(t, os.Mkdir(d+"/g", 0o755), file(d+"/g/f"), os.Symlink(d+"/g", d+"/e"))
		}, change: func(t *testing.T, d string) { must(t, file(d+"/g/f")) }},
		{name: "the link", path: "f", prepare: func(t *testing.T, d string) {
			must(t, file(d+"/a"), file(d+"/b"), os.Symlink("a", d+"/f"), os.Symlink("b", d+"/new"))
		}, change: func(t *testing.T, d string) { must(t, os.Rename(d+"/new", d+"/f")) }},
		{name: "a ring of links that is broken", path: "f", prepare: func(t *testing.T, d string) {
			must(t, os.Symlink("g", d+"/f"), os.Symlink("f", d+"/g"), file(d+"/new"))
		}, change: func(t *testing.T, d string) { must(t, os.Rename(d+"/new", d+"/g")) }},
		{name: "a file that fits", path: "e", pattern: "*.lease", prepare: func(t *testing.T, d string) { must(t, os.Mkdir(d+"/e", 0o755)) },
			change: func(t *testing.T, d string) { must(t, file(d+"/e/a.lease")) }},
		{name: "the folder of files removed", path: "e", pattern: "*.lease", prepare: func(t *testing.T, d string) { must(t, os.Mkdir(d+"/e", 0o755)) },
			change: func(t *testing.T, d string) { must(t, os.Remove(d+"/e")) }},
		{name: "a file that does not fit", deaf: true, path: "e", pattern: "*.lease", prepare: func(t *testing.T, d string) { must(t, os.Mkdir(d+"/e", 0o755)) },
			change: func(t *testing.T, d string) { must(t, file(d+"/e/a.new")) }},
		{name: "another file", deaf: true, path: "f", prepare: func(t *testing.T, d string) { must(t, file(d+"/f")) },
			change: func(t *testing.T, d string) { must(t, file(d+"/g")) }},
		{name: "a file of that name elsewhere", deaf: true, path: "f", prepare: func(t *testing.T, d string) { must(t, os.Mkdir(d+"/e", 0o755), file(d+"/e/f")) },
			change: func(t *testing.T, d string) { must(t, os.Remove(d+"/e/f")) }},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			if tt.prepare != nil {
				tt.prepare(t, dir)
			}
			last := filepath.Join(dir, "last")
			w, err := watchFiles([]place{{filepath.Join(dir, tt.path), tt.pattern}, {path: last}})
			must(t, err)
			defer w.close()
			must(t, w.arm(), w.arm())
			marks := len(w.marks)
			tt.change(t, dir)
			must(t, file(last)) // which is the last that is heard
			heard := false
			for done := false; !done; {
				must(t, w.file.SetReadDeadline(time.Now().Add(10*time.Second)))
				events, err := w.wait()
				must(t, err)
				for _, e := range events {
					if e.name == "last" {
						done = true
					} else if w.concerns(e) {
						heard = true
					}
				}
			}
			if heard == tt.deaf {
				t.Errorf("heard: %t", heard)
			}
			must(t, w.arm())
			if tt.deaf && len(w.marks) != marks+1 { // and the file last
				t.Errorf("%d watches have become %d", marks, len(w.marks))
			}
		})
	}
}

func TestLostEvents(t *testing.T) {
	var w fileWatch
	if !w.concerns(fileEvent{wd: -1, mask: unix.IN_Q_OVERFLOW}) {
		t.Error("the loss of events concerns nobody")
	}
	if w.concerns(fileEvent{wd: 1, mask: unix.IN_IGNORED}) {
		t.Error("the end of a watch that is no longer ours concerns us")
	}
}
