// Package rules reads the rule file: a policy in YAML, as an administrator
// writes it.
//
//	version: 1
//	name: payroll-server
//	filter-lists:
//	  staff:
//	    - {from: 10.1.0.0/16, to: me, protocol: tcp, to-port: 8443}
//	filter-actions:
//	  require-security:
//	    negotiate: {mode: transport, proposals: [aes256gcm16]}
//	rules:
//	  - {name: staff, filter-list: staff, action: require-security,
//	     authentication: [{preshared-key: {file: psk}}]}
//
// Parse reads strictly: whatever the file says that the package does not
// know, or that can have no effect, is an error, and all errors of a file are
// found in one go. Each says where it is, what is wrong, and what to write
// instead.
//
// The package is pure: it opens no file that the rules name, and keeps paths
// as they are written.
package rules
