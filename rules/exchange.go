package rules

import (
	"cmp"
	"fmt"
	"slices"
	"time"
)

// Exchange is what a file says of the key exchange with all peers, and a rule
// with its own.
type Exchange struct {
	Suite     string        // a named choice of algorithms; empty if nothing is said
	Proposals []string      // IKE proposals, each of keywords joined by "-"; nil for those of the suite
	Reauth    time.Duration // after which both ends authenticate anew; Never for never, 0 if nothing is said
	PPKs      []PPK         // nil if nothing is said
	Childless *bool         // nil if nothing is said
}

// Never is an interval without an end.
const Never time.Duration = -1

// PPK names a post-quantum preshared key (RFC 8784).
type PPK struct {
	ID       string // by which both ends know it
	File     string // holds the key
	Required bool   // without a PPK there is no IKE SA
}

// over returns what holds where x is said by a rule, and y by the file.
func (x Exchange) over(y Exchange) Exchange {
	if x.Suite == "" && x.Proposals == nil {
		x.Proposals = y.Proposals
	}
	x.Suite = cmp.Or(x.Suite, y.Suite)
	x.Reauth = cmp.Or(x.Reauth, y.Reauth)
	if x.PPKs == nil {
		x.PPKs = y.PPKs
	}
	if x.Childless == nil {
		x.Childless = y.Childless
	}
	return x
}

// Files returns the files that are named.
func (x *Exchange) Files() []NamedFile {
	out := make([]NamedFile, len(x.PPKs))
	for i, k := range x.PPKs {
		out[i] = NamedFile{Path: k.File, Secret: true, Key: PPKFile(i)}
	}
	return out
}

// PPKFile returns the name in Places of the file of a post-quantum preshared
// key, below that of the key exchange.
func PPKFile(i int) string { return fmt.Sprintf("ppk/%d/file", i) }

// said reports whether anything is.
func (x *Exchange) said() bool {
	return x.Suite != "" || x.Proposals != nil || x.Reauth != 0 || x.PPKs != nil || x.Childless != nil
}

const writeRuleExchange = "key-exchange: {proposals: [aes256-sha256-modp2048]}, or remove the key"

// exchangeKeys are the keys of key-exchange that a rule may have too.
var exchangeKeys = table[Exchange]{
	{name: "suite", about: "a named choice of algorithms: default, cnsa2 or interop; default if missing", write: "suite: default",
		value: word(suites, func(x *Exchange, word string) { x.Suite = word })},
	{name: "proposals", about: "IKE proposals, each of keywords joined by -, the preferred first; those of the suite if missing", write: "proposals: [aes256gcm16-prfsha256-x25519], or remove the key for those of the suite",
		value: value[Exchange]{
			read: func(r *reader, n *node, k keyed, x *Exchange) {
				x.Proposals = r.readTexts(n, k, func(text string) (string, string, string) {
					_, problem, hint := parseIKE(text)
					return text, problem, hint
				})
				if len(x.Proposals) > maxProposals {
					r.report(n.at, fmt.Sprintf("%q has %d proposals, and %d are the most", k.name, len(x.Proposals), maxProposals), "write fewer")
				}
			},
			describe: func(*definitions) *schema {
				return listOf(pattern(ikePattern()))
			},
		}},
	{name: "reauthentication", about: "after which both ends authenticate anew, or never; never if missing", write: "reauthentication: 24h, or reauthentication: never",
		value: value[Exchange]{
			read: func(r *reader, n *node, k keyed, x *Exchange) {
				if n.kind == scalar && n.text == "never" {
					x.Reauth = Never
					return
				}
				x.Reauth = 24 * time.Hour // for messages
				r.readDuration(n, k.name, time.Second, maxReauth, &x.Reauth)
			},
			describe: func(*definitions) *schema { return either(enum("never"), pattern(durationPattern)) },
		}},
	{name: "ppk", about: "a post-quantum preshared key, or a list of them, the preferred first", write: "ppk: {id: NAME, file: PATH}",
		value: value[Exchange]{
			read:     func(r *reader, n *node, k keyed, x *Exchange) { x.PPKs = r.readPPKs(n, k) },
			describe: func(d *definitions) *schema { return orList(ppkKeys.describe(d)) },
		}},
	{name: "childless", about: "whether IKE SAs begin without an SA for packets, which then has a key exchange of its own; false if missing", write: "childless: true or childless: false",
		value: value[Exchange]{
			read: func(r *reader, n *node, k keyed, x *Exchange) {
				x.Childless = new(bool)
				r.readBool(n, k.name, x.Childless)
			},
			describe: func(*definitions) *schema { return &schema{Type: "boolean"} },
		}},
}

