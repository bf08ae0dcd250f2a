package credentials

import (
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"testing"

	"github.com/ipsecfw/ipsecfw/ipsec/ike"
	"github.com/ipsecfw/ipsecfw/rules"
)

func byCertificate() rules.Authentication {
	return rules.Authentication{Certificate: &rules.Certificate{Authorities: []string{"ca.pem"}, Own: "host.pem", Key: "keys/host.key"}}
}

func bySecret() rules.Authentication {
	return rules.Authentication{PresharedKey: &rules.PresharedKey{File: "psk"}}
}

func TestLoad(t *testing.T) {
	caKey, hostKey := ecKey(t), edKey(t)
	root := issue(t, "Root", caKey, nil, true)
	intermediate := issue(t, "Intermediate", ecKey(t), root, true)
	host := issue(t, "host.example", hostKey, intermediate, false)
	direct := issue(t, "host.example", hostKey, root, false)
	nobody := issue(t, "", hostKey, root, false)
	good := func(own []byte) files {
		return files{"ca.pem": certPEM(root), "host.pem": own, "keys/host.key": keyPEM(t, "PRIVATE KEY", hostKey), "psk": []byte("a good secret\n")}
	}
	with := func(f files, name string, content []byte) files {
		f[name] = content
		return f
	}
	without := func(f files, name string) files {
		delete(f, name)
		return f
	}
	both := []rules.Authentication{byCertificate(), bySecret()}
	for _, tt := range []struct {
		name  string
		files files
		auth  []rules.Authentication
		want  []string // the methods
		errs  []string // one for each line, without the position
	}{
		{"certificate and secret", good(certPEM(direct)), both, []string{"certificate CN=host.example", "preshared-key"}, nil},
		{"the order of the file", good(certPEM(direct)), []rules.Authentication{bySecret(), byCertificate()}, []string{"preshared-key", "certificate CN=host.example"}, nil},
		{"with an intermediate", good(certPEM(host, intermediate)), both[:1], []string{"certificate CN=host.example"}, nil},
		{"another key", with(good(certPEM(direct)), "keys/host.key", keyPEM(t, "PRIVATE KEY", caKey)), both[:1], nil,
			[]string{`keys/host.key: the key is not that of the certificate "CN=host.example" in host.pem`}},
		{"chain in the wrong order", good(certPEM(intermediate, host)), both[:1], nil,
			[]string{`host.pem: "CN=Intermediate" was not issued by "CN=host.example", which follows it`}},
		{"a certificate of nobody", good(certPEM(nobody)), both[:1], nil, []string{"host.pem: our certificate number 1 names nobody"}},
		{"everything missing", files{}, both, nil, []string{"open ca.pem: file does not exist", "open host.pem: file does not exist", "open keys/host.key: file does not exist", "open psk: file does not exist"}},
		{"a secret missing", without(good(certPEM(direct)), "psk"), both, nil, []string{"open psk: file does not exist"}},
		{"an authority that is none", with(good(certPEM(direct)), "ca.pem", certPEM(root, direct)), both[:1], nil, []string{`ca.pem: the certificate "CN=host.example" is of no authority: name the file of its issuer's`}},
		{"certificate for key", with(good(certPEM(direct)), "keys/host.key", certPEM(direct)), both[:1], nil, []string{"keys/host.key: there is no private key in it"}},
		{"key for certificate", good(keyPEM(t, "PRIVATE KEY", hostKey)), both[:1], nil, []string{`host.pem: a PEM block "PRIVATE KEY" stands where only certificates should`}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, err := Load(rules.Negotiation{Rule: "staff", Position: "p.yaml:22:5", Auth: tt.auth}, tt.files.read, nil)
			if tt.errs != nil {
				checkLines(t, err, tt.errs)
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			var names []string
			for _, m := range got.Auth {
				names = append(names, m.String())
			}
			if !slices.Equal(names, tt.want) {
				t.Errorf("methods %q, want %q", names, tt.want)
			}
		})
	}
}

// Of several raw keys none proves a name.
func TestLoadRawKeys(t *testing.T) {
	f := files{"own": keyPEM(t, "PRIVATE KEY", edKey(t)), "a": publicPEM(t, edKey(t)), "b": publicPEM(t, ecKey(t))}
	f["both"] = slices.Concat(f["a"], f["b"])
	knows := func(paths ...string) rules.Authentication {
		return rules.Authentication{RawKey: &rules.RawKey{Key: "own", Peers: paths}}
	}
	several := []string{`peer-id: 2 raw keys of peers are listed, of which none proves the name "host.example"`}
	for _, tt := range []struct {
		name, peerID string
		auth         []rules.Authentication
		errs         []string
	}{
		{"one", "host.example", []rules.Authentication{knows("a")}, nil},
		{"two, and no name is wanted", "", []rules.Authentication{knows("both")}, nil},
		{"two in a file", "host.example", []rules.Authentication{knows("both")}, several},
		{"two files", "host.example", []rules.Authentication{knows("a", "b")}, several},
		{"two methods", "host.example", []rules.Authentication{knows("a"), knows("b")}, several},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := Load(rules.Negotiation{Rule: "staff", Position: "p.yaml:22:5", Auth: tt.auth, PeerID: tt.peerID}, f.read, nil)
			if tt.errs != nil {
				checkLines(t, err, tt.errs)
			} else if err != nil {
				t.Error(err)
			}
		})
	}
}

func checkLines(t *testing.T, err error, want []string) {
	t.Helper()
	if err == nil {
		t.Fatal("no error")
	}
	lines := strings.Split(err.Error(), "\n")
	if len(lines) != len(want) {
		t.Fatalf("error\n%v\nwant %d lines", err, len(want))
	}
	for i := range want {
		if w := `p.yaml:22:5: rule "staff": ` + want[i]; !strings.HasPrefix(lines[i], w) {
			t.Errorf("line %d is %q, want %q", i+1, lines[i], w)
		}
	}
}

func TestLoadedCertificate(t *testing.T) {
	key := ecKey(t)
	root := issue(t, "Root", ecKey(t), nil, true)
	host := issue(t, "host.example", key, root, false)
	f := files{"ca.pem": certPEM(root), "host.pem": certPEM(host), "keys/host.key": keyPEM(t, "EC PRIVATE KEY", key)}
	methods, err := Load(rules.Negotiation{Auth: []rules.Authentication{byCertificate()}}, f.read, nil)
	if err != nil {
		t.Fatal(err)
	}
	c, ok := methods.Auth[0].(ike.Certificate)
	if !ok || len(c.Chain) != 1 || !c.Chain[0].Equal(host.cert) || !key.Equal(c.Key) || len(c.Roots) != 1 || !c.Roots[0].Equal(root.cert) || c.Authorities == nil {
		t.Errorf("loaded %v", methods.Auth[0])
	}
}

// An error never holds a secret, and says what it is about.
func TestErrors(t *testing.T) {
	const secret = "hunter2"
	f := files{"psk": []byte(secret)}
	_, err := Load(rules.Negotiation{Auth: []rules.Authentication{bySecret()}}, f.read, nil)
	if err == nil || strings.Contains(fmt.Sprintf("%v %+v %#v", err, err, err), secret) {
		t.Errorf("error %v", err)
	}
	_, err = Load(rules.Negotiation{Auth: []rules.Authentication{byCertificate()}}, f.read, nil)
	if !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("error %v, want one that wraps fs.ErrNotExist", err)
	}
}
