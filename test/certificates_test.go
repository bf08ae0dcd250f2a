package test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ipsecfw/ipsecfw/ipsec/ike"
)

// certified is a tunnel peer with an authority above both ends' own ones:
//
//	root ── of servers ── server.test
//	     ── of workstations ── workstation.test
type certified struct {
	*tunnelPeer
	bureau                      *bureau
	root, servers, workstations *authority
}

func newCertified(t *testing.T) *certified {
	t.Helper()
	p := &certified{tunnelPeer: newTunnelPeer(t), root: newAuthority(t)}
	p.bureau = openBureau(t, p.gateway)
	lists := p.bureau.publish("root", p.root.crl(t))
	p.servers = p.root.sub(t, "Authority of servers", ecdsaKey(t), usual)
	p.workstations = p.root.sub(t, "Authority of workstations", ecdsaKey(t), func(c *x509.Certificate) {
		c.CRLDistributionPoints = []string{lists}
	})
	p.bureau.issuer = p.workstations
	p.d.write(t, "root.pem", p.root.pem)
	p.d.write(t, "workstations.pem", p.workstations.pem)
	p.own(t, usual)
	return p
}

func usual(*x509.Certificate) {}

func ecdsaKey(t *testing.T) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	return key
}

// own gives the server a certificate, which it returns, with its chain.
func (p *certified) own(t *testing.T, change func(*x509.Certificate)) []byte {
	t.Helper()
	cert, key := p.servers.issueWith(t, ecdsaKey(t), "server.test", server4, change)
	p.d.write(t, "leaf.pem", cert)
	p.d.write(t, "host.pem", slices.Concat(cert, p.servers.pem))
	p.d.write(t, "host.key", key)
	return cert
}

// byCertificate is how the server authenticates, with more settings.
func byCertificate(more string) string {
	return "{certificate: {authority: root.pem, own: host.pem, key: host.key" + more + "}}"
}

// Certificates as they are in the world: below other authorities, fit or not.
func TestCertificates(t *testing.T) {
	p := newCertified(t)
	limited := p.root.sub(t, "Authority of staff", ecdsaKey(t), func(c *x509.Certificate) {
		c.PermittedDNSDomainsCritical, c.PermittedDNSDomains = true, []string{"staff.test"}
	})
	stranger := newAuthority(t)
	for _, tt := range []struct {
		name      string
		issuer    *authority // of the workstation's certificate
		own       string     // the name in it
		change    func(*x509.Certificate)
		withhold  bool   // the workstation does not send the certificate of its issuer
		settings  string // of the server
		alone     bool   // only ipsecfw begins
		cause     ike.Cause
		side, say string
	}{
		{name: "chains", issuer: p.workstations},
		{name: "a chain that is not sent", issuer: p.workstations, withhold: true, cause: ike.CauseUnknownAuthority, side: "this-host", say: "workstation.test"},
		{name: "a chain that is not sent, and is here", issuer: p.workstations, withhold: true, settings: ", intermediates: workstations.pem"},
		{name: "names within the constraints", issuer: limited, own: "alice.staff.test", alone: true},
		{name: "names beyond the constraints", issuer: limited, alone: true, cause: ike.CauseCertificate, side: "peer", say: "workstation.test"},
		{name: "an unknown authority", issuer: stranger, alone: true, cause: ike.CauseUnknownAuthority, side: "this-host", say: "Test authority"},
		{name: "expired", issuer: p.workstations, cause: ike.CauseExpired, side: "peer", say: "workstation.test", change: func(c *x509.Certificate) {
			c.NotBefore, c.NotAfter = time.Now().Add(-48*time.Hour), time.Now().Add(-time.Hour)
		}},
		{name: "not for signatures", issuer: p.workstations, alone: true, cause: ike.CauseCertificate, side: "peer", say: "workstation.test", change: func(c *x509.Certificate) {
			c.KeyUsage = x509.KeyUsageKeyEncipherment
		}},
	} {
		name, change := tt.own, tt.change
		if name == "" {
			name = "workstation.test"
		}
		if change == nil {
			change = usual
		}
		cert, key := tt.issuer.issueWith(t, ecdsaKey(t), name, workstation4, change)
		intermediates := []*authority{tt.issuer}
		if tt.withhold {
			intermediates = nil
		}
		for _, initiator := range []bool{true, false} {
			if tt.alone && !initiator {
				continue
			}
			t.Run(tt.name+"/"+role(initiator), func(t *testing.T) {
				defer p.end(t)
				p.c.enroll(t, p.root, cert, key, intermediates...)
				p.c.connect(t, p.withCertificates(name))
				p.d.apply(t, p.policy(byCertificate(tt.settings), ""))
				if tt.cause == "" {
					p.works(t, initiator)
					return
				}
				why := p.fails(t, initiator, tt.cause, tt.side)
				if !strings.Contains(why.String(), tt.say) {
					t.Errorf("%q is missing in\n%s", tt.say, why)
				}
				if !p.d.says(t, "audit: a peer was refused", "peer="+workstation4) {
					t.Error("the refusal is no audit event")
				}
			})
		}
	}

	// The other way round: strongSwan asks for our chain.
	t.Run("own chain that is not sent", func(t *testing.T) {
		defer p.end(t)
		cert, key := p.workstations.issueWith(t, ecdsaKey(t), "workstation.test", workstation4, usual)
		p.c.enroll(t, p.root, cert, key, p.workstations)
		_, err := p.c.swanctl("--flush-certs")
		must(t, err)
		p.c.connect(t, p.withCertificates("workstation.test"))
		p.d.apply(t, p.policy(strings.Replace(byCertificate(""), "host.pem", "leaf.pem", 1), ""))
		p.fails(t, true, ike.CauseRefusedByPeer, "peer")
	})
}

