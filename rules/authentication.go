package rules

import (
	"fmt"
	"slices"
	"strings"
)

// Authentication is one way to prove who we are, and for peers to prove who
// they are. Exactly one of its fields is set.
type Authentication struct {
	Certificate  *Certificate
	RawKey       *RawKey
	PresharedKey *PresharedKey
	Anonymous    Anonymous
}

// Certificate names the files of authentication by certificate.
type Certificate struct {
	Authorities   []string // certificates of the authorities that we believe, PEM; at least one
	Intermediates []string // certificates of issuers between these and peers that do not send them, PEM
	Own           string   // our own certificate, then any intermediate ones, PEM; empty with PKCS12, and when we are anonymous
	Key           string   // the private key of the first certificate, PEM; empty without Own
	PKCS12        string   // our own certificate, with its key and any intermediate ones
	PasswordFile  string   // holds the password of PKCS12; empty for none
	Revocation    Revocation
	CRLs          []string // lists of revoked certificates, PEM or DER
	Unnamed       bool     // peers are not told that we believe the authorities
	URL           string   // where peers find our own certificate, which is sent in its place to those that can look there; empty to send it
	AcceptURLs    bool     // peers may send a URL in place of their certificate
	PKCS1         bool     // an RSA key signs by RSASSA-PKCS1-v1_5 in place of RSASSA-PSS
}

// RawKey names the files of authentication by keys without certificates
// (RFC 7670).
type RawKey struct {
	Key   string   // our private key, PEM
	Peers []string // public keys of peers, PEM; at least one
	PKCS1 bool     // an RSA key signs by RSASSA-PKCS1-v1_5 in place of RSASSA-PSS
}

// PresharedKey names the file of a secret that both ends know.
type PresharedKey struct{ File string }

// Anonymous is who proves nothing (RFC 7619). Its zero value is nobody.
type Anonymous uint8

// Who proves nothing.
const (
	AnonymousOwn  Anonymous = iota + 1 // we do not; the peer does, by another way of the rule
	AnonymousPeer                      // the peer need not; we do, by another way of the rule
	AnonymousBoth                      // neither
)

// anonymousWords are the keywords of Anonymous.
var anonymousWords = []string{"own", "peer", "both"}

// String returns the rule file's keyword.
func (a Anonymous) String() string {
	if a == 0 || int(a) > len(anonymousWords) {
		return "nobody"
	}
	return anonymousWords[a-1]
}

// Own reports whether we prove nothing.
func (a Anonymous) Own() bool { return a == AnonymousOwn || a == AnonymousBoth }

// Peer reports whether the peer need not prove anything.
func (a Anonymous) Peer() bool { return a == AnonymousPeer || a == AnonymousBoth }

// Revocation is what becomes of a peer's certificate of which nobody says
// whether it was revoked. One that was is never believed, unless nobody asks.
type Revocation uint8

// The revocation checks.
const (
	RevocationIfPresent Revocation = iota // it is believed
	RevocationStrict                      // it is not
	RevocationOff                         // nobody asks
)

var revocationWords = []string{"if-present", "strict", "off"}

// String returns the rule file's keyword.
func (r Revocation) String() string { return revocationWords[r] }

// NamedFile is a file that a rule names.
type NamedFile struct {
	Path     string // as it is written
	Secret   bool   // only the owner is to read it
	Key      string // its name in Places, below what names it: "certificate/own/0"
	Position string // of Key, as in "payroll.yaml:22:5"; empty if only the rule's is known
}

