package ike

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/ipsecfw/ipsecfw/ipsec/pki"
)

func TestCauseOf(t *testing.T) {
	certificate := func(r pki.Reason) error {
		return fmt.Errorf("%w: %w", ErrAuthentication, &pki.CertificateError{Reason: r})
	}
	for _, tt := range []struct {
		name string
		err  error
		want Cause
	}{
		{"proposal", fmt.Errorf("%w: really", ErrNoProposal), CauseNoProposal},
		{"said by the machine", &NegotiationError{Err: ErrRefused, Cause: CauseMode}, CauseMode},
		{"of what the machine wraps", &NegotiationError{Err: ErrSelectors}, CauseSelectors},
		{"no IKE", ErrNoIKE, CauseNoAnswer},
		{"wrong key", fmt.Errorf("%w: %w", ErrAuthentication, ErrWrongKey), CauseKeyMismatch},
		{"no method", fmt.Errorf("%w: %w", ErrAuthentication, ErrNoMethod), CauseAuthMethod},
		{"refused by the peer", fmt.Errorf("%w: this host is a", ErrRefusedByPeer), CauseRefusedByPeer},
		{"refused without a reason", fmt.Errorf("%w: they say", ErrAuthentication), CauseKeyMismatch},
		{"PPK", ErrPPK, CausePPK},
		{"not authorised", &AuthorizationError{Why: "not in the group"}, CauseIdentity},
		{"expired", certificate(pki.Expired), CauseExpired},
		{"not yet valid", certificate(pki.NotYetValid), CauseNotYetValid},
		{"unknown authority", certificate(pki.UnknownAuthority), CauseUnknownAuthority},
		{"revoked", certificate(pki.Revoked), CauseRevoked},
		{"revocation unknown", certificate(pki.RevocationUnknown), CauseRevocationUnknown},
		{"another's", certificate(pki.NotForIdentity), CauseIdentity},
		{"weak", certificate(pki.WeakKey), CauseCertificate},
		{"anything else", errors.New("netlink"), CauseFault},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := CauseOf(tt.err); got != tt.want {
				t.Errorf("got %s, want %s", got, tt.want)
			}
		})
	}
}

// Every cause has an advice of its own.
func TestAdvice(t *testing.T) {
	causes := []Cause{
		CauseNoProposal, CauseSelectors, CauseMode, CauseIdentity, CauseExpired, CauseNotYetValid, CauseUnknownAuthority, CauseRevoked,
		CauseRevocationUnknown, CauseCertificate, CauseKeyMismatch, CauseRefusedByPeer, CauseAuthMethod, CausePPK, CauseNoAnswer, CauseNoAnswerLarge,
		CauseNAT, CauseRefused, CausePolicyChanged, CauseFull, CauseBusy, CauseNoRule, CauseClosed, CauseFault,
	}
	seen := map[string]Cause{}
	for _, c := range causes {
		got := change(&PostMortem{Cause: c}, nil)
		if other, twice := seen[got.Text]; twice || got.Text == "" || got.Side == "" {
			t.Errorf("%s: %+v is that of %s", c, got, other)
		}
		seen[got.Text] = c
	}
	said := change(&PostMortem{Cause: CauseIdentity}, &NegotiationError{Hint: "name it", Side: PeerSide})
	if said != (Change{Side: "peer", Setting: "rules: peer-id", Text: "name it"}) {
		t.Errorf("what the machine says is lost: %+v", said)
	}
}

func grave(remote string, at int, cause Cause) *PostMortem {
	return &PostMortem{At: time.Unix(int64(at), 0), Remote: netip.AddrPortFrom(netip.MustParseAddr(remote), 500), Cause: cause, Step: "IKE_AUTH"}
}

