package daemon

import (
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/ipsecfw/ipsecfw/cmd/ipsecfw/internal/api"
	"github.com/ipsecfw/ipsecfw/cmd/ipsecfw/internal/credentials"
	"github.com/ipsecfw/ipsecfw/ipsec/ike"
	"github.com/ipsecfw/ipsecfw/ipsec/pki"
	"github.com/ipsecfw/ipsecfw/rules"
)

// part is a rule file that can be put in force: parsed, its credentials
// loaded. It is immutable.
type part struct {
	upload *api.Policy
	file   *rules.File
	rules  map[string]*negotiation // under the file's own settings
	ppks   []ike.PPK               // of the file's key exchange
}

// Verify reads an upload and everything in it, as Apply does before anything
// else. The error is an *api.Error.
func Verify(up api.Policy) error {
	_, err := load(&up, nil)
	return err
}

// load checks an upload and everything in it. Fetcher gets what certificates
// point at; nil if nothing is to be fetched. The error is an *api.Error.
func load(up *api.Policy, fetcher pki.Fetcher) (*part, error) {
	file, err := rules.Parse(up.Name, []byte(up.Source))
	if err != nil {
		return nil, invalid(err)
	}
	read := func(path string) ([]byte, error) {
		if b, ok := up.Files[path]; ok {
			return b, nil
		}
		return nil, fmt.Errorf("the file %q did not come with the policy", path)
	}
	p := &part{upload: up, file: file, rules: map[string]*negotiation{}}
	negotiations := file.Negotiations()
	if d, ok := file.DefaultResponse(); ok {
		negotiations[d.Rule] = d
	}
	if files := missing(file, negotiations, up.Files); len(files) > 0 {
		return nil, &api.Error{
			Code: api.CodeMissingFiles, Message: fmt.Sprintf("%d files that the rule file names did not come with it", len(files)),
			Files: files,
		}
	}
	var errs []error
	if p.ppks, err = credentials.FilePPKs(file, read); err != nil {
		errs = append(errs, err)
	}
	for _, name := range slices.Sorted(maps.Keys(negotiations)) {
		n := negotiations[name]
		c, err := credentials.Load(n, read, fetcher)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		p.rules[name] = settle(n, c.Auth, c.PPKs, p)
	}
	if err := errors.Join(errs...); err != nil {
		return nil, invalid(err)
	}
	return p, nil
}

// missing returns the files that a rule file names and that are not there, in
// order.
func missing(file *rules.File, negotiations map[string]rules.Negotiation, files map[string][]byte) []api.NamedFile {
	found := map[string]api.NamedFile{}
	want := func(f rules.NamedFile, need string) {
		if _, ok := files[f.Path]; ok {
			return
		}
		x, known := found[f.Path]
		if !known {
			x = api.NamedFile{Path: f.Path, Need: need}
		}
		x.Secret = x.Secret || f.Secret
		found[f.Path] = x
	}
	for _, name := range slices.Sorted(maps.Keys(negotiations)) {
		n := negotiations[name]
		for _, f := range n.Files() {
			want(f, fmt.Sprintf("%s: rule %q", f.Position, n.Rule))
		}
	}
	for _, f := range file.KeyExchange.Files() {
		want(f, file.KeyExchangeAt(f.Key)+": key-exchange")
	}
	var out []api.NamedFile
	for _, path := range slices.Sorted(maps.Keys(found)) {
		out = append(out, found[path])
	}
	return out
}

// under returns the rules of a part as they are under the settings of another,
// or of its own.
func (x *part) under(s *part) map[string]*negotiation {
	if s == x {
		return x.rules
	}
	out := map[string]*negotiation{} // without the default response, which is a setting
	for name, n := range x.file.With(s.file.KeyExchange).Negotiations() {
		out[name] = settle(n, x.rules[name].auth, x.rules[name].ppks, s)
	}
	return out
}
