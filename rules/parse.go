package rules

import (
	"fmt"
	"slices"

	"github.com/ipsecfw/ipsecfw/filter"
)

// Parse reads a rule file. The name is the one that messages give; nothing
// is opened. The error is an *Errors with all that is wrong.
func Parse(name string, src []byte) (*File, error) {
	r := &reader{reporter: reporter{file: name}}
	root := parseYAML(&r.reporter, src)
	if root == nil {
		return nil, r.err()
	}
	f := r.readFile(root)
	if err := r.err(); err != nil {
		return nil, err
	}
	f.Path = name
	return f, nil
}

// readFile reads the whole file, then checks it as a whole.
func (r *reader) readFile(root *node) *File {
	f := &File{
		Exemptions:  exemptionLevels[defaultExemptions],
		Startup:     Startup{Mode: BootStateful},
		KeyExchange: defaultKeyExchange(),
	}
	if fileKeys.read(r, root, "the file", f) {
		r.check(f, root)
	}
	return f
}

// fileKeys are the keys of the file.
var fileKeys = table[File]{
	{name: "version", about: "the version of the rule file's grammar: 1", write: "version: 1", required: true,
		value: value[File]{
			read:     func(r *reader, n *node, k keyed, _ *File) { r.readVersion(n, k) },
			describe: func(*definitions) *schema { return integers(1, 1) },
		}},
	{name: "name", about: "the policy's name", write: "name: NAME", required: true,
		value: named("the policy", func(f *File) *string { return &f.Name })},
	{name: "persistent", about: "whether the policy is in force before the network is up, and beside what is applied later; false if missing", write: "persistent: true, or remove the key",
		value: boolean(func(f *File) *bool { return &f.Persistent })},
	{name: "exemptions", about: "what no filter judges, beside IKE: 0 multicast, broadcast, RSVP and Kerberos; 1 multicast and broadcast; 2 RSVP and Kerberos; 3 nothing; 1 if missing", write: "exemptions: 1",
		value: value[File]{
			read: func(r *reader, n *node, k keyed, f *File) {
				if level, ok := r.readNumber(n, k.name, 0, len(exemptionLevels)-1); ok {
					f.Exemptions = exemptionLevels[level]
				}
			},
			describe: func(*definitions) *schema { return integers(0, int64(len(exemptionLevels)-1)) },
		}},
	{name: "boot", about: "what holds until the daemon has the policy", write: "boot: {mode: stateful}",
		value: startup(func(f *File) *Startup { return &f.Startup })},
	{name: "address-sets", about: "addresses by the name of their set", write: writeSets,
		value: addressSets(func(f *File) *[]Set { return &f.Sets })},
	{name: "peers", about: "groups of peers, by what their certificates say", write: writePeers,
		value: peerGroups(func(f *File) *[]PeerGroup { return &f.Peers })},
	{name: "filter-lists", about: "lists of filters by name", write: "filter-lists: {NAME: [{from: any, to: me}]}", required: true, unless: DefaultResponseRule,
		value: filterLists(func(f *File) *[]List { return &f.Lists })},
	{name: "filter-actions", about: "filter actions by name, beside permit, block, request-security and require-security", write: writeActions + ", or remove the key",
		value: filterActions(func(f *File) *[]Action { return &f.Actions })},
	{name: "rules", about: "what becomes of the packets of filter lists", write: "rules: [{name: NAME, filter-list: LIST, action: ACTION}]", required: true, unless: DefaultResponseRule,
		value: rules(func(f *File) *[]Rule { return &f.Rules })},
	{name: DefaultResponseRule, about: "how to answer a peer that asks for security where no rule matches; not at all if missing", write: DefaultResponseRule + ": {action: require-security, " + writeAuth + "}",
		value: response(func(f *File) **Rule { return &f.Response })},
	{name: "key-exchange", about: "what holds for IKE with every peer", write: "key-exchange: {lifetime: 8h}, or remove the key",
		value: keyExchange(func(f *File) *KeyExchange { return &f.KeyExchange })},
	{name: "assert", about: "what always, or never, becomes of packets; check proves it", write: writeAssert,
		value: asserts(func(f *File) *[]Assert { return &f.Asserts })},
}

func (r *reader) readVersion(n *node, k keyed) {
	s, ok := r.readScalar(n, k.name, k.write)
	if ok && s != "1" {
		r.report(n.at, fmt.Sprintf("version %q of the rule file is not known", s), "write "+k.write)
	}
}

// exemptionLevels are Windows' levels of default exemptions (ipsecexempt).
var exemptionLevels = []filter.Exemptions{
	{Multicast: true, RSVP: true, Kerberos: true},
	{Multicast: true},
	{RSVP: true, Kerberos: true},
	{},
}

const defaultExemptions = 1

func exemptionLevel(x filter.Exemptions) int { return slices.Index(exemptionLevels, x) }
