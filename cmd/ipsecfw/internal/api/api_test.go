package api

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/ipsecfw/ipsecfw/cmd/ipsecfw/internal/explain"
	"github.com/ipsecfw/ipsecfw/ipsec/ike"
	"github.com/ipsecfw/ipsecfw/rules"
)

// fake is an Engine that remembers and answers what it is told to.
type fake struct {
	applied   []Application
	confirmed int
	unapplied int
	whole     bool // the persistent policy was unapplied too

	asked       []string // for post-mortems
	postMortems []ike.PostMortem
	initiated   []Initiation
	progress    []Progress
	err         error
}

func (f *fake) Apply(_ context.Context, a Application) (Applied, error) {
	f.applied = append(f.applied, a)
	return applied, f.err
}
func (f *fake) Confirm(context.Context) error { f.confirmed++; return f.err }
func (f *fake) Unapply(_ context.Context, persistent bool) error {
	f.unapplied++
	f.whole = persistent
	return f.err
}
func (f *fake) InForce() InForce { return inForce }
func (f *fake) Explain(x explain.Flow) (explain.Explanation, error) {
	return explain.Explanation{Flow: x.String(), NoSA: "no packet has asked"}, f.err
}
func (f *fake) Warnings() []string        { return []string{"another table drops it"} }
func (f *fake) SpecificFilters() []Filter { return filters[:1] }
func (f *fake) Filters() []Filter         { return filters }
func (f *fake) SAs() []SA                 { return sas }
func (f *fake) Peers() []Peer             { return nil }
func (f *fake) Status() Status            { return status }
func (f *fake) PostMortems(peer string) []ike.PostMortem {
	f.asked = append(f.asked, peer)
	return f.postMortems
}
func (f *fake) Initiate(_ context.Context, i Initiation, tell func(Progress)) error {
	f.initiated = append(f.initiated, i)
	for _, p := range f.progress {
		tell(p)
	}
	return f.err
}

var (
	deadline = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	applied  = Applied{Persistent: true, ConfirmBy: &deadline, Cut: 3}
	inForce  = InForce{Files: []File{{Name: "p.yaml", Source: "version: 1\n"}}, ConfirmBy: &deadline,
		Addresses: rules.Addresses{Names: map[string][]netip.Addr{"db.test": {netip.MustParseAddr("10.0.0.1")}}}}
	filters = []Filter{{Order: 1, Rule: "staff", List: "staff", Index: 1, Position: "p.yaml:6:7", Weight: 7, Action: "negotiate",
		From: "10.1.0.0/16", To: "me", Protocol: "tcp", FromPort: "any", ToPort: "8443", Mirrored: true}}
	sas = []SA{{Rule: "staff", Mode: "transport", Protocol: "ESP", InSPI: "c0000001", OutSPI: "c0000002",
		LocalSelectors: []string{"10.1.0.1 tcp 8443"}, InBytes: 1 << 63}}
	status = Status{Policy: "payroll", Generation: 3, Counters: map[string]uint64{"held": 1}, Queue: QueueCompat}
)

var quiet = slog.New(slog.DiscardHandler)

func serve(t *testing.T, e Engine) (path string) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "run", "d.sock")
	l, err := Listen(path)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- Serve(ctx, l, Handler(e, quiet), quiet) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Serve: %v", err)
		}
		if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("the socket is still there: %v", err)
		}
	})
	return path
}

func TestRoundTrip(t *testing.T) {
	e := &fake{}
	ctx, c := t.Context(), Dial(serve(t, e))
	policy := Policy{Name: "payroll.yaml", Source: "version: 1\n", Files: map[string][]byte{"keys/psk": {0, 255, 'x'}}}
	application := Application{Policy: policy, ConfirmSeconds: 60}
	if got, err := c.Apply(ctx, application); err != nil || !reflect.DeepEqual(got, applied) {
		t.Fatalf("applied %+v, error %v", got, err)
	}
	if len(e.applied) != 1 || !reflect.DeepEqual(e.applied[0], application) {
		t.Errorf("the engine got %+v, want %+v", e.applied, application)
	}
	if err := c.Confirm(ctx); err != nil || e.confirmed != 1 {
		t.Errorf("confirmed %d times, error %v", e.confirmed, err)
	}
	if err := c.Unapply(ctx, false); err != nil || e.unapplied != 1 || e.whole {
		t.Errorf("unapplied %d times, the persistent policy %v, error %v", e.unapplied, e.whole, err)
	}
	if err := c.Unapply(ctx, true); err != nil || !e.whole {
		t.Errorf("the persistent policy was not unapplied, error %v", err)
	}
	if got, err := c.InForce(ctx); err != nil || !reflect.DeepEqual(got, inForce) {
		t.Errorf("in force is %+v, error %v", got, err)
	}
	flow := explain.Flow{Direction: "inbound", From: netip.MustParseAddr("10.0.0.1"), To: netip.MustParseAddr("10.0.0.2"), Protocol: 6, ToPort: 22}
	if got, err := c.Explain(ctx, flow); err != nil || got.Flow != flow.String() || got.NoSA == "" {
		t.Errorf("explained %+v, error %v", got, err)
	}
	if got, err := c.Warnings(ctx); err != nil || len(got) != 1 {
		t.Errorf("warnings %q, error %v", got, err)
	}
	if got, err := c.SpecificFilters(ctx); err != nil || !reflect.DeepEqual(got, filters[:1]) {
		t.Errorf("specific filters %+v, error %v", got, err)
	}
	if got, err := c.Filters(ctx); err != nil || !reflect.DeepEqual(got, filters) {
		t.Errorf("filters %+v, error %v", got, err)
	}
	if got, err := c.SAs(ctx); err != nil || !reflect.DeepEqual(got, sas) {
		t.Errorf("SAs %+v, error %v", got, err)
	}
	if got, err := c.Peers(ctx); err != nil || got == nil || len(got) != 0 {
		t.Errorf("peers %#v, error %v; want an empty list that is not null", got, err)
	}
	if got, err := c.Status(ctx); err != nil || !reflect.DeepEqual(got, status) {
		t.Errorf("status %+v, error %v", got, err)
	}
}