func TestPostMortemsAreBounded(t *testing.T) {
	var s postmortems
	causes := []Cause{CauseIdentity, CauseRefused}
	for i := range 10 {
		s.add(grave("10.0.0.1", i, causes[i%2]), false)
	}
	for i := range 100000 {
		a := netip.AddrFrom4([4]byte{192, byte(i >> 16), byte(i >> 8), byte(i)})
		s.add(grave(a.String(), 100+i, CauseKeyMismatch), true)
	}
	of := func(a string) []PostMortem {
		return s.of(func(p *PostMortem) bool { return p.Remote.Addr() == netip.MustParseAddr(a) })
	}
	got := of("10.0.0.1")
	if len(got) != perPeerKept || got[0].At != time.Unix(9, 0) || got[3].At != time.Unix(6, 0) {
		t.Errorf("of the peer: %+v", got)
	}
	if len(s.strangers) != strangerKept || len(s.own) != perPeerKept {
		t.Errorf("%d of strangers, %d of others", len(s.strangers), len(s.own))
	}
	if all := s.of(func(*PostMortem) bool { return true }); len(all) != strangerKept+perPeerKept || all[0].At.Before(all[1].At) {
		t.Errorf("%d in all", len(all))
	}
	// One subnet of IPv6 has many addresses, and does not push out others.
	for i := range 1000 {
		s.add(grave(fmt.Sprintf("2001:db8::%x", i), 200000+i, CauseKeyMismatch), true)
	}
	n := len(s.of(func(p *PostMortem) bool { return p.Remote.Addr().Is6() }))
	if n != perBlockKept {
		t.Errorf("%d of one subnet, want %d", n, perBlockKept)
	}
	for i := range 2000 {
		a := netip.AddrFrom4([4]byte{10, 9, byte(i >> 8), byte(i)})
		s.add(grave(a.String(), 300000+i, CauseNoAnswer), false)
	}
	if len(s.own) != ownKept {
		t.Errorf("%d of peers that we began with", len(s.own))
	}
}

func TestPostMortemAgain(t *testing.T) {
	var s postmortems
	for i := range 5 {
		s.add(grave("10.0.0.1", i, CauseNoAnswer), false)
	}
	s.add(grave("10.0.0.1", 7, CauseRefused), false)
	got := s.of(func(*PostMortem) bool { return true })
	if len(got) != 2 || got[0].Times != 1 || got[1].Times != 5 || got[1].Since != time.Unix(0, 0) || got[1].At != time.Unix(4, 0) {
		t.Errorf("got %+v", got)
	}
}

// example is a post-mortem with everything in it.
func example() *PostMortem {
	at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	return &PostMortem{
		At: at, Local: netip.MustParseAddrPort("10.0.0.1:500"), Remote: netip.MustParseAddrPort("10.0.0.2:4500"), Initiator: true,
		Rule: "staff", Step: "IKE_AUTH", Identity: "b.example", Cause: CauseNoProposal, Error: "no proposal in common",
		Change: Change{Side: "peer", Setting: "key-exchange: proposals", Text: "offer x25519"},
		Ours:   &Stance{Proposals: []string{"IKE:aes256gcm16"}, Local: []string{"10.0.0.1"}, Remote: []string{"10.0.0.2"}, Mode: "transport"},
		Theirs: &Stance{Text: "nothing"},
		Differences: []Difference{{Ours: "IKE:aes256gcm16", Theirs: "IKE:aes128", Types: []TypeDifference{
			{"encryption", []string{"aes256gcm16"}, []string{"aes128"}}}}},
		Certificate: &Validity{Subject: "CN=b", Issuer: "CN=ca", NotBefore: at, NotAfter: at, Now: at},
		Evidence: Evidence{
			Ports: []uint16{500, 4500}, Sent: 8, Received: 1, Answered: true, NAT: true, ICMP: []string{"ICMP port unreachable, from 10.0.0.2"},
			Request: &Unanswered{Exchange: "IKE_AUTH", Bytes: 1500, Fragments: 2, Sendings: 7}, Failure: "network is down",
		},
		Messages: []string{"--> IKE_SA_INIT", "<-- IKE_SA_INIT"}, Since: at, Times: 3,
	}
}

func TestPostMortemText(t *testing.T) {
	got := example().String()
	for _, part := range []string{
		"2026-01-02T03:04:05Z: no SA with 10.0.0.2 (this host began)", "cause       no-proposal\n",
		"change      on the peer: offer x25519 (key-exchange: proposals)", "repeated    3 times since",
		"  encryption: this host aes256gcm16; the peer aes128",
		"no answer to IKE_AUTH of 1500 bytes in 2 fragments, sent 7 times; IKE_SA_INIT was answered; ICMP port unreachable",
		"to the ports 500 and 4500", "the clock of this host says 2026-01-02T03:04:05Z",
		"messages    --> IKE_SA_INIT\n            <-- IKE_SA_INIT\n",
	} {
		if !strings.Contains(got, part) {
			t.Errorf("%q is missing in\n%s", part, got)
		}
	}
}