// Files returns the files that a way to authenticate names.
func (a Authentication) Files() []NamedFile {
	var out []NamedFile
	add := func(secret bool, key string, paths ...string) {
		for i, p := range paths {
			if p != "" {
				out = append(out, NamedFile{Path: p, Secret: secret, Key: fmt.Sprintf("%s/%d", key, i)})
			}
		}
	}
	if c := a.Certificate; c != nil {
		add(false, "certificate/authority", c.Authorities...)
		add(false, "certificate/intermediates", c.Intermediates...)
		add(false, "certificate/own", c.Own)
		add(true, "certificate/key", c.Key)
		add(true, "certificate/pkcs12", c.PKCS12)
		add(true, "certificate/password-file", c.PasswordFile)
		add(false, "certificate/crl", c.CRLs...)
	}
	if k := a.RawKey; k != nil {
		add(true, "raw-key/key", k.Key)
		add(false, "raw-key/peers", k.Peers...)
	}
	if k := a.PresharedKey; k != nil {
		add(true, "preshared-key/file", k.File)
	}
	return out
}

// String says in words by what both ends authenticate.
func (a Authentication) String() string {
	switch {
	case a.Certificate != nil:
		return "certificate of " + strings.Join(a.Certificate.Authorities, " or ")
	case a.RawKey != nil:
		return "raw key in " + strings.Join(a.RawKey.Peers, " or ")
	case a.PresharedKey != nil:
		return "preshared key in " + a.PresharedKey.File
	case a.Anonymous == AnonymousOwn:
		return "nothing on our side"
	case a.Anonymous == AnonymousPeer:
		return "nothing on the peer's side"
	}
	return "nothing on either side"
}

const writeCertificate = "certificate: {authority: PATH, own: PATH, key: PATH}"

var certificateKeys = table[Certificate]{
	{name: "authority", about: "file of the certificates of the authorities to believe, PEM, or a list of files", write: "authority: PATH, the certificates of the authorities to believe", required: true,
		value: filePaths(func(c *Certificate) *[]string { return &c.Authorities })},
	{name: "intermediates", about: "file of the certificates of issuers between the authorities and peers that do not send them, PEM, or a list of files", write: "intermediates: PATH, or remove the key",
		value: filePaths(func(c *Certificate) *[]string { return &c.Intermediates })},
	{name: "own", about: "file of our own certificate, then any intermediate ones, PEM", write: "own: PATH, our own certificate",
		value: filePath(func(c *Certificate) *string { return &c.Own })},
	{name: "key", about: "file of the private key of our own certificate, PEM", write: "key: PATH, the private key of our own certificate",
		value: filePath(func(c *Certificate) *string { return &c.Key })},
	{name: "pkcs12", about: "file of our own certificate with its key and any intermediate ones, PKCS #12, in place of own and key", write: "pkcs12: PATH, in place of own and key",
		value: filePath(func(c *Certificate) *string { return &c.PKCS12 })},
	{name: "password-file", about: "file that holds the password of pkcs12; no password if missing", write: "password-file: PATH, or remove the key for no password",
		value: filePath(func(c *Certificate) *string { return &c.PasswordFile })},
	{name: "revocation", about: "strict: a certificate is refused unless its issuer says that it was not revoked; if-present: it is refused if its issuer says that it was; off: nobody asks; if-present if missing", write: "revocation: strict, revocation: if-present or revocation: off",
		value: word(revocationWords, func(c *Certificate, word string) {
			c.Revocation = Revocation(max(0, slices.Index(revocationWords, word)))
		})},
	{name: "crl", about: "file of a list of revoked certificates, PEM or DER, or a list of files", write: "crl: PATH, or remove the key",
		value: filePaths(func(c *Certificate) *[]string { return &c.CRLs })},
	{name: "exclude-from-request", about: "whether peers are not told that we believe the authorities; false if missing", write: "exclude-from-request: true, or remove the key",
		value: boolean(func(c *Certificate) *bool { return &c.Unnamed })},
	{name: "hash-and-url", about: "where peers find our own certificate, in DER: its URL and hash are sent in its place", write: "hash-and-url: http://HOST/PATH, or remove the key to send the certificate",
		value: certificateURL(func(c *Certificate) *string { return &c.URL })},
	{name: "accept-urls", about: "whether peers may send a URL in place of their certificate; false if missing", write: "accept-urls: true, or remove the key",
		value: boolean(func(c *Certificate) *bool { return &c.AcceptURLs })},
	{name: "rsa-padding", about: aboutPadding, write: writePadding, value: padding(func(c *Certificate) *bool { return &c.PKCS1 })},
}

