package api

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"

	"github.com/ipsecfw/ipsecfw/cmd/ipsecfw/internal/explain"
	"github.com/ipsecfw/ipsecfw/ipsec/ike"
)

// Engine is the daemon behind the door. Its methods are called from many
// goroutines at a time.
type Engine interface {
	// Apply makes a policy the one in force, or changes nothing. An *Error
	// in what it returns goes to the caller as it is, anything else as
	// CodeInternal.
	Apply(ctx context.Context, a Application) (Applied, error)
	// Confirm ends a trial: what was applied stays.
	Confirm(ctx context.Context) error
	// Unapply takes the policy out of force, the persistent one only if asked
	// to; with none it does nothing.
	Unapply(ctx context.Context, persistent bool) error
	InForce() InForce
	Explain(f explain.Flow) (explain.Explanation, error)
	Warnings() []string
	Filters() []Filter
	SpecificFilters() []Filter
	SAs() []SA
	Peers() []Peer
	// PostMortems returns those of a peer, by address or identity, or all for
	// an empty one.
	PostMortems(peer string) []ike.PostMortem
	// Initiate negotiates with a peer, and tells of its progress until the
	// negotiation has come to its end. It returns an error if none began.
	Initiate(ctx context.Context, i Initiation, tell func(Progress)) error
	Status() Status
}

// MaxRequest is the size of the largest request that is read, in bytes.
const MaxRequest = 64 << 20

// Handler serves an engine. It lets change things only whom Serve vouches
// for: a request that did not come through Serve may only read.
func Handler(e Engine, log *slog.Logger) http.Handler {
	mux := http.NewServeMux()
	mux.Handle("GET /v1/filters", list(e.Filters, log))
	mux.Handle("GET /v1/filters/specific", list(e.SpecificFilters, log))
	mux.Handle("GET /v1/warnings", list(e.Warnings, log))
	mux.Handle("GET /v1/sas", list(e.SAs, log))
	mux.Handle("GET /v1/peers", list(e.Peers, log))
	mux.Handle("GET /v1/status", reply(log, func(*http.Request) (any, error) { return e.Status(), nil }))
	mux.Handle("GET /v1/policy", privileged(log, func(*http.Request) (any, error) { return e.InForce(), nil }))
	mux.Handle("PUT /v1/policy", write(log, func(r *http.Request) (any, error) {
		a, err := decodeApplication(r)
		if err != nil {
			return nil, err
		}
		return e.Apply(r.Context(), a)
	}))
	mux.Handle("POST /v1/policy/confirm", write(log, func(r *http.Request) (any, error) { return struct{}{}, e.Confirm(r.Context()) }))
	mux.Handle("DELETE /v1/policy", write(log, func(r *http.Request) (any, error) {
		return struct{}{}, e.Unapply(r.Context(), r.URL.Query().Get("persistent") == "true")
	}))
	mux.Handle("POST /v1/explain", reply(log, func(r *http.Request) (any, error) {
		var f explain.Flow
		if err := decode(r.Body, &f); err != nil {
			return nil, err
		}
		return e.Explain(f)
	}))
	mux.Handle("GET /v1/post-mortems", reply(log, func(r *http.Request) (any, error) {
		return append([]ike.PostMortem{}, e.PostMortems(r.URL.Query().Get("peer"))...), nil
	}))
	mux.Handle("POST /v1/initiate", initiate(e, log))
	mux.Handle("/", reply(log, func(r *http.Request) (any, error) {
		return nil, &Error{Code: CodeNotFound, Message: fmt.Sprintf("there is no %s %s", r.Method, r.URL.Path)}
	}))
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		r.Body = http.MaxBytesReader(w, r.Body, MaxRequest)
		mux.ServeHTTP(w, r)
	})
}

func list[T any](get func() []T, log *slog.Logger) http.Handler {
	return reply(log, func(*http.Request) (any, error) {
		return append([]T{}, get()...), nil // never null
	})
}

// privileged lets only root and the daemon's own user ask.
func privileged(log *slog.Logger, do func(*http.Request) (any, error)) http.Handler {
	return reply(log, func(r *http.Request) (any, error) {
		if err := authorised(r); err != nil {
			return nil, err
		}
		return do(r)
	})
}

func authorised(r *http.Request) error {
	caller, ok := callerOf(r.Context())
	if !ok || caller.uid != 0 && caller.uid != uint32(os.Geteuid()) {
		return &Error{Code: CodeForbidden, Message: "only root may see or change the policy"}
	}
	return nil
}

// write is privileged, and logs who changed what.
func write(log *slog.Logger, do func(*http.Request) (any, error)) http.Handler {
	return privileged(log, func(r *http.Request) (any, error) {
		v, err := do(r)
		if err == nil {
			caller, _ := callerOf(r.Context())
			log.Info("request done", "method", r.Method, "path", r.URL.Path, "pid", caller.pid, "uid", caller.uid)
		}
		return v, err
	})
}

func reply(log *slog.Logger, do func(*http.Request) (any, error)) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		status := http.StatusOK
		body, err := do(r)
		if err != nil {
			e := refusal(log, r, err)
			status, body = e.status(), e
		}
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(status)
		if err := json.NewEncoder(w).Encode(body); err != nil {
			log.Debug("request not answered", "path", r.URL.Path, "error", err)
		}
	})
}

// refusal is the answer to a request that failed, which the log is told.
func refusal(log *slog.Logger, r *http.Request, err error) *Error {
	e := asError(err)
	level := slog.LevelWarn
	if e.Code == CodeMissingFiles { // a client that sends them again only if need be
		level = slog.LevelDebug
	}
	log.Log(r.Context(), level, "request failed", "method", r.Method, "path", r.URL.Path, "error", err)
	return e
}

// decode reads one JSON value, with no unknown field and nothing behind it.
func decode(r io.Reader, into any) error {
	d := json.NewDecoder(r)
	d.DisallowUnknownFields()
	err := d.Decode(into)
	if err == nil {
		if _, err = d.Token(); err == io.EOF {
			return nil
		}
		if err == nil {
			err = errors.New("something stands behind the JSON value")
		}
	}
	return unreadable(err)
}

// unreadable is the answer to a request that cannot be read.
func unreadable(err error) error {
	var tooLarge *http.MaxBytesError
	if errors.As(err, &tooLarge) {
		return &Error{Code: CodeTooLarge, Message: fmt.Sprintf("the request is larger than %d bytes", tooLarge.Limit), Hint: "shorten the rule file or the files that it names"}
	}
	return &Error{Code: CodeBadRequest, Message: fmt.Sprintf("the request cannot be read: %v", err), Hint: "use a client of the daemon's version"}
}
