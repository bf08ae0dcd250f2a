package surroundings

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// maxLinks bounds a chain of symbolic links, as the kernel does
// (path_resolution(7)).
const maxLinks = 40

// fileEvents is everything that can make a path lead to other content. Some
// clients keep their file open and write on: there is no close to wait for.
const fileEvents = unix.IN_MODIFY | unix.IN_CREATE | unix.IN_DELETE | unix.IN_MOVED_FROM | unix.IN_MOVED_TO |
	unix.IN_DELETE_SELF | unix.IN_MOVE_SELF

// place is a file, or those files of a directory whose names match a pattern.
type place struct {
	path    string // absolute
	pattern string // empty for the file itself
}

// fileWatch follows places, which need not exist. It watches every directory
// on the way to one, and to what symbolic links on the way point at: files are
// replaced by a rename, and so are links and directories.
type fileWatch struct {
	places []place
	file   *os.File
	fd     int                  // of file, which stays in the poller's hands
	marks  map[int32][]interest // by watch descriptor
}

// interest is a name in a directory, or a pattern for names.
type interest struct {
	name    string
	pattern bool
}

func watchFiles(places []place) (*fileWatch, error) {
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		return nil, fmt.Errorf("follow files by inotify (see fs.inotify.max_user_instances): %w", err)
	}
	return &fileWatch{places: places, fd: fd, file: os.NewFile(uintptr(fd), "inotify")}, nil
}

// close ends the watch, and a wait under way.
func (f *fileWatch) close() error { return f.file.Close() }

// arm sets the watch to the ways that lead to the places now. Call it before
// the places are read: what changes thereafter is heard.
func (f *fileWatch) arm() error {
	marks := make(map[int32][]interest)
	for _, p := range f.places {
		if err := f.walk(p, marks); err != nil {
			return fmt.Errorf("follow %s by inotify (see fs.inotify.max_user_watches): %w", p.path, err)
		}
	}
	for wd := range f.marks {
		if _, ok := marks[wd]; !ok {
			// EINVAL: the kernel removed it with its directory.
			if _, err := unix.InotifyRmWatch(f.fd, uint32(wd)); err != nil && err != unix.EINVAL {
				return fmt.Errorf("end an inotify watch: %w", err)
			}
		}
	}
	f.marks = marks
	return nil
}

// walk marks the way to a place as far as it exists.
func (f *fileWatch) walk(p place, marks map[int32][]interest) error {
	mark := func(path string, i interest) (exists bool, err error) {
		wd, err := unix.InotifyAddWatch(f.fd, path, fileEvents)
		if err == unix.ENOENT || err == unix.ENOTDIR {
			return false, nil
		}
		if err == nil {
			marks[int32(wd)] = append(marks[int32(wd)], i)
		}
		return err == nil, err
	}
	dir, rest, links := "/", strings.Split(p.path, "/"), 0
	for len(rest) > 0 {
		name := rest[0]
		rest = rest[1:]
		switch name {
		case "", ".":
			continue
		case "..":
			dir = filepath.Dir(dir) // which has no symbolic links in it
			continue
		}
		if ok, err := mark(dir, interest{name: name}); err != nil || !ok {
			return err
		}
		next := filepath.Join(dir, name)
		target, err := os.Readlink(next)
		if err != nil { // no link, or nothing there
			dir = next
			continue
		}
		if links++; links > maxLinks {
			return nil
		}
		if filepath.IsAbs(target) {
			dir = "/"
		}
		rest = append(strings.Split(target, "/"), rest...)
	}
	// The file itself, too: a file that is a mount of its own is written to
	// by a path that is not ours.
	_, err := mark(dir, interest{name: p.pattern, pattern: p.pattern != ""})
	return err
}

// concerns reports whether an event may have changed one of the places.
func (f *fileWatch) concerns(e fileEvent) bool {
	if e.mask&unix.IN_Q_OVERFLOW != 0 {
		return true
	}
	interests, ok := f.marks[e.wd]
	if !ok {
		return false
	}
	if e.name == "" { // what is watched itself
		return true
	}
	for _, i := range interests {
		if i.pattern {
			if fits, _ := filepath.Match(i.name, e.name); fits {
				return true
			}
		} else if i.name == e.name {
			return true
		}
	}
	return false
}

// fileEvent is an event of inotify(7).
type fileEvent struct {
	wd   int32
	mask uint32
	name string // in the directory that is watched; empty for what is watched itself
}

// wait returns the next events.
func (f *fileWatch) wait() ([]fileEvent, error) {
	buf := make([]byte, 16<<10)
	n, err := f.file.Read(buf)
	if err != nil {
		return nil, fmt.Errorf("follow files by inotify: %w", err)
	}
	return parseEvents(buf[:n])
}

// parseEvents reads struct inotify_event, one after the other.
func parseEvents(buf []byte) ([]fileEvent, error) {
	var events []fileEvent
	for len(buf) > 0 {
		if len(buf) < unix.SizeofInotifyEvent {
			return nil, errors.New("an event of inotify is cut off")
		}
		e := fileEvent{wd: int32(binary.NativeEndian.Uint32(buf)), mask: binary.NativeEndian.Uint32(buf[4:])}
		length := binary.NativeEndian.Uint32(buf[12:])
		buf = buf[unix.SizeofInotifyEvent:]
		if uint64(length) > uint64(len(buf)) {
			return nil, errors.New("the name in an event of inotify is cut off")
		}
		e.name, _, _ = strings.Cut(string(buf[:length]), "\x00")
		buf = buf[length:]
		events = append(events, e)
	}
	return events, nil
}
