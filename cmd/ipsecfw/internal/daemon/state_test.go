package daemon

import (
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"
)

func TestState(t *testing.T) {
	s := state{dir: filepath.Join(t.TempDir(), "state")}
	lock, err := s.lock()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.lock(); err == nil || !strings.Contains(err.Error(), "--state") {
		t.Errorf("a second daemon was not kept out: %v", err)
	}
	lock.Close()
	if lock, err = s.lock(); err != nil {
		t.Fatalf("after the first daemon ended: %v", err)
	}
	defer lock.Close()
	if k, err := s.load(); !k.none() || err != nil {
		t.Fatalf("load of nothing: %+v, %v", k, err)
	}
	of := func(text string) kept {
		up := upload(text)
		return kept{policies: policies{Applied: &up}, Trial: &trial{Until: time.Unix(1, 0).UTC(), Before: policies{Persistent: &up}}}
	}
	first, second := of("first"), of("second")
	keep := func(commits bool, text string) {
		t.Helper()
		commit, discard, err := s.stage(of(text))
		if err != nil {
			t.Fatal(err)
		}
		defer discard()
		if commits {
			if err := commit(); err != nil {
				t.Fatal(err)
			}
		}
	}
	keep(true, "first")
	keep(false, "second")
	if got, err := s.load(); err != nil || !reflect.DeepEqual(got, first) {
		t.Errorf("after a change that was not committed: %+v, %v", got, err)
	}
	keep(true, "second")
	if got, _ := s.load(); !reflect.DeepEqual(got, second) {
		t.Errorf("after a change: %+v", got)
	}
	files, _ := os.ReadDir(s.dir)
	if len(files) != 1 {
		t.Errorf("%d files left, want the policy alone", len(files))
	}
	for path, want := range map[string]os.FileMode{s.path(): 0o600, s.dir: 0o700} {
		if fi, err := os.Stat(path); err != nil || fi.Mode().Perm() != want {
			t.Errorf("%s: mode %v, want %v: it holds keys", path, fi.Mode().Perm(), want)
		}
	}
	os.WriteFile(staged(s.path()), []byte("keys"), 0o600) // a daemon was killed
	keep(true, "second")
	os.WriteFile(staged(s.path()), []byte("keys"), 0o600)
	os.WriteFile(s.path(), []byte("{"), 0o600)
	if _, err := s.load(); err == nil {
		t.Error("a broken file was loaded")
	}
	for range 2 { // the second time there is nothing to remove
		if err := s.remove(); err != nil {
			t.Error(err)
		}
	}
	if k, _ := s.load(); !k.none() {
		t.Error("the policy is still there")
	}
	if files, _ := os.ReadDir(s.dir); len(files) != 0 {
		t.Errorf("%d files left, which may hold keys", len(files))
	}
}
