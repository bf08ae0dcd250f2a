// Package rules reads the rule file: a policy in YAML, as an administrator
// writes it.
//
//	version: 1
//	name: payroll-server
//	filter-lists:
//	  staff:
//	    - {from: 10.1.0.0/16, to: me, protocol: tcp, to-port: 8443}
//	rules:
//	  - {name: staff, filter-list: staff, action: require-security,
//	     authentication: [{preshared-key: {file: psk}}]}
//
// Parse reads strictly: whatever the file says that the package does not
// know, or that can have no effect, is an error, and all errors of a file are
// found in one go. Each says where it is, what is wrong, and what to write
// instead.
//
// A File is what the file says. What it means is in its methods: Entries are
// the filters for an SPD, with address sets, DNS names and the host's own
// servers spelt out by Addresses, which the caller finds out as Needs says;
// Negotiations and DefaultResponse are for the key exchange; Boot holds before
// the daemon runs; Assertions are to be proved.
//
// The grammar is tables of keys (grammar.go), by which Parse reads and which
// Schema describes for editors. Print and Format write files: Print anew in
// canonical form, Format in canonical layout with all comments.
//
// The package is pure: it opens no file that the rules name, looks no name
// up, and keeps paths as they are written.
package rules
