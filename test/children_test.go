package test

import (
	"encoding/json"
	"fmt"
	"testing"
	"time"
)

// peer is an IKE SA as "list peers -o json" shows it.
type peer struct {
	Remote   string `json:"remote"`
	Children int    `json:"children"`
}

func (d *daemon) peers(t *testing.T) []peer {
	t.Helper()
	out, err := d.run("list", "peers", "-o", "json")
	must(t, err)
	var list []peer
	must(t, json.Unmarshal(out, &list))
	return list
}

// An SA that has carried nearly all that its lifetime allows is replaced, also
// with a key exchange of its own; one that has carried all of it, too.
func TestLifetimeInBytes(t *testing.T) {
	for _, tt := range []struct{ name, extra string }{
		{"without PFS", ""},
		{"with PFS", "      pfs: true\n"},
		{"with PFS by one group", "      pfs: [ecp384]\n"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s, w, ds, dw := secureHosts(t, "      lifetime-bytes: 1MiB\n"+tt.extra)
			listenSwaps(t, s.server, server4+":8443")
			wire := s.between(t)
			must(t, transfer(w, "", server4+":8443", 1))
			onePair(t, ds, dw)
			before := ds.sas(t)[0]
			const nearly = megabyte * 18 / 20 // beyond where the last of both ends begins to replace it, with the headers of TCP
			must(t, transfer(w, "", server4+":8443", nearly))
			eventually(t, 20*time.Second, "the SA is replaced", func() bool {
				as, bs := ds.sas(t), dw.sas(t)
				return len(as) == 1 && len(bs) == 1 && as[0].InSPI != before.InSPI && as[0].InSPI == bs[0].OutSPI
			})
			must(t, transfer(w, "", server4+":8443", 8*megabyte)) // faster than a clock that ticks in seconds
			wire.secret(t, 2*8*megabyte+2*nearly)
			if n := len(ds.peers(t)); n != 1 {
				t.Errorf("%d IKE SAs", n)
			}
			ds.untroubled(t)
			dw.untroubled(t)
		})
	}
}

// How many SAs an IKE SA makes. Where both ends want a key exchange for each and
// have no group in common it is the first, whose keys come from the IKE SA's.
func TestChildrenOfAnIKESA(t *testing.T) {
	const policy = `version: 1
name: two-services
filter-lists:
  one: [{from: %[1]s, to: %[2]s, protocol: tcp, to-port: 8443}]
  two: [{from: %[1]s, to: %[2]s, protocol: tcp, to-port: 8444}]
filter-actions:
  secure: {negotiate: {pfs: %[3]s}}
rules:
  - {name: one, filter-list: one, action: secure, authentication: [{preshared-key: {file: psk}}]}
  - {name: two, filter-list: two, action: secure, authentication: [{preshared-key: {file: psk}}]}
key-exchange: {%[4]s}
`
	for _, tt := range []struct {
		name, settings   string
		server, client   string
		reached          bool
		ikeSAs, children int
	}{
		{"without PFS", "", "false", "false", true, 1, 2},
		{"a common group", "", "[x25519, ecp384]", "[ecp384]", true, 1, 2},
		{"no common group", "", "[x25519]", "[ecp384]", false, 1, 1},
		{"one child of an IKE SA", "children: 1", "false", "false", true, 2, 1},
		{"PFS of the master key", "master-key-pfs: true", "false", "false", true, 2, 1},
		{"two children of an IKE SA", "children: 2", "true", "true", true, 1, 2},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := newSite(t)
			w := s.workstation(t)
			ds, dw := startDaemon(t, s.server), startDaemon(t, w)
			ds.write(t, "psk", []byte(psk))
			dw.write(t, "psk", []byte(psk))
			ds.apply(t, fmt.Sprintf(policy, "any", "me", tt.server, tt.settings))
			dw.apply(t, fmt.Sprintf(policy, "me", server4, tt.client, tt.settings))
			listenSwaps(t, s.server, server4+":8443")
			listenSwaps(t, s.server, server4+":8444")
			wire := s.between(t)
			must(t, transfer(w, "", server4+":8443", megabyte))
			if tt.reached {
				must(t, transfer(w, "", server4+":8444", megabyte))
			} else if err := refused(w, server4+":8444", time.Second); err != nil {
				t.Error(err)
			}
			wire.secret(t, 2*megabyte)
			for _, d := range []*daemon{ds, dw} {
				list := d.peers(t)
				for _, p := range list {
					if p.Children != tt.children {
						t.Errorf("an IKE SA of %s has %d children, want %d", d.host.Name, p.Children, tt.children)
					}
				}
				if len(list) != tt.ikeSAs {
					t.Errorf("%s has %d IKE SAs, want %d", d.host.Name, len(list), tt.ikeSAs)
				}
			}
		})
	}
}

// Only peers of the group get in, by a name in their certificate or by their
// organisational unit, though the authority vouches for others too.
func TestPeerGroups(t *testing.T) {
	const policy = `version: 1
name: groups
peers:
  payroll: {names: ["*.staff.test", boss.test], units: [Payroll]}
filter-lists:
  web: [{from: %s, to: %s, protocol: tcp, to-port: 8443}]
rules:
  - {name: web, filter-list: web, action: require-security, %s
     authentication: [{certificate: {authority: ca.pem, own: host.pem, key: host.key}}]}
`
	s := newSite(t)
	w := s.workstation(t)
	ca := newAuthority(t)
	ds := startDaemon(t, s.server)
	ds.enroll(t, ca, "server.test", server4, psk)
	ds.apply(t, fmt.Sprintf(policy, "any", "me", "peers: payroll,"))
	listenSwaps(t, s.server, server4+":8443")
	for _, tt := range []struct {
		certificate string
		units       []string
		want        bool
	}{
		{"alice.staff.test", nil, true},
		{"alice.sales.test", nil, false},
		{"boss.test", nil, true},
		{"a.b.staff.test", nil, false},
		{"bob.sales.test", []string{"Sales", "Payroll"}, true},
		{"bob.sales.test", []string{"Sales"}, false},
	} {
		t.Run(fmt.Sprint(tt.certificate, tt.units), func(t *testing.T) {
			dw := startDaemon(t, w)
			dw.enroll(t, ca, tt.certificate, workstation4, psk, tt.units...)
			dw.apply(t, fmt.Sprintf(policy, "me", server4, "")) // its own group is nobody's business
			wire := s.between(t)
			if tt.want {
				must(t, transfer(w, "", server4+":8443", megabyte))
				wire.secret(t, 2*megabyte)
			} else {
				if err := refused(w, server4+":8443", time.Second); err != nil {
					t.Error(err)
				}
				wire.secret(t, 0)
				if sas := ds.sas(t); len(sas) > 0 {
					t.Errorf("the SAs are %+v", sas)
				}
			}
			_, err := dw.run("unapply")
			must(t, err)
			eventually(t, 10*time.Second, "the SAs go", func() bool { return len(ds.sas(t)) == 0 })
		})
	}
}
