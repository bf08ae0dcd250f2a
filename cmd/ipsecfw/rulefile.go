package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/ipsecfw/ipsecfw/cmd/ipsecfw/internal/api"
	"github.com/ipsecfw/ipsecfw/cmd/ipsecfw/internal/credentials"
	"github.com/ipsecfw/ipsecfw/rules"
)

// How much of a file is read, in bytes. All files together must fit into
// api.MaxRequest.
const (
	maxRules      = 32 << 20
	maxCredential = 1 << 20
)

// ruleFile is a rule file that was read, with all that it refers to.
type ruleFile struct {
	file     *rules.File
	upload   api.Policy
	warnings []string // of what works, but should not stay so
}

// badFile is what is wrong with a rule file: messages that begin with a
// position, one to a line.
type badFile struct{ error }

func (e badFile) Unwrap() error { return e.error }

// parseRuleFile reads a rule file, and nothing that it refers to.
func parseRuleFile(path string) (*ruleFile, error) {
	src, err := readFile(path, maxRules)
	if err != nil {
		return nil, err
	}
	file, err := rules.Parse(path, src)
	if err != nil {
		return nil, badFile{err}
	}
	return &ruleFile{file: file, upload: api.Policy{Name: path, Source: string(src), Files: map[string][]byte{}}}, nil
}

// loadCredentials reads the files that the rules name, whose paths are
// relative to the rule file's directory, and checks that they are of use.
func (r *ruleFile) loadCredentials(now time.Time) error {
	read := func(name string) ([]byte, error) {
		if b, ok := r.upload.Files[name]; ok {
			return b, nil
		}
		b, err := readFile(r.locate(name), maxCredential)
		if err == nil {
			r.upload.Files[name] = b
		}
		return b, err
	}
	var errs []error
	for _, n := range negotiations(r.file) {
		loaded, err := credentials.Load(n, read, nil)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		r.warnings = append(r.warnings, loaded.Warnings(n, now)...)
		if err := r.warnAboutReaders(n); err != nil {
			errs = append(errs, err)
		}
	}
	if err := r.loadPPKs(read); err != nil {
		errs = append(errs, err)
	}
	if len(errs) > 0 {
		return badFile{errors.Join(errs...)}
	}
	return nil
}

// loadPPKs reads the post-quantum preshared keys that the file names for all
// peers.
func (r *ruleFile) loadPPKs(read credentials.Reader) error {
	_, err := credentials.FilePPKs(r.file, read)
	for _, f := range r.file.KeyExchange.Files() {
		if open, err := readable(r.locate(f.Path)); err == nil && open != "" {
			r.warnings = append(r.warnings, fmt.Sprintf("%s: warning: key-exchange: %s", r.file.KeyExchangeAt(f.Key), open))
		}
	}
	return err
}

// negotiations returns the rules of a file that negotiate, in its order, and
// the default response.
func negotiations(f *rules.File) []rules.Negotiation {
	byName := f.Negotiations()
	out := make([]rules.Negotiation, 0, len(byName)+1)
	for i := range f.Rules {
		if n, ok := byName[f.Rules[i].Name]; ok {
			out = append(out, n)
		}
	}
	if n, ok := f.DefaultResponse(); ok {
		out = append(out, n)
	}
	return out
}

// locate returns the path of a file that the rule file names.
func (r *ruleFile) locate(name string) string {
	return locate(r.upload.Name, name)
}

// locate returns the path of a file that a rule file names.
func locate(ruleFile, name string) string {
	if filepath.IsAbs(name) {
		return name
	}
	return filepath.Join(filepath.Dir(ruleFile), name)
}

// warnAboutReaders warns of secrets that everybody on this host can read.
func (r *ruleFile) warnAboutReaders(n rules.Negotiation) error {
	for _, f := range n.Files() {
		if !f.Secret {
			continue
		}
		open, err := readable(r.locate(f.Path))
		if err != nil {
			return err
		}
		if open != "" {
			r.warnings = append(r.warnings, fmt.Sprintf("%s: warning: rule %q: %s", f.Position, n.Rule, open))
		}
	}
	return nil
}

// readable returns a warning if everybody on this host can read a secret, or
// "".
func readable(secret string) (string, error) {
	info, err := os.Stat(secret)
	if err != nil || info.Mode().Perm()&0o004 == 0 {
		return "", err
	}
	return fmt.Sprintf("everybody on this host can read the secret in %s: chmod 600 %[1]s", secret), nil
}

// readFile reads a file of at most limit bytes.
func readFile(path string, limit int64) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var b bytes.Buffer
	if info, err := f.Stat(); err == nil && info.Size() <= limit {
		b.Grow(int(info.Size()) + bytes.MinRead)
	}
	if _, err := b.ReadFrom(io.LimitReader(f, limit+1)); err != nil {
		return nil, err
	}
	if int64(b.Len()) > limit {
		return nil, fmt.Errorf("%s is larger than %d bytes: name another file", path, limit)
	}
	return b.Bytes(), nil
}
