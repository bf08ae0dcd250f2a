package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"time"

	"github.com/ipsecfw/ipsecfw/cmd/ipsecfw/internal/api"
	"github.com/ipsecfw/ipsecfw/cmd/ipsecfw/internal/surroundings"
	"github.com/ipsecfw/ipsecfw/cmd/ipsecfw/internal/verify"
	"github.com/ipsecfw/ipsecfw/filter"
	"github.com/ipsecfw/ipsecfw/rules"
)

// policy is rule files that are in force together, or are to be.
type policy struct {
	files     []*rules.File // the persistent one first
	addresses rules.Addresses
}

// inForce asks the daemon for the policy in force. With none it has no files.
func inForce(ctx context.Context, d *api.Client) (policy, error) {
	in, err := d.InForce(ctx)
	if err != nil {
		return policy{}, err
	}
	p := policy{addresses: in.Addresses}
	for _, x := range in.Files {
		f, err := rules.Parse(x.Name, []byte(x.Source))
		if err != nil {
			return policy{}, badFile{fmt.Errorf("%w\nthe daemon has this policy in force and this program does not understand it: they are of different versions", err)}
		}
		p.files = append(p.files, f)
	}
	return p, nil
}

// with returns the policy that is in force once a file is applied: it takes
// the place of the persistent file if it is one, and of the other if not.
func (p policy) with(f *rules.File) policy {
	out := policy{addresses: p.addresses}
	for _, x := range p.files {
		if x.Persistent != f.Persistent {
			out.files = append(out.files, x)
		}
	}
	if f.Persistent {
		out.files = slices.Insert(out.files, 0, f)
	} else {
		out.files = append(out.files, f)
	}
	return out
}

// settings returns the file whose settings hold; nil with no file.
func (p policy) settings() *rules.File {
	if len(p.files) == 0 {
		return nil
	}
	return p.files[len(p.files)-1]
}

// entries returns the specific filters of all files.
func (p policy) entries() []filter.Entry {
	if len(p.files) == 1 {
		return p.files[0].Entries(p.addresses)
	}
	var out []filter.Entry
	for _, f := range p.files {
		out = append(out, f.Entries(p.addresses)...)
	}
	return out
}

// exemptions returns the packets that no filter is asked about.
func (p policy) exemptions() filter.Exemptions {
	if f := p.settings(); f != nil {
		return f.Exemptions
	}
	return filter.Exemptions{}
}

// spd returns the filters in the order in which they decide.
func (p policy) spd() (*filter.SPD, error) {
	s, err := filter.New(p.entries(), filter.Settings{Exemptions: p.exemptions()})
	if err != nil {
		return nil, badFile{err}
	}
	return s, nil
}

// toVerify returns the policy for package verify.
func (p policy) toVerify() (*verify.Policy, error) {
	s, err := p.spd()
	if err != nil {
		return nil, err
	}
	return &verify.Policy{Files: p.files, Addresses: p.addresses, SPD: s}, nil
}

// negotiations returns the rules that negotiate, by name, under the settings
// that hold.
func (p policy) negotiations() map[string]rules.Negotiation {
	out := map[string]rules.Negotiation{}
	for _, f := range p.files {
		maps.Copy(out, f.With(p.settings().KeyExchange).Negotiations())
	}
	return out
}

// lookFor is how long names may take to resolve.
const lookFor = 5 * time.Second

// look finds out what the names and dynamic sides of all policies stand for, as
// far as the first one does not know it, and tells it to all of them. The
// error, beside which everything else is found, says for each name that does
// not resolve where it stands.
func look(ctx context.Context, policies ...*policy) error {
	var w surroundings.Wanted
	known := policies[0].addresses
	known.Names = map[string][]netip.Addr{}
	maps.Copy(known.Names, policies[0].addresses.Names)
	for _, p := range policies {
		for _, f := range p.files {
			n := f.Needs()
			w.Names = append(w.Names, n.Names...)
			w.DNSServers = w.DNSServers || n.DNSServers && len(known.DNSServers) == 0
			w.DHCPServers = w.DHCPServers || n.DHCPServers && len(known.DHCPServers) == 0
			w.DefaultGateways = w.DefaultGateways || n.DefaultGateways && len(known.DefaultGateways) == 0
		}
	}
	slices.Sort(w.Names)
	w.Names = slices.DeleteFunc(slices.Compact(w.Names), func(name string) bool { return len(known.Names[name]) > 0 })
	if len(w.Names) == 0 && !w.DNSServers && !w.DHCPServers && !w.DefaultGateways {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, lookFor)
	defer cancel()
	found, err := surroundings.Look(ctx, w, surroundings.Config{})
	maps.Copy(known.Names, found.Names)
	if w.DNSServers {
		known.DNSServers = found.DNSServers
	}
	if w.DHCPServers {
		known.DHCPServers = found.DHCPServers
	}
	if w.DefaultGateways {
		known.DefaultGateways = found.DefaultGateways
	}
	for _, p := range policies {
		p.addresses = known
	}
	return placed(err, policies)
}

// placed says of each name that does not resolve where it stands.
func placed(err error, policies []*policy) error {
	list, ok := err.(interface{ Unwrap() []error })
	if !ok {
		return err
	}
	var out []error
	for _, err := range list.Unwrap() {
		var unknown *surroundings.LookupError
		if errors.As(err, &unknown) {
			if at := placeOf(unknown.Name, policies); at != "" {
				err = fmt.Errorf("%s: %w", at, err)
			}
		}
		out = append(out, err)
	}
	return errors.Join(out...)
}

// placeOf returns where a name stands first, as FILE:LINE:COLUMN.
func placeOf(name string, policies []*policy) string {
	is := func(s rules.Side) bool { return s.Kind == rules.SideName && s.Name == name }
	ends := func(f *rules.Filter) bool { return slices.ContainsFunc(f.From, is) || slices.ContainsFunc(f.To, is) }
	for _, p := range policies {
		for _, f := range p.files {
			at := func(x rules.Position) string { return fmt.Sprintf("%s:%d:%d", f.Path, x.Line, x.Column) }
			for _, s := range f.Sets {
				if slices.ContainsFunc(s.Members, is) {
					return at(s.Position)
				}
			}
			for _, l := range f.Lists {
				for i := range l.Filters {
					if ends(&l.Filters[i]) {
						return at(l.Filters[i].Position)
					}
				}
			}
			for i := range f.Asserts {
				if ends(&f.Asserts[i].Filter) {
					return at(f.Asserts[i].Position)
				}
			}
		}
	}
	return ""
}
