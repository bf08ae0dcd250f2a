package main

import (
	"encoding/json"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/ipsecfw/ipsecfw/cmd/ipsecfw/internal/api"
	"github.com/ipsecfw/ipsecfw/ipsec/ike"
	"github.com/ipsecfw/ipsecfw/rules"
)

// grave is a post-mortem of a peer.
func grave(cause ike.Cause) ike.PostMortem {
	return ike.PostMortem{
		At: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC), Remote: netip.MustParseAddrPort("10.0.0.2:500"), Initiator: true, Rule: "staff",
		Step: "IKE_AUTH", Cause: cause, Error: "it failed", Change: ike.Change{Side: "peer", Setting: "authentication", Text: "give it a key"},
	}
}

func TestWhy(t *testing.T) {
	mended, newer := grave(ike.CauseFull), grave(ike.CauseMode)
	since, before := mended.At.Add(time.Hour), newer.At.Add(-time.Hour)
	mended.Standing, newer.Standing = &since, &before
	e := &fakeEngine{graves: map[string][]ike.PostMortem{
		"10.0.0.2":  {grave(ike.CauseKeyMismatch), grave(ike.CauseNoAnswer)},
		"b.example": {grave(ike.CauseIdentity)},
		"127.0.0.1": {grave(ike.CauseNAT)},
		"10.0.0.3":  {mended},
		"10.0.0.4":  {newer},
		"10.0.0.5":  {mended, grave(ike.CauseNAT)},
	}}
	socket := serveEngine(t, e)
	for _, tt := range []struct {
		name, args string
		code       int
		want, not  string
	}{
		{"an address", "why 10.0.0.2", exitGood, "cause       key-mismatch", "no-answer"},
		{"what to do", "why 10.0.0.2", exitGood, "change      on the peer: give it a key (authentication)", ""},
		{"all of them", "why 10.0.0.2 --all", exitGood, "cause       no-answer", ""},
		{"an identity", "why b.example", exitGood, "cause       identity", ""},
		{"a DNS name", "why localhost", exitGood, "cause       nat", ""},
		{"as JSON", "why --json 10.0.0.2", exitGood, `"cause": "key-mismatch"`, "no-answer"},
		{"mended since", "why 10.0.0.3", exitFailed, "there is an SA with 10.0.0.2 since 2026-01-02T04:04:05Z; the last failure before it was:\n2026-01-02T03:04:05Z: no SA", ""},
		{"mended since, as JSON", "why --json 10.0.0.3", exitFailed, `"sa-since": "2026-01-02T04:04:05Z"`, ""},
		{"beside an SA", "why 10.0.0.4", exitGood, "there is an SA with 10.0.0.2 since 2026-01-02T02:04:05Z; later this failed:\n", ""},
		{"one mended, another not", "why 10.0.0.5", exitGood, "cause       nat", "full"},
		{"none", "why 10.0.0.9", exitFailed, "", "cause"},
		{"none as JSON", "why 10.0.0.9 --json", exitFailed, "[]", "cause"},
		{"nobody", "why", exitUsage, "", ""},
		{"two", "why 10.0.0.1 10.0.0.2", exitUsage, "", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			code, out, problem := ipsecfw(t, append([]string{"--socket", socket}, strings.Fields(tt.args)...)...)
			if code != tt.code || !strings.Contains(out, tt.want) || tt.not != "" && strings.Contains(out, tt.not) {
				t.Errorf("code %d, %q %q", code, out, problem)
			}
			if strings.Contains(tt.args, "--json") {
				var got []ike.PostMortem
				if err := json.Unmarshal([]byte(out), &got); err != nil {
					t.Errorf("no JSON: %v", err)
				}
			}
			if code != exitGood && problem == "" {
				t.Error("nobody says why")
			}
		})
	}
}

