package daemon

import (
	"bytes"
	"maps"
	"reflect"
	"slices"

	"github.com/ipsecfw/ipsecfw/cmd/ipsecfw/internal/api"
	"github.com/ipsecfw/ipsecfw/cmd/ipsecfw/internal/verify"
	"github.com/ipsecfw/ipsecfw/filter"
	"github.com/ipsecfw/ipsecfw/rules"
)

// edit is a rule file that differs in a few filters from one that is in force.
// What it changes is worked out from what there is, so that one line of a
// hundred thousand takes no longer than it must.
type edit struct {
	from, to *part
	rules.Edit
}

// maxEditedRules bounds the rules that use the list of an edit.
const maxEditedRules = 4

// editOf reads an upload as an edit of a part; nil when it is none.
func editOf(from *part, up *api.Policy) *edit {
	old := from.upload
	if old.Name != up.Name || !maps.EqualFunc(old.Files, up.Files, bytes.Equal) {
		return nil
	}
	file, e, ok := from.file.Reread([]byte(old.Source), []byte(up.Source))
	if !ok {
		return nil
	}
	return &edit{from, &part{upload: up, file: file, rules: from.rules, ppks: from.ppks}, e}
}

// edited is what combine makes of parts of which one is an edit of one of p's;
// ok is false when it must be worked out from the beginning.
func (p *policy) edited(e *edit, parts []*part, addresses rules.Addresses, generation uint64) (q *policy, ok bool, err error) {
	want := slices.Clone(p.parts)
	at := slices.Index(want, e.from)
	if at < 0 {
		return nil, false, nil
	}
	want[at] = e.to
	asserts := slices.ContainsFunc(parts, func(x *part) bool { return len(x.file.Asserts) > 0 })
	if asserts || !slices.Equal(want, parts) || !reflect.DeepEqual(addresses, p.addresses) {
		return nil, false, nil
	}
	come := e.to.file.EditedEntries(addresses, e.Edit)
	if len(come) == 0 || len(come) > maxEditedRules { // none: a list that no rule uses
		return nil, false, nil
	}
	q = &policy{parts: parts, addresses: addresses, rules: p.rules, spd: p.spd, secured: p.secured}
	settings := filter.Settings{Generation: generation, Exemptions: q.settings().Exemptions}
	secures := false           // what goes and what comes is of the same rules, and so of the same actions
	var changed []filter.Entry // what comes, and what goes: it may have hidden a contradiction
	for _, rule := range slices.Sorted(maps.Keys(come)) {
		var gone []*filter.Entry
		for _, x := range p.spd.Entries() {
			if x.Name == rule && x.Index >= e.First && x.Index < e.First+e.Count {
				gone, changed = append(gone, x), append(changed, *x)
				secures = secures || x.Action == filter.Negotiate
			}
		}
		if len(gone) == 0 {
			return nil, false, nil
		}
		changed = append(changed, come[rule]...)
		if q.spd, err = q.spd.Replace(gone, come[rule], settings); err != nil {
			return nil, false, invalid(err)
		}
	}
	if err := q.contradicted(changed); err != nil {
		return nil, false, err
	}
	if secures {
		q.secured = q.securing()
	}
	return q, true, nil
}

// contradicted looks for contradictions among the filters that have packets in
// common with some.
func (p *policy) contradicted(changed []filter.Entry) error {
	var near []filter.Entry
	for _, x := range p.spd.Entries() {
		for i := range changed {
			if changed[i].Overlaps(x) {
				near = append(near, *x)
				break
			}
		}
	}
	s, err := filter.New(near, p.spd.Settings())
	if err != nil {
		return invalid(err)
	}
	v := verify.Policy{SPD: s}
	if err := v.Errors(); err != nil {
		return invalid(err)
	}
	return nil
}

// combine makes one policy of parts, by an edit of the one in force if it is
// one.
func (c *control) combine(e *edit, parts []*part, addresses rules.Addresses) (*policy, error) {
	if e != nil && c.plant != nil {
		p, ok, err := c.plant.policy.Load().edited(e, parts, addresses, c.generation+1)
		if ok || err != nil {
			return p, err
		}
	}
	return combine(parts, addresses, c.generation+1)
}