const (
	aboutPadding = "how an RSA key signs for peers that know RFC 7427: pss, or pkcs1 for those that do not know PSS; pss if missing"
	writePadding = "rsa-padding: pss or rsa-padding: pkcs1"
)

// padding is how an RSA key signs.
func padding[T any](pkcs1 func(*T) *bool) value[T] {
	return word([]string{"pss", "pkcs1"}, func(into *T, word string) { *pkcs1(into) = word == "pkcs1" })
}

// readCertificate reads how to authenticate by certificate. Whether we need
// one of our own depends on the other ways of the rule.
func (r *reader) readCertificate(n *node, k keyed) *Certificate {
	c := &Certificate{}
	before := len(r.list)
	certificateKeys.read(r, n, quoted(k.name), c)
	if len(r.list) > before {
		return c
	}
	own, key := n.get("own"), n.get("key")
	switch {
	case c.PKCS12 != "" && (own != nil || key != nil):
		at := own
		if at == nil {
			at = key
		}
		r.report(at.at, `"pkcs12" holds our own certificate and its key, which stand here too`, `remove "own" and "key", or "pkcs12"`)
	case c.PKCS12 == "" && c.PasswordFile != "":
		r.report(n.get("password-file").at, `"password-file" has no effect without "pkcs12"`, `remove it, or write pkcs12: PATH`)
	case own != nil && key == nil:
		r.report(own.at, `"own" is of no use without its key`, "add key: PATH, the private key of our own certificate")
	case own == nil && key != nil:
		r.report(key.at, `"key" is of no use without its certificate`, "add own: PATH, our own certificate")
	}
	return c
}

// withoutOwn reports whether a certificate method has no certificate of ours.
func (c *Certificate) withoutOwn() bool { return c.Own == "" && c.PKCS12 == "" }

var rawKeyKeys = table[RawKey]{
	{name: "key", about: "file of our private key, PEM", write: "key: PATH, our private key", required: true,
		value: filePath(func(k *RawKey) *string { return &k.Key })},
	{name: "peers", about: "file of public keys of peers, PEM, or a list of files", write: "peers: PATH, the public keys of peers", required: true,
		value: filePaths(func(k *RawKey) *[]string { return &k.Peers })},
	{name: "rsa-padding", about: aboutPadding, write: writePadding, value: padding(func(k *RawKey) *bool { return &k.PKCS1 })},
}

var presharedKeyKeys = table[PresharedKey]{
	{name: "file", about: "file that holds the key", write: "file: PATH, the file that holds the key", required: true,
		value: filePath(func(k *PresharedKey) *string { return &k.File })},
}

var authenticationKeys = table[Authentication]{
	{name: "certificate", about: "authenticate by certificate", write: writeCertificate,
		value: value[Authentication]{
			read:     func(r *reader, n *node, k keyed, a *Authentication) { a.Certificate = r.readCertificate(n, k) },
			describe: func(d *definitions) *schema { return certificateKeys.describe(d) },
		}},
	{name: "raw-key", about: "authenticate by keys without certificates", write: "raw-key: {key: PATH, peers: PATH}",
		value: value[Authentication]{
			read: func(r *reader, n *node, k keyed, a *Authentication) {
				a.RawKey = &RawKey{}
				rawKeyKeys.read(r, n, quoted(k.name), a.RawKey)
			},
			describe: func(d *definitions) *schema { return rawKeyKeys.describe(d) },
		}},
	{name: "preshared-key", about: "authenticate by a secret that both ends know", write: "preshared-key: {file: PATH}",
		value: value[Authentication]{
			read: func(r *reader, n *node, k keyed, a *Authentication) {
				if n.kind == scalar {
					r.report(n.at, "a preshared key is not written into the rule file", "write the key into a file of its own, and preshared-key: {file: PATH} here")
					return
				}
				a.PresharedKey = &PresharedKey{}
				presharedKeyKeys.read(r, n, quoted(k.name), a.PresharedKey)
			},
			describe: func(d *definitions) *schema { return presharedKeyKeys.describe(d) },
		}},
	{name: "anonymous", about: "who proves nothing at all: own, peer or both", write: "anonymous: own, anonymous: peer or anonymous: both",
		value: word(anonymousWords, func(a *Authentication, word string) { a.Anonymous = Anonymous(slices.Index(anonymousWords, word) + 1) })},
}