// Programs rely on the keys.
func TestPostMortemJSON(t *testing.T) {
	b, err := json.Marshal(example())
	if err != nil {
		t.Fatal(err)
	}
	const want = `{"at":"2026-01-02T03:04:05Z","local":"10.0.0.1:500","remote":"10.0.0.2:4500","initiator":true,` +
		`"rule":"staff","step":"IKE_AUTH","identity":"b.example","cause":"no-proposal","error":"no proposal in common",` +
		`"change":{"side":"peer","setting":"key-exchange: proposals","text":"offer x25519"},` +
		`"ours":{"proposals":["IKE:aes256gcm16"],"local-selectors":["10.0.0.1"],"remote-selectors":["10.0.0.2"],"mode":"transport"},` +
		`"theirs":{"text":"nothing"},` +
		`"differences":[{"ours":"IKE:aes256gcm16","theirs":"IKE:aes128","types":[{"type":"encryption","ours":["aes256gcm16"],"theirs":["aes128"]}]}],` +
		`"certificate":{"subject":"CN=b","issuer":"CN=ca","not-before":"2026-01-02T03:04:05Z","not-after":"2026-01-02T03:04:05Z","now":"2026-01-02T03:04:05Z"},` +
		`"evidence":{"ports":[500,4500],"sent":8,"received":1,"answered":true,` +
		`"unanswered-request":{"exchange":"IKE_AUTH","bytes":1500,"fragments":2,"sendings":7},` +
		`"icmp":["ICMP port unreachable, from 10.0.0.2"],"send-error":"network is down","nat":true},` +
		`"messages":["--\u003e IKE_SA_INIT","\u003c-- IKE_SA_INIT"],"since":"2026-01-02T03:04:05Z","times":3}`
	if string(b) != want {
		t.Errorf("got  %s\nwant %s", b, want)
	}
	var back PostMortem
	if err := json.Unmarshal(b, &back); err != nil || !reflect.DeepEqual(&back, example()) {
		t.Errorf("round trip: %v, %+v", err, back)
	}
}

// A first message that may be larger than the path is said to be: IKE cannot cut
// it.
func TestAdviceLargeInit(t *testing.T) {
	const cannot, proposals = "IKE cannot cut it (RFC 7383)", "key-exchange: proposals"
	for _, tt := range []struct {
		name    string
		cause   Cause
		step    string
		bytes   int
		change  func(*Evidence)
		large   bool
		setting string
		begins  string
	}{
		{"small", CauseNoAnswer, initStep, large, nil, false, "", "start IKE there"},
		{"large", CauseNoAnswer, initStep, large + 1, nil, true, proposals, "start IKE there"},
		{"large after an answer", CauseNoAnswer, initStep, 2000, func(e *Evidence) { e.Answered = true }, true, proposals, "offer fewer proposals"},
		{"large, and ICMP", CauseUnreachable, initStep, 2000, func(e *Evidence) { e.ICMP = []string{"ICMP packet too big, MTU 1280, from ::1"} }, true, proposals, "start IKE there"},
		{"large, and not sent", CauseUnreachable, initStep, 2000, func(e *Evidence) { e.Failure = "no route" }, false, "", "see to the route"},
		{"large, later", CauseNoAnswer, authStep, 2000, func(e *Evidence) { e.Answered = true }, false, "", "see whether the peer still runs"},
		{"large, another cause", CauseNoProposal, initStep, 2000, nil, false, proposals, "accept one"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p := &PostMortem{Cause: tt.cause, Step: tt.step, Initiator: true, Evidence: Evidence{Request: &Unanswered{Exchange: tt.step, Bytes: tt.bytes, Sendings: 5}}}
			if tt.change != nil {
				tt.change(&p.Evidence)
			}
			c := change(p, nil)
			if strings.Contains(c.Text, cannot) != tt.large || c.Setting != tt.setting || !strings.HasPrefix(c.Text, tt.begins) {
				t.Errorf("change %q", c)
			}
			if tt.large && !strings.Contains(c.Text, fmt.Sprintf("of %d bytes", tt.bytes)) {
				t.Errorf("change %q has no size", c)
			}
		})
	}
}
