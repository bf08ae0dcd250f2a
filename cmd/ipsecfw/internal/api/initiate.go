package api

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"time"
)

// initiate answers with a line for each Progress, as it happens.
func initiate(e Engine, log *slog.Logger) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		begun := false
		lines, control := json.NewEncoder(w), http.NewResponseController(w)
		tell := func(p Progress) {
			if !begun {
				begun = true
				w.Header().Set("Content-Type", "application/jsonl")
			}
			err := lines.Encode(p)
			if err = errors.Join(err, control.Flush()); err != nil {
				log.Debug("progress not told", "path", r.URL.Path, "error", err)
			}
		}
		var i Initiation
		err := authorised(r)
		if err == nil {
			err = decode(r.Body, &i)
		}
		if err == nil {
			// The peer may take longer to answer than a request to arrive.
			err = errors.Join(control.SetReadDeadline(time.Time{}), control.SetWriteDeadline(time.Time{}))
		}
		if err == nil {
			caller, _ := callerOf(r.Context())
			log.Info("negotiation asked for", "peer", i.Peer, "rule", i.Rule, "pid", caller.pid, "uid", caller.uid)
			err = e.Initiate(r.Context(), i, tell)
		}
		if err == nil {
			return
		}
		refused := refusal(log, r, err)
		if !begun { // or else the missing last line tells
			w.Header().Set("Content-Type", "application/json")
			w.WriteHeader(refused.status())
			if err := lines.Encode(refused); err != nil {
				log.Debug("request not answered", "path", r.URL.Path, "error", err)
			}
		}
	})
}

// Initiate negotiates with a peer, and calls tell with each Progress. It
// returns the last one, which has an SA or a PostMortem.
func (c *Client) Initiate(ctx context.Context, i Initiation, tell func(Progress)) (last Progress, err error) {
	body, err := json.Marshal(i)
	if err != nil {
		return last, fmt.Errorf("write the request: %w", err)
	}
	resp, err := c.ask(ctx, http.MethodPost, "initiate", "application/json", bytes.NewReader(body))
	if err != nil {
		return last, err
	}
	defer resp.Body.Close()
	lines := json.NewDecoder(resp.Body)
	for {
		var p Progress
		switch err := lines.Decode(&p); {
		case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
			return last, fmt.Errorf("the daemon at %s ended before the negotiation did", c.path)
		case err != nil:
			return last, fmt.Errorf("hear the daemon at %s: %w", c.path, err)
		}
		tell(p)
		if p.SA != nil || p.PostMortem != nil {
			return p, nil
		}
	}
}
