package ike

import (
	"errors"
	"fmt"
	"testing"

	"github.com/ipsecfw/ipsecfw/ipsec/ike/wire"
	"github.com/ipsecfw/ipsecfw/ipsec/pki"
)

// A request is one that was not answered only once somebody has waited for the
// answer.
func TestEvidenceOfSilence(t *testing.T) {
	data, err := wire.Encode(wire.Header{SPIi: 1, Version: wire.Version2, Exchange: wire.Informational, MessageID: 2}, nil)
	if err != nil {
		t.Fatal(err)
	}
	message := Send{Data: data}
	for _, tt := range []struct {
		name     string
		sendings int
		silence  bool
		want     bool
	}{
		{"just sent", 1, false, false},
		{"sent again", 2, false, true},
		{"sent once, and given up", 1, true, true},
		{"nothing sent", 0, true, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var v evidence
			for i := range tt.sendings {
				v.sees(message, uint64(i), nil)
			}
			if got := v.public(tt.silence).Request; (got != nil) != tt.want {
				t.Errorf("unanswered: %+v, want %v", got, tt.want)
			}
		})
	}
	v := evidence{rejected: 3, request: request{exchange: wire.IKESAInit, size: 300, sendings: 2}}
	const want = "0 messages sent, 0 received; 3 more came that did not do; no answer that did to IKE_SA_INIT of 300 bytes, sent 2 times; no ICMP was seen"
	if got := v.public(true).String(); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

// Errors name the setting where the cause does not tell it.
func TestSettingOf(t *testing.T) {
	for _, tt := range []struct {
		name string
		err  error
		want string
	}{
		{"excepted", &AuthorizationError{Setting: "peers: staff: except"}, "peers: staff: except"},
		{"peer-id", &AuthorizationError{}, "rules: peer-id"},
		{"raw key", fmt.Errorf("%w: %w", ErrAuthentication, errUnknownKey), "authentication: raw-key: peers"},
		{"strict, and nobody to ask", pki.NewError(nil, pki.RevocationUnknown, authTime, pki.ErrNoStatus), "authentication: certificate: crl"},
		{"strict, and nobody answers", pki.NewError(nil, pki.RevocationUnknown, authTime, errors.New("timeout")), "authentication: certificate: revocation"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p := &PostMortem{Cause: CauseOf(tt.err), setting: settingOf(tt.err)}
			if got := change(p, nil); got.Setting != tt.want || got.Side != "this-host" {
				t.Errorf("%+v, want %s", got, tt.want)
			}
		})
	}
}

// Two suites are told apart, whatever the order of their proposals.
func TestSuiteOf(t *testing.T) {
	for _, name := range SuiteNames() {
		ike, esp, _ := Suite(name)
		if len(ike) > 1 {
			ike[0], ike[1] = ike[1], ike[0]
		}
		if got := suiteOf(ike); got != name {
			t.Errorf("IKE of %s: %q", name, got)
		}
		if got := suiteOf(WithoutGroups(esp)); got != name {
			t.Errorf("ESP of %s: %q", name, got)
		}
		if got := suiteOf(ike[:len(ike)-1]); got != "" {
			t.Errorf("a part of %s: %q", name, got)
		}
	}
	if got := suiteOf(nil); got != "" {
		t.Errorf("nothing: %q", got)
	}
	cnsa2, _, _ := Suite("cnsa2")
	p := &PostMortem{Cause: CauseNoProposal, suites: suitesOf(DefaultProposals(), cnsa2)}
	if got := change(p, nil); got.Setting != "key-exchange: suite" || got.Text != "give both ends the same suite: this host has default, the peer cnsa2" {
		t.Errorf("%+v", got)
	}
}