func TestInitiateCommand(t *testing.T) {
	sa := api.Progress{SA: &api.SA{Rule: "staff", InSPI: "c0000001", OutSPI: "c0000002"}}
	failure := grave(ike.CauseNoAnswer)
	steps := []api.Progress{{Message: "03:04:05.000 --> IKE_SA_INIT request 0: SAi"}, {Peer: &api.Peer{Remote: "10.0.0.2:500", RemoteID: "b.example"}}}
	for _, tt := range []struct {
		name, args string
		last       api.Progress
		code       int
		want, not  string
		asked      api.Initiation
	}{
		{"an SA", "initiate 10.0.0.2", sa, exitGood, "SA by rule staff: in c0000001, out c0000002", "-->", api.Initiation{Peer: "10.0.0.2"}},
		{"the IKE SA too", "initiate 10.0.0.2", sa, exitGood, "IKE SA with 10.0.0.2:500, b.example", "", api.Initiation{Peer: "10.0.0.2"}},
		{"with messages", "initiate --trace 10.0.0.2 --rule staff", sa, exitGood, "--> IKE_SA_INIT request 0", "", api.Initiation{Peer: "10.0.0.2", Rule: "staff", Trace: true}},
		{"a DNS name", "initiate localhost", sa, exitGood, "SA by rule", "", api.Initiation{Peer: "127.0.0.1"}},
		{"as JSON", "initiate 10.0.0.2 --json --trace", sa, exitGood, `{"message":"03:04:05.000 --> IKE_SA_INIT`, "SA by", api.Initiation{Peer: "10.0.0.2", Trace: true}},
		{"it fails", "initiate 10.0.0.2", api.Progress{PostMortem: &failure}, exitFailed, "cause       no-answer", "", api.Initiation{Peer: "10.0.0.2"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			e := &fakeEngine{progress: append(steps[:2:2], tt.last)}
			code, out, problem := ipsecfw(t, append([]string{"--socket", serveEngine(t, e)}, strings.Fields(tt.args)...)...)
			if code != tt.code || !strings.Contains(out, tt.want) || tt.not != "" && strings.Contains(out, tt.not) {
				t.Errorf("code %d, %q %q", code, out, problem)
			}
			if len(e.initiated) != 1 || e.initiated[0] != tt.asked {
				t.Errorf("asked for %+v, want %+v", e.initiated, tt.asked)
			}
		})
	}
	e := &fakeEngine{err: &api.Error{Code: api.CodeNotFound, Message: "no rule negotiates with 10.0.0.2"}}
	code, _, problem := ipsecfw(t, "--socket", serveEngine(t, e), "initiate", "10.0.0.2")
	if code != exitFailed || !strings.Contains(problem, "no rule negotiates with 10.0.0.2") {
		t.Errorf("code %d, %q", code, problem)
	}
}

// Whoever follows an advice finds the setting in the rule file.
func TestSettingsAreKeys(t *testing.T) {
	type node = map[string]any
	var root node
	if err := json.Unmarshal(rules.Schema(), &root); err != nil {
		t.Fatal(err)
	}
	// at returns the nodes that a node stands for: what it refers to, lists of
	// it, and the alternatives.
	var at func(n any) []node
	at = func(n any) (out []node) {
		s, ok := n.(node)
		if !ok {
			return nil
		}
		out = append(out, s)
		if name, ok := s["$ref"].(string); ok {
			out = append(out, at(root["$defs"].(node)[strings.TrimPrefix(name, "#/$defs/")])...)
		}
		out = append(out, at(s["items"])...)
		any, _ := s["anyOf"].([]any)
		for _, x := range any {
			out = append(out, at(x)...)
		}
		return out
	}
	var has func(n any, path []string) bool
	has = func(n any, path []string) bool {
		if len(path) == 0 {
			return true
		}
		for _, s := range at(n) {
			next := s["additionalProperties"] // a name
			if path[0] != "…" {
				keys, _ := s["properties"].(node)
				next = keys[path[0]]
			}
			if next != nil && has(next, path[1:]) {
				return true
			}
			if s["type"] == "boolean" && path[0] == "true" {
				return true
			}
		}
		return false
	}
	rule := root["properties"].(node)["rules"]
	if has(root, []string{"key-exchange", "ppks"}) || !has(rule, []string{"own-id"}) {
		t.Fatal("the schema is not read well")
	}
	for _, setting := range ike.Settings() {
		if path := strings.Split(setting, ": "); !has(root, path) && !has(rule, path) {
			t.Errorf("no such setting: %s", setting)
		}
	}
}
