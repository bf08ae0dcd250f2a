package ikev2_test

import (
	"crypto/x509"
	"errors"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/ipsecfw/ipsecfw/ipsec/ike"
	"github.com/ipsecfw/ipsecfw/ipsec/ike/iketest"
)

// staff is the group that the tests ask for.
func staff(names ...string) *ike.PeerGroup { return &ike.PeerGroup{Name: "staff", Names: names} }

func unitOf(u string) *ike.PeerGroup { return &ike.PeerGroup{Name: "staff", Units: []string{u}} }

// TestPeers has each end want that the other belongs to a group, for the IKE
// SA as a whole and for another Child SA.
func TestPeers(t *testing.T) {
	ca := newAuthority(t, "test CA")
	unit := func(c *x509.Certificate) { c.Subject.OrganizationalUnit = []string{"Payroll", "Night shift"} }
	mail := func(c *x509.Certificate) { c.EmailAddresses = []string{"box@host.example"} }
	addr := func(c *x509.Certificate) { c.IPAddresses = []net.IP{net.ParseIP("192.0.2.7")} }
	common := func(c *x509.Certificate) { c.DNSNames = nil }
	cert := func(change ...func(*x509.Certificate)) ike.AuthMethod {
		return ca.issue(t, "ecdsa256", "box.staff.example", change...)
	}
	for _, tt := range []struct {
		name  string
		peer  ike.AuthMethod // nil for a preshared key
		id    string         // that goes with it
		group *ike.PeerGroup
		good  bool
	}{
		{"name", cert(), "", staff("other", "BOX.staff.example"), true},
		{"wildcard", cert(), "", staff("*.staff.example"), true},
		{"wildcard of too little", cert(), "", staff("*.example"), false},
		{"e-mail address", cert(mail), "", staff("box@host.example"), true},
		{"address", cert(addr), "", staff("192.0.2.7"), true},
		{"common name", cert(common), "", staff("box.staff.example"), true},
		{"unit", cert(unit), "", unitOf("Payroll"), true},
		{"another unit", cert(unit), "", unitOf("Day shift"), false},
		{"another name", cert(unit), "", staff("box.sales.example"), false},
		{"key, identity", nil, "box.staff.example", staff("*.staff.example"), true},
		{"key, another identity", nil, "box.staff.example", staff("*.sales.example"), false},
		{"key, unit", nil, "Payroll", unitOf("Payroll"), false},
	} {
		for _, end := range []string{"initiator", "responder"} {
			setup := func(t *testing.T) (w *world, wants, peer *iketest.Host) {
				w = newWorld(1)
				wants, peer = w.a, w.b
				if end == "responder" {
					wants, peer = w.b, w.a
				}
				if tt.peer != nil {
					wants.Policy.Auth, peer.Policy.Auth = []ike.AuthMethod{ca.issue(t, "ecdsa256", "me.example")}, []ike.AuthMethod{tt.peer}
				}
				peer.Policy.LocalID = tt.id
				return w, wants, peer
			}
			refused := func(t *testing.T, h *iketest.Host) {
				t.Helper()
				if len(h.Failed) == 0 || !errors.Is(h.Failed[0].Why, ike.ErrAuthentication) {
					t.Fatalf("failures %v, want ErrAuthentication", h.Failed)
				}
				who := "box.staff.example"
				if tt.peer == nil {
					who = tt.id
				}
				if why := h.Failed[0].Why.Error(); !strings.Contains(why, `"staff"`) || !strings.Contains(why, who) {
					t.Errorf("%q names neither the group nor the peer", why)
				}
			}
			t.Run(tt.name+", whole, "+end, func(t *testing.T) {
				w, wants, _ := setup(t)
				wants.Policy.Peers = tt.group
				if tt.good {
					w.mustConnect(t)
					return
				}
				w.connect(t)
				w.Run(time.Minute)
				if len(w.a.Alive())+len(w.b.Alive()) != 0 || len(wants.Established) != 0 {
					t.Fatal("a peer of another group got an SA")
				}
				refused(t, wants)
			})
			t.Run(tt.name+", Child SA, "+end, func(t *testing.T) {
				w, wants, _ := setup(t)
				m := w.mustConnect(t)
				rule := web()
				rule.Name = "guarded"
				if wants == w.b {
					guarded := mirror(rule)
					guarded.Auth, guarded.Peers = w.b.Policy.Auth, tt.group
					w.b.Children = []ike.ChildPolicy{guarded}
				} else {
					rule.Auth, rule.Peers = w.a.Policy.Auth, tt.group
				}
				if err := w.a.Do(m, packet(rule)); err != nil {
					t.Fatal(err)
				}
				w.Run(time.Second)
				if tt.good {
					w.check(t, 2)
					return
				}
				if len(w.a.Alive()) != 1 || len(w.b.Alive()) != 1 {
					t.Fatalf("%d and %d Child SAs, want the first one only", len(w.a.Alive()), len(w.b.Alive()))
				}
				refused(t, wants)
			})
		}
	}
}

// The first Child SA, too, is of its rule's group, which need not be the one
// of the IKE SA.
func TestPeersOfFirstChild(t *testing.T) {
	for _, end := range []string{"initiator", "responder"} {
		t.Run(end, func(t *testing.T) {
			w := newWorld(1)
			rule := web()
			wants := w.a
			if end == "responder" {
				wants = w.b
				guarded := mirror(rule)
				guarded.Auth, guarded.Peers = w.b.Policy.Auth, staff("somebody.else")
				w.b.Children = []ike.ChildPolicy{guarded}
			} else {
				rule.Auth, rule.Peers = w.a.Policy.Auth, staff("somebody.else")
			}
			if err := w.a.Do(initiator(w.a.Config(addrB)), packet(rule)); err != nil {
				t.Fatal(err)
			}
			w.Run(time.Second)
			if len(w.a.Alive())+len(w.b.Alive()) != 0 || len(w.a.Established) != 1 || len(w.b.Established) != 1 {
				t.Errorf("%d and %d Child SAs, want only the IKE SA", len(w.a.Alive()), len(w.b.Alive()))
			}
			if len(wants.Failed) == 0 || !errors.Is(wants.Failed[0].Why, ike.ErrAuthentication) {
				t.Errorf("failures %v", wants.Failed)
			}
		})
	}
}
