package ike

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"unicode/utf8"
)

func TestNegotiationErrorIsBounded(t *testing.T) {
	long := strings.Repeat("ä", 40000)
	e := &NegotiationError{Step: "IKE_AUTH", Peer: "10.0.0.1", Offered: long, Wanted: long, Hint: "change it", Err: fmt.Errorf("%w: the peer is %s", ErrAuthentication, long)}
	s := e.Error()
	if len(s) > 3*maxText+200 || !utf8.ValidString(s) {
		t.Errorf("%d bytes, valid %v", len(s), utf8.ValidString(s))
	}
	for _, part := range []string{"IKE_AUTH with 10.0.0.1: authentication failed", "…; offered: ää", "…; wanted: ää", "; change it"} {
		if !strings.Contains(s, part) {
			t.Errorf("%q is missing", part)
		}
	}
	if !errors.Is(e, ErrAuthentication) {
		t.Error("what it wraps is lost")
	}
}

func TestClip(t *testing.T) {
	for _, tt := range []struct {
		name string
		text string
		want int
	}{
		{"empty", "", 0},
		{"as long as can be", strings.Repeat("x", maxText), maxText},
		{"one too many", strings.Repeat("x", maxText+1), maxText},
		{"cut within a letter", strings.Repeat("ä", maxText), maxText - 1},
		{"a datagram", strings.Repeat("x", 65000), maxText},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got := clip(tt.text)
			if len(got) != tt.want || !utf8.ValidString(got) {
				t.Errorf("%d bytes, want %d", len(got), tt.want)
			}
			if cut := strings.HasSuffix(got, "…"); cut != (len(tt.text) > maxText) {
				t.Errorf("says that it was cut: %v", cut)
			}
		})
	}
}

func TestSilence(t *testing.T) {
	if !errors.Is(ErrNoIKE, ErrNoAnswer) || errors.Is(ErrNoAnswer, ErrNoIKE) {
		t.Error("a peer without IKE is one that does not answer, and not the other way round")
	}
}