// Revoked certificates, by lists and by a responder that are asked over HTTP.
func TestRevocation(t *testing.T) {
	p := newCertified(t)
	const list, responder = "list", "responder"
	for i, tt := range []struct {
		name     string
		by       string // who says so
		revoked  bool
		missing  bool // nobody answers
		level    string
		works    bool
		cause    ike.Cause
		side     string
		everyone bool // either end begins
	}{
		{name: "good by a list", by: list, level: "strict", works: true},
		{name: "revoked by a list", by: list, revoked: true, level: "strict", cause: ike.CauseRevoked, side: "peer", everyone: true},
		{name: "revoked by a list", by: list, revoked: true, level: "if-present", cause: ike.CauseRevoked, side: "peer"},
		{name: "revoked by a list", by: list, revoked: true, level: "off", works: true},
		{name: "no list", by: list, missing: true, level: "strict", cause: ike.CauseRevocationUnknown, side: "this-host"},
		{name: "no list", by: list, missing: true, level: "if-present", works: true},
		{name: "good by a responder", by: responder, level: "strict", works: true},
		{name: "revoked by a responder", by: responder, revoked: true, level: "strict", cause: ike.CauseRevoked, side: "peer", everyone: true},
	} {
		for _, initiator := range []bool{true, false} {
			if !initiator && !tt.everyone {
				continue
			}
			t.Run(fmt.Sprintf("%s, %s/%s", tt.name, tt.level, role(initiator)), func(t *testing.T) {
				defer p.end(t)
				at := fmt.Sprintf("%d-%v", i, initiator)
				cert, key := p.workstations.issueWith(t, ecdsaKey(t), "workstation.test", workstation4, func(c *x509.Certificate) {
					if tt.by == list {
						c.CRLDistributionPoints = []string{bureauURL + "/crl/" + at}
					} else {
						c.OCSPServer = []string{bureauURL + "/ocsp"}
					}
				})
				path := "/crl/" + at
				switch serial := serialOf(t, cert); {
				case tt.by == responder:
					path = "/ocsp"
					p.bureau.mark(serial.String(), tt.revoked)
				case tt.revoked:
					p.bureau.publish(at, p.workstations.crl(t, serial))
				case !tt.missing:
					p.bureau.publish(at, p.workstations.crl(t, serial.Add(serial, serial)))
				}
				p.c.enroll(t, p.root, cert, key, p.workstations)
				p.c.connect(t, p.withCertificates("workstation.test"))
				p.d.apply(t, p.policy(byCertificate(", revocation: "+tt.level), ""))
				before := p.bureau.asks(path)
				switch {
				case tt.works && tt.missing:
					p.works(t, initiator, unchecked)
				case tt.works:
					p.works(t, initiator)
				default:
					p.fails(t, initiator, tt.cause, tt.side)
				}
				if asked := p.bureau.asks(path) > before; asked != (tt.level != "off") {
					t.Errorf("%s was asked for: %v", path, asked)
				}
			})
		}
	}

	// strongSwan has a list with our certificate on it. It does not say so.
	t.Run("our own", func(t *testing.T) {
		defer p.end(t)
		cert, key := p.workstations.issueWith(t, ecdsaKey(t), "workstation.test", workstation4, usual)
		p.c.enroll(t, p.root, cert, key, p.workstations)
		p.c.write(t, "x509crl/root.crl", p.root.crl(t))
		p.c.write(t, "x509crl/servers.crl", p.servers.crl(t, serialOf(t, p.own(t, usual))))
		p.c.connect(t, p.withCertificates("workstation.test", "revocation = strict"))
		p.d.apply(t, p.policy(byCertificate(""), ""))
		p.fails(t, true, ike.CauseRefusedByPeer, "peer")
		must(t, p.d.clearLog())
		p.own(t, usual)
		p.d.apply(t, p.policy(byCertificate(""), ""))
		p.works(t, true)
	})
}
