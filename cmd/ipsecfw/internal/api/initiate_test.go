package api

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"reflect"
	"strings"
	"testing"

	"github.com/ipsecfw/ipsecfw/ipsec/ike"
)

func TestPostMortems(t *testing.T) {
	e := &fake{postMortems: []ike.PostMortem{{Rule: "staff", Cause: ike.CauseNoAnswer, Times: 2}}}
	c := Dial(serve(t, e))
	for _, peer := range []string{"", "10.0.0.2", "fe80::1", "CN=b & c, O=x"} {
		got, err := c.PostMortems(t.Context(), peer)
		if err != nil || !reflect.DeepEqual(got, e.postMortems) {
			t.Errorf("got %+v, error %v", got, err)
		}
		if asked := e.asked[len(e.asked)-1]; asked != peer {
			t.Errorf("asked for %q, want %q", asked, peer)
		}
	}
	e.postMortems = nil
	if got, err := c.PostMortems(t.Context(), "x"); err != nil || got == nil || len(got) != 0 {
		t.Errorf("got %#v, error %v; want an empty list that is not null", got, err)
	}
}

func TestInitiate(t *testing.T) {
	steps := []Progress{
		{Message: "--> IKE_SA_INIT"}, {Message: "<-- IKE_SA_INIT"}, {Peer: &Peer{Remote: "10.0.0.2:500"}},
	}
	good := Progress{SA: &SA{Rule: "staff", InSPI: "c0000001"}}
	bad := Progress{PostMortem: &ike.PostMortem{Cause: ike.CauseNoAnswer}}
	for _, tt := range []struct {
		name string
		last Progress
	}{{"an SA", good}, {"a post-mortem", bad}} {
		t.Run(tt.name, func(t *testing.T) {
			e := &fake{progress: append(steps[:len(steps):len(steps)], tt.last)}
			var told []Progress
			want := Initiation{Peer: "10.0.0.2", Rule: "staff", Trace: true}
			last, err := Dial(serve(t, e)).Initiate(t.Context(), want, func(p Progress) { told = append(told, p) })
			if err != nil || !reflect.DeepEqual(last, tt.last) || !reflect.DeepEqual(told, e.progress) {
				t.Errorf("last %+v, told %+v, error %v", last, told, err)
			}
			if len(e.initiated) != 1 || e.initiated[0] != want {
				t.Errorf("the engine got %+v", e.initiated)
			}
		})
	}
}

func TestInitiateFails(t *testing.T) {
	refused := &Error{Code: CodeNotFound, Message: "no rule negotiates with 10.0.0.9", Hint: "write one"}
	nothing := func(Progress) {}
	_, err := Dial(serve(t, &fake{err: refused})).Initiate(t.Context(), Initiation{Peer: "10.0.0.9"}, nothing)
	var got *Error
	if !errors.As(err, &got) || !reflect.DeepEqual(got, refused) {
		t.Errorf("got %v, want %v", err, refused)
	}
	// What ends too soon is no success.
	cut := &fake{progress: []Progress{{Message: "--> IKE_SA_INIT"}}, err: context.Canceled}
	if _, err := Dial(serve(t, cut)).Initiate(t.Context(), Initiation{}, nothing); err == nil || !strings.Contains(err.Error(), "ended before the negotiation did") {
		t.Errorf("got %v", err)
	}
}

// Who did not come through Serve may not make this host talk.
func TestInitiateForbidden(t *testing.T) {
	e := &fake{}
	w := httptest.NewRecorder()
	Handler(e, quiet).ServeHTTP(w, httptest.NewRequest(http.MethodPost, "/v1/initiate", strings.NewReader(`{"peer": "10.0.0.2"}`)))
	if w.Code != http.StatusForbidden || len(e.initiated) != 0 {
		t.Errorf("status %d, initiated %v", w.Code, e.initiated)
	}
}
