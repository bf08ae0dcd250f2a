package api

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"

	"golang.org/x/sys/unix"

	"github.com/ipsecfw/ipsecfw/cmd/ipsecfw/internal/explain"
	"github.com/ipsecfw/ipsecfw/ipsec/ike"
)

// Client speaks with a daemon. It is an Engine whose reading methods can
// fail too.
type Client struct {
	path string
	http http.Client
}

// Dial returns a client of the daemon at a socket. It connects when it is
// first used; until then a missing daemon goes unnoticed.
func Dial(path string) *Client {
	var d net.Dialer
	return &Client{path: path, http: http.Client{Transport: &http.Transport{
		DialContext:       func(ctx context.Context, _, _ string) (net.Conn, error) { return d.DialContext(ctx, "unix", path) },
		DisableKeepAlives: true,
	}}}
}

// Apply makes a policy the one in force.
func (c *Client) Apply(ctx context.Context, a Application) (out Applied, err error) {
	body, contentType, err := encodeForm(a)
	if err != nil {
		return out, fmt.Errorf("write the request: %w", err)
	}
	err = c.send(ctx, http.MethodPut, "policy", contentType, body, &out)
	return out, err
}

// Confirm keeps what was applied on trial.
func (c *Client) Confirm(ctx context.Context) error {
	return c.do(ctx, http.MethodPost, "policy/confirm", nil, &struct{}{})
}

// Unapply takes the policy out of force, and the persistent one if asked to.
func (c *Client) Unapply(ctx context.Context, persistent bool) error {
	what := "policy"
	if persistent {
		what += "?persistent=true"
	}
	return c.do(ctx, http.MethodDelete, what, nil, &struct{}{})
}

// InForce returns the rule files in force.
func (c *Client) InForce(ctx context.Context) (InForce, error) { return get[InForce](ctx, c, "policy") }

// Explain says what becomes of a flow's packets under the policy in force.
func (c *Client) Explain(ctx context.Context, f explain.Flow) (out explain.Explanation, err error) {
	err = c.do(ctx, http.MethodPost, "explain", f, &out)
	return out, err
}

// Warnings returns what on the host keeps the policy from working.
func (c *Client) Warnings(ctx context.Context) ([]string, error) {
	return get[[]string](ctx, c, "warnings")
}

// Filters returns the filters in force, in order of decision.
func (c *Client) Filters(ctx context.Context) ([]Filter, error) {
	return get[[]Filter](ctx, c, "filters")
}

// SpecificFilters returns the filters in force, address by address.
func (c *Client) SpecificFilters(ctx context.Context) ([]Filter, error) {
	return get[[]Filter](ctx, c, "filters/specific")
}

// SAs returns the pairs of SAs.
func (c *Client) SAs(ctx context.Context) ([]SA, error) { return get[[]SA](ctx, c, "sas") }

// Peers returns the IKE SAs.
func (c *Client) Peers(ctx context.Context) ([]Peer, error) { return get[[]Peer](ctx, c, "peers") }

// PostMortems returns why negotiations failed: those with a peer, by its
// address or identity, or all for an empty one.
func (c *Client) PostMortems(ctx context.Context, peer string) ([]ike.PostMortem, error) {
	return get[[]ike.PostMortem](ctx, c, "post-mortems?peer="+url.QueryEscape(peer))
}

// Status returns the daemon at a glance.
func (c *Client) Status(ctx context.Context) (Status, error) { return get[Status](ctx, c, "status") }

func get[T any](ctx context.Context, c *Client, what string) (v T, err error) {
	err = c.do(ctx, http.MethodGet, what, nil, &v)
	return v, err
}

func (c *Client) do(ctx context.Context, method, what string, body, into any) error {
	var b []byte
	if body != nil {
		var err error
		if b, err = json.Marshal(body); err != nil {
			return fmt.Errorf("write the request: %w", err)
		}
	}
	return c.send(ctx, method, what, "application/json", bytes.NewReader(b), into)
}

func (c *Client) send(ctx context.Context, method, what, contentType string, body io.Reader, into any) error {
	resp, err := c.ask(ctx, method, what, contentType, body)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	if err != nil {
		return fmt.Errorf("hear the daemon at %s: %w", c.path, err)
	}
	if err := json.Unmarshal(answer, into); err != nil {
		return fmt.Errorf("understand the daemon at %s: %w", c.path, err)
	}
	return nil
}

// ask sends a request, and returns the answer if it is a good one.
func (c *Client) ask(ctx context.Context, method, what, contentType string, body io.Reader) (*http.Response, error) {
	r, err := http.NewRequestWithContext(ctx, method, "http://ipsecfw/v1/"+what, body)
	if err != nil {
		return nil, fmt.Errorf("write the request: %w", err)
	}
	r.Header.Set("Content-Type", contentType)
	resp, err := c.http.Do(r)
	switch {
	case errors.Is(err, unix.ENOENT), errors.Is(err, unix.ECONNREFUSED):
		return nil, &Error{Code: CodeNoDaemon, Message: "no daemon answers at " + c.path, Hint: `start it with "ipsecfw daemon", or name its socket with --socket`}
	case errors.Is(err, unix.EACCES), errors.Is(err, unix.EPERM):
		return nil, &Error{Code: CodeForbidden, Message: "the daemon's socket " + c.path + " may not be used", Hint: "be root"}
	case err != nil:
		return nil, fmt.Errorf("ask the daemon at %s: %w", c.path, err)
	case resp.StatusCode == http.StatusOK:
		return resp, nil
	}
	defer resp.Body.Close()
	e := &Error{}
	if json.NewDecoder(resp.Body).Decode(e) != nil || e.Message == "" {
		return nil, fmt.Errorf("the daemon at %s answered %s", c.path, resp.Status)
	}
	return nil, e
}