func TestEngineErrors(t *testing.T) {
	typed := &Error{Code: CodeInvalidPolicy, Message: "unknown key fliter-list", Position: "p.yaml:3:5", Hint: "write filter-list"}
	for _, tt := range []struct {
		name string
		err  error
		want Error
		text string
	}{
		{"typed", typed, *typed, "p.yaml:3:5: unknown key fliter-list: write filter-list"},
		{"typed and wrapped", errors.Join(typed), *typed, "p.yaml:3:5: unknown key fliter-list: write filter-list"},
		{"missing files", &Error{Code: CodeMissingFiles, Message: "files are missing", Files: []NamedFile{{Path: "psk", Secret: true}}},
			Error{Code: CodeMissingFiles, Message: "files are missing", Files: []NamedFile{{Path: "psk", Secret: true}}}, "files are missing"},
		{"any other", errors.New("netlink: busy"), Error{Code: CodeInternal, Message: "netlink: busy"}, "netlink: busy"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := Dial(serve(t, &fake{err: tt.err})).Apply(t.Context(), Application{})
			var got *Error
			if !errors.As(err, &got) || !reflect.DeepEqual(*got, tt.want) || got.Error() != tt.text {
				t.Errorf("got %#v, want %#v", err, tt.want)
			}
		})
	}
}

func TestRefusals(t *testing.T) {
	for _, tt := range []struct {
		name, method, path, body string
		status                   int
		code                     Code
	}{
		{"unknown field", "PUT", "/v1/policy", `{"policy":{"name":"p","sauce":""}}`, 400, CodeBadRequest},
		{"no JSON", "PUT", "/v1/policy", `version: 1`, 400, CodeBadRequest},
		{"no body", "PUT", "/v1/policy", ``, 400, CodeBadRequest},
		{"two values", "PUT", "/v1/policy", `{} {}`, 400, CodeBadRequest},
		{"an application that is empty", "PUT", "/v1/policy", `{"policy":{}}x`, 400, CodeBadRequest},
		{"too large", "PUT", "/v1/policy", `{"policy":{"source":"` + strings.Repeat("x", MaxRequest) + `"}}`, 413, CodeTooLarge},
		{"unknown path", "GET", "/v1/secrets", ``, 404, CodeNotFound},
		{"unknown method", "POST", "/v1/policy", ``, 404, CodeNotFound},
	} {
		t.Run(tt.name, func(t *testing.T) {
			e := &fake{}
			resp := request(t, serve(t, e), tt.method, tt.path, tt.body)
			body, err := io.ReadAll(resp.Body)
			if err != nil {
				t.Fatal(err)
			}
			if resp.StatusCode != tt.status || !strings.Contains(string(body), `"code":"`+string(tt.code)+`"`) {
				t.Errorf("answered %s %s", resp.Status, body)
			}
			if len(e.applied) != 0 {
				t.Errorf("the engine got %v", e.applied)
			}
		})
	}
}

func request(t *testing.T, socket, method, path, body string) *http.Response {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, "http://d"+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	c := Dial(socket)
	resp, err := c.http.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { resp.Body.Close() })
	return resp
}