// maxReauth is the longest time between authentications.
const maxReauth = 365 * 24 * time.Hour

var ppkKeys = table[PPK]{
	{name: "id", about: "the name by which both ends know the key", write: "id: NAME", required: true,
		value: named("a post-quantum preshared key", func(p *PPK) *string { return &p.ID })},
	{name: "file", about: "file that holds the key", write: "file: PATH, the file that holds the key", required: true,
		value: filePath(func(p *PPK) *string { return &p.File })},
	{name: "required", about: "whether there is no IKE SA without such a key; false if missing", write: "required: true, or remove the key",
		value: boolean(func(p *PPK) *bool { return &p.Required })},
}

// readPPKs reads a post-quantum preshared key or a list of them.
func (r *reader) readPPKs(n *node, k keyed) []PPK {
	r.private = true
	defer func() { r.private = false }()
	var out []PPK
	read := func(v *node) {
		if v.kind == scalar {
			r.report(v.at, "a post-quantum preshared key is not written into the rule file", "write the key into a file of its own, and "+k.write+" here")
			return
		}
		var p PPK
		before := len(r.list)
		ppkKeys.read(r, v, quoted(k.name), &p)
		switch {
		case len(r.list) > before:
		case slices.ContainsFunc(out, func(o PPK) bool { return o.ID == p.ID }):
			r.report(v.at, fmt.Sprintf("two post-quantum preshared keys have the id %q", p.ID), "write another id, or remove one of the two")
		default:
			out = append(out, p)
		}
	}
	if n.kind == sequence {
		r.readList(n, quoted(k.name), k.write, read)
	} else {
		read(n)
	}
	return out
}

// ruleExchange is what a rule says of the key exchange with its peers.
func ruleExchange[T any](of func(*T) *Exchange) value[T] {
	return value[T]{
		read: func(r *reader, n *node, k keyed, into *T) {
			if exchangeKeys.read(r, n, quoted(k.name), of(into)) && len(n.fields) == 0 {
				r.report(n.at, fmt.Sprintf("%q says nothing", k.name), "write "+k.write)
			}
		},
		describe: func(d *definitions) *schema {
			return d.of("exchange", func() *schema {
				s := exchangeKeys.describe(d)
				s.MinFields = 1
				return s
			})
		},
	}
}

// printExchange writes what is said.
func printExchange(x *Exchange) pairs {
	var p pairs
	p.addText("suite", x.Suite)
	p.addList("proposals", x.Proposals)
	switch {
	case x.Reauth == Never:
		p.add("reauthentication", "never")
	case x.Reauth != 0:
		p.add("reauthentication", printDuration(x.Reauth))
	}
	if len(x.PPKs) > 0 {
		keys := make([]string, len(x.PPKs))
		for i, k := range x.PPKs {
			var inner pairs
			inner.addText("id", k.ID)
			inner.addText("file", k.File)
			inner.addBool("required", k.Required, false)
			keys[i] = inner.String()
		}
		if len(keys) == 1 {
			p.add("ppk", keys[0])
		} else {
			p.addList("ppk", keys)
		}
	}
	if x.Childless != nil {
		p.addBool("childless", *x.Childless, !*x.Childless)
	}
	return p
}
