package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/ipsecfw/ipsecfw/cmd/ipsecfw/internal/api"
	"github.com/ipsecfw/ipsecfw/cmd/ipsecfw/internal/credentials"
	"github.com/ipsecfw/ipsecfw/filter"
	"github.com/ipsecfw/ipsecfw/ipsec/ike"
	"github.com/ipsecfw/ipsecfw/rules"
)

// maxFile is how much of a file is read, in bytes. All files together must
// fit into api.MaxRequest.
const maxFile = 1 << 20

// ruleFile is a rule file in which nothing is wrong, with all that it refers
// to.
type ruleFile struct {
	upload   api.Policy
	rules    int
	filters  int
	warnings []string // what works, but should not stay so
}

// badFile is what is wrong with a rule file: messages that begin with a
// position, one to a line.
type badFile struct{ error }

func (e badFile) Unwrap() error { return e.error }

// readRuleFile reads a rule file and the files that it names, whose paths
// are relative to its directory.
func readRuleFile(path string, now time.Time) (*ruleFile, error) {
	src, err := readFile(path)
	if err != nil {
		return nil, err
	}
	file, err := rules.Parse(path, src)
	if err != nil {
		return nil, badFile{err}
	}
	entries := file.SPDEntries()
	if _, err := filter.New(entries, filter.Settings{}); err != nil {
		return nil, badFile{err}
	}
	r := &ruleFile{
		upload:  api.Policy{Name: path, Source: string(src), Files: map[string][]byte{}},
		rules:   len(file.Rules),
		filters: len(entries),
	}
	if err := r.loadCredentials(file, now); err != nil {
		return nil, badFile{err}
	}
	return r, nil
}

// loadCredentials reads the files that the rules name, and checks that they
// are of use.
func (r *ruleFile) loadCredentials(file *rules.File, now time.Time) error {
	read := func(name string) ([]byte, error) {
		if b, ok := r.upload.Files[name]; ok {
			return b, nil
		}
		b, err := readFile(r.locate(name))
		if err == nil {
			r.upload.Files[name] = b
		}
		return b, err
	}
	var errs []error
	negotiations := file.Negotiations()
	for _, rule := range file.Rules {
		n, ok := negotiations[rule.Name]
		if !ok {
			continue
		}
		methods, err := credentials.Load(n, read)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		r.warnAboutDates(n, methods, now)
		if err := r.warnAboutReaders(n); err != nil {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// locate returns the path of a file that the rule file names.
func (r *ruleFile) locate(name string) string {
	if filepath.IsAbs(name) {
		return name
	}
	return filepath.Join(filepath.Dir(r.upload.Name), name)
}

func (r *ruleFile) warn(n rules.Negotiation, format string, args ...any) {
	w := fmt.Sprintf("%s: warning: rule %q: ", n.Position, n.Rule) + fmt.Sprintf(format, args...)
	r.warnings = append(r.warnings, w)
}

// warnAboutDates warns of our own certificates that peers will refuse today.
func (r *ruleFile) warnAboutDates(n rules.Negotiation, methods []ike.AuthMethod, now time.Time) {
	for _, m := range methods {
		c, ok := m.(ike.Certificate)
		if !ok {
			continue
		}
		for _, x := range c.Chain {
			switch {
			case now.After(x.NotAfter):
				r.warn(n, "the certificate %q expired on %s: renew it", x.Subject, x.NotAfter.Format(time.DateOnly))
			case now.Before(x.NotBefore):
				r.warn(n, "the certificate %q is not valid before %s", x.Subject, x.NotBefore.Format(time.DateOnly))
			}
		}
	}
}

// warnAboutReaders warns of secrets that everybody on this host can read.
func (r *ruleFile) warnAboutReaders(n rules.Negotiation) error {
	for _, a := range n.Auth {
		var name string
		if a.Certificate != nil {
			name = a.Certificate.Key
		} else {
			name = a.PresharedKey.File
		}
		info, err := os.Stat(r.locate(name))
		if err != nil {
			return err
		}
		if info.Mode().Perm()&0o004 != 0 {
			r.warn(n, "everybody on this host can read the secret in %s: chmod 600 %[1]s", r.locate(name))
		}
	}
	return nil
}

// readFile reads a file of bounded size.
func readFile(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return nil, err
	}
	if len(b) > maxFile {
		return nil, fmt.Errorf("%s is larger than %d bytes: name another file", path, maxFile)
	}
	return b, nil
}