// Only root and the daemon's own user may write, and nobody whom the kernel
// did not name.
func TestWhoMayWrite(t *testing.T) {
	own := uint32(os.Geteuid())
	for _, tt := range []struct {
		name   string
		ctx    context.Context
		status int
	}{
		{"root", context.WithValue(t.Context(), callerKey{}, caller{uid: 0}), 200},
		{"the daemon's user", context.WithValue(t.Context(), callerKey{}, caller{uid: own}), 200},
		{"another user", context.WithValue(t.Context(), callerKey{}, caller{uid: own + 1000}), 403},
		{"nobody knows", t.Context(), 403},
	} {
		for method, body := range map[string]string{"PUT": "{}", "DELETE": ""} {
			t.Run(tt.name+" "+method, func(t *testing.T) {
				e := &fake{}
				w := httptest.NewRecorder()
				r := httptest.NewRequestWithContext(tt.ctx, method, "/v1/policy", bytes.NewBufferString(body))
				Handler(e, quiet).ServeHTTP(w, r)
				if w.Code != tt.status {
					t.Errorf("status %d, want %d: %s", w.Code, tt.status, w.Body)
				}
				if did := len(e.applied)+e.unapplied == 1; did != (tt.status == 200) {
					t.Errorf("the engine was asked %d times to apply and %d to unapply", len(e.applied), e.unapplied)
				}
			})
		}
	}
}

func TestListen(t *testing.T) {
	t.Run("mode", func(t *testing.T) {
		info, err := os.Stat(serve(t, &fake{}))
		if err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("mode %v, error %v; want 0600", info.Mode(), err)
		}
	})
	t.Run("another daemon", func(t *testing.T) {
		path := serve(t, &fake{})
		if _, err := Listen(path); err == nil || !strings.Contains(err.Error(), "another daemon") {
			t.Errorf("error %v", err)
		}
		if _, err := Dial(path).Status(t.Context()); err != nil {
			t.Errorf("the first daemon is gone: %v", err)
		}
	})
	t.Run("stale socket", func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "d.sock")
		dead, err := net.Listen("unix", path)
		if err != nil {
			t.Fatal(err)
		}
		dead.(*net.UnixListener).SetUnlinkOnClose(false)
		dead.Close()
		l, err := Listen(path)
		if err != nil {
			t.Fatal(err)
		}
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	})
	t.Run("a file of somebody", func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "d.sock")
		if err := os.WriteFile(path, []byte("mine"), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := Listen(path); err == nil || !strings.Contains(err.Error(), "no socket") {
			t.Errorf("error %v", err)
		}
		if b, err := os.ReadFile(path); err != nil || string(b) != "mine" {
			t.Errorf("the file holds %q, error %v", b, err)
		}
	})
	t.Run("relative path", func(t *testing.T) {
		if _, err := Listen("@ipsecfw"); err == nil || !strings.Contains(err.Error(), "relative") {
			t.Errorf("error %v", err)
		}
	})
}

func TestNoDaemon(t *testing.T) {
	stale := filepath.Join(t.TempDir(), "stale.sock")
	dead, err := net.Listen("unix", stale)
	if err != nil {
		t.Fatal(err)
	}
	dead.(*net.UnixListener).SetUnlinkOnClose(false)
	dead.Close()
	for _, path := range []string{filepath.Join(t.TempDir(), "none", "d.sock"), stale} {
		_, err := Dial(path).Status(t.Context())
		var e *Error
		if !errors.As(err, &e) || e.Code != CodeNoDaemon {
			t.Fatalf("error %v", err)
		}
		if want := "no daemon answers at " + path + `: start it with "ipsecfw daemon"`; !strings.HasPrefix(err.Error(), want) {
			t.Errorf("error %q, want %q", err, want)
		}
	}
}

// An application comes whole through a form, and as JSON.
func TestForm(t *testing.T) {
	a := Application{Policy: Policy{Name: "p.yaml", Source: "version: 1\r\n--x\x00\n\"quoted\"\n", Files: map[string][]byte{"psk": {0, 255}}}, ConfirmSeconds: 7, Shell: "a b"}
	body, contentType, err := encodeForm(a)
	if err != nil {
		t.Fatal(err)
	}
	form, err := io.ReadAll(body)
	if err != nil {
		t.Fatal(err)
	}
	plain, err := json.Marshal(a)
	if err != nil {
		t.Fatal(err)
	}
	read := func(contentType string, body []byte) (Application, error) {
		r := httptest.NewRequest("PUT", "/v1/policy", bytes.NewReader(body))
		r.Header.Set("Content-Type", contentType)
		return decodeApplication(r)
	}
	for contentType, body := range map[string][]byte{contentType: form, "application/json": plain} {
		if got, err := read(contentType, body); err != nil || !reflect.DeepEqual(got, a) {
			t.Errorf("%s: got %+v, %v, want %+v", contentType, got, err, a)
		}
	}
	for n := range form[:len(form)-2] { // the last line end may be missing
		if got, err := read(contentType, form[:n]); err == nil {
			t.Fatalf("a form cut to %d of %d bytes was read as %+v", n, len(form), got)
		}
	}
	twice := bytes.Replace(form, []byte("name=\"source\""), []byte("name=\"application\""), 1)
	if _, err := read(contentType, twice); err == nil {
		t.Error("a form with one part twice was read")
	}
}
