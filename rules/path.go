package rules

import (
	"fmt"
	"net/url"
	"strings"
)

// filePath is a path, kept as it is written.
func filePath[T any](of func(*T) *string) value[T] {
	return value[T]{
		read: func(r *reader, n *node, k keyed, into *T) {
			if s, ok := r.readPath(n, k); ok {
				*of(into) = s
			}
		},
		describe: func(*definitions) *schema { return anyText() },
	}
}

// filePaths is a path or a list of them.
func filePaths[T any](of func(*T) *[]string) value[T] {
	return value[T]{
		read: func(r *reader, n *node, k keyed, into *T) {
			if n.kind != sequence {
				if s, ok := r.readPath(n, k); ok {
					*of(into) = []string{s}
				}
				return
			}
			var out distinct[string]
			r.readList(n, quoted(k.name), k.write, func(v *node) {
				if s, ok := r.readPath(v, k); ok && !out.add(s) {
					r.report(v.at, fmt.Sprintf("%q names the same file twice", k.name), "remove one of the two")
				}
			})
			*of(into) = out.list
		},
		describe: func(*definitions) *schema { return orList(anyText()) },
	}
}

// readPath returns a path. No message repeats it: it may be a secret that
// stands in the wrong place.
func (r *reader) readPath(n *node, k keyed) (string, bool) {
	s, ok := r.readScalar(n, k.name, k.name+": PATH")
	if ok && strings.ContainsAny(s, "\n\r") {
		r.report(n.at, fmt.Sprintf("%q is no path: it has more than one line", k.name), "write "+k.name+": PATH; what the file holds is not written into the rule file")
		return "", false
	}
	return s, ok
}

// maxURL is the longest URL of a certificate, in bytes.
const maxURL = 512

// certificateURL is where a certificate can be fetched. RFC 7296 section 3.6
// has http only: https would take a certificate to fetch one.
func certificateURL[T any](of func(*T) *string) value[T] {
	return value[T]{
		read: func(r *reader, n *node, k keyed, into *T) {
			s, ok := r.readScalar(n, k.name, k.write)
			if !ok {
				return
			}
			u, err := url.Parse(s)
			if err != nil || u.Scheme != "http" || u.Host == "" || u.User != nil || u.Fragment != "" || len(s) > maxURL {
				r.report(n.at, fmt.Sprintf("%q is no URL of http", k.name), fmt.Sprintf("write it as in %s: http://pki.example.com/host.der, with at most %d bytes", k.name, maxURL))
				return
			}
			*of(into) = s
		},
		describe: func(*definitions) *schema { return pattern(`^http://[^\s]+$`) },
	}
}