// kinds returns the keywords of what is set.
func (a Authentication) kinds() []string {
	var out []string
	for i, set := range []bool{a.Certificate != nil, a.RawKey != nil, a.PresharedKey != nil, a.Anonymous != 0} {
		if set {
			out = append(out, authenticationKeys[i].name)
		}
	}
	return out
}

func authentications[T any](of func(*T) *[]Authentication) value[T] {
	return value[T]{
		read: func(r *reader, n *node, k keyed, into *T) { *of(into) = r.readAuthentication(n, k) },
		describe: func(d *definitions) *schema {
			return d.of("authentication", func() *schema { return listOf(authenticationKeys.describe(d).one()) })
		},
	}
}

// readAuthentication reads the ways to authenticate, the preferred first.
func (r *reader) readAuthentication(n *node, k keyed) []Authentication {
	r.private = true
	defer func() { r.private = false }()
	var out []Authentication
	var places []Position
	r.readList(n, quoted(k.name), writeAuth, func(v *node) {
		var a Authentication
		before := len(r.list)
		authenticationKeys.read(r, v, "an authentication method", &a)
		switch kinds := a.kinds(); {
		case len(r.list) > before:
		case len(kinds) == 0:
			r.report(v.at, "an authentication method says nothing", "write "+writeCertificate+" or preshared-key: {file: PATH}")
		case len(kinds) > 1:
			r.report(v.at, fmt.Sprintf("one authentication method has both %q and %q", kinds[0], kinds[1]), "write them as two items of the list")
		default:
			out, places = append(out, a), append(places, v.at)
		}
	})
	if len(out) == len(n.items) {
		r.checkAnonymous(out, places)
	}
	return out
}

// checkAnonymous checks that each end that is to prove something has a way to.
func (r *reader) checkAnonymous(ways []Authentication, places []Position) {
	var anonymous Anonymous
	proves, asks := false, false // whether a way proves who we are, and who the peer is
	for i, a := range ways {
		switch {
		case a.Anonymous != 0 && anonymous != 0:
			r.report(places[i], `"anonymous" comes twice`, "write one of the two, or anonymous: both")
			return
		case a.Anonymous != 0:
			anonymous = a.Anonymous
		default:
			asks = true
			proves = proves || a.Certificate == nil || !a.Certificate.withoutOwn()
		}
	}
	for i, a := range ways {
		switch {
		case a.Certificate != nil && a.Certificate.withoutOwn() && !anonymous.Own():
			r.report(places[i], "a certificate method has no certificate of our own", "write own: PATH and key: PATH, or pkcs12: PATH; or add anonymous: own to the list if we are to prove nothing")
		case a.Anonymous == AnonymousOwn && !asks:
			r.report(places[i], "nothing proves who the peer is", "add certificate: {authority: PATH} to the list, or write anonymous: both")
		case a.Anonymous == AnonymousPeer && !proves:
			r.report(places[i], "nothing proves who we are", "add "+writeCertificate+" to the list, or write anonymous: both")
		}
	}
}
