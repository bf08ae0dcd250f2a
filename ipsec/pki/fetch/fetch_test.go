package fetch

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/ipsecfw/ipsecfw/ipsec/pki"
)

// text is a request whose value is the text that comes, good for an hour.
func text(url string) pki.Request {
	return pki.Request{Kind: pki.KindCRL, URL: url, Trusted: true, Parse: func(data []byte) (any, time.Time, error) {
		if strings.HasPrefix(string(data), "bad") {
			return nil, time.Time{}, errors.New("refused by its reader")
		}
		return string(data), time.Now().Add(time.Hour), nil
	}}
}

func server(t *testing.T, h http.HandlerFunc) *httptest.Server {
	t.Helper()
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	return s
}

func fetcher(t *testing.T, o Options) *Fetcher {
	t.Helper()
	f := New(o)
	t.Cleanup(f.Close)
	return f
}

func TestFetch(t *testing.T) {
	s := server(t, func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/post":
			body := make([]byte, 10)
			n, _ := r.Body.Read(body)
			fmt.Fprintf(w, "%s %s %s", r.Method, r.Header.Get("Content-Type"), body[:n])
		case "/missing":
			http.NotFound(w, r)
		case "/empty":
			w.WriteHeader(http.StatusNoContent)
		case "/bad":
			fmt.Fprint(w, "bad")
		case "/large":
			fmt.Fprint(w, strings.Repeat("x", int(sizes[pki.KindOCSP])+1))
		case "/full":
			fmt.Fprint(w, strings.Repeat("x", int(sizes[pki.KindOCSP])))
		case "/cut":
			w.Header().Set("Content-Length", "100")
			fmt.Fprint(w, "short")
		case "/headers":
			w.Header().Set("X", strings.Repeat("x", 2*maxHeaders))
		case "/once":
			http.Redirect(w, r, "/page", http.StatusFound)
		case "/ever":
			http.Redirect(w, r, "/ever", http.StatusFound)
		case "/elsewhere":
			http.Redirect(w, r, "file:///etc/passwd", http.StatusFound)
		default:
			fmt.Fprint(w, r.Method, " ", r.URL.Path)
		}
	})
	for _, tt := range []struct {
		name string
		url  string
		body string
		want string
		err  string
	}{
		{"page", s.URL + "/page", "", "GET /page", ""},
		{"post", s.URL + "/post", "question", "POST application/ocsp-request question", ""},
		{"redirected", s.URL + "/once", "", "GET /page", ""},
		{"redirected for ever", s.URL + "/ever", "", "", "too many redirections"},
		{"redirected to a file", s.URL + "/elsewhere", "", "", "only http is fetched"},
		{"not there", s.URL + "/missing", "", "", "404"},
		{"no content", s.URL + "/empty", "", "", "204"},
		{"refused", s.URL + "/bad", "", "", "refused by its reader"},
		{"as large as may be", s.URL + "/full", "", strings.Repeat("x", int(sizes[pki.KindOCSP])), ""},
		{"too large", s.URL + "/large", "", "", "more than 65536 bytes"},
		{"cut", s.URL + "/cut", "", "", "unexpected EOF"},
		{"large headers", s.URL + "/headers", "", "", "server response headers exceeded"},
		{"file", "file:///etc/passwd", "", "", "only http is fetched"},
		{"LDAP", "ldap://x/cn=crl", "", "", "only http is fetched"},
		{"no host", "http:///x", "", "", "names no host"},
		{"a user", "http://root:secret@x/", "", "", "or a user"},
		{"no URL", "http://[", "", "", "no URL"},
		{"long", "http://x/" + strings.Repeat("x", maxURL), "", "", "too long"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			f := fetcher(t, Options{})
			r := text(tt.url)
			r.Kind = pki.KindOCSP
			if tt.body != "" {
				r.Body = []byte(tt.body)
			}
			got, err := f.Fetch(t.Context(), r)
			if tt.err == "" {
				if err != nil || got != tt.want {
					t.Errorf("%v, %v", got, err)
				}
				return
			}
			if err == nil || !strings.Contains(err.Error(), tt.err) {
				t.Fatalf("error %v, want %q", err, tt.err)
			}
			if strings.Contains(err.Error(), "secret") {
				t.Errorf("the password shows in %q", err)
			}
		})
	}
}

// What came is kept, for each issuer and question by itself, and so are
// failures for a while.
func TestCache(t *testing.T) {
	var asked atomic.Int32
	s := server(t, func(w http.ResponseWriter, r *http.Request) {
		asked.Add(1)
		if r.URL.Path == "/missing" {
			http.NotFound(w, r)
		}
		fmt.Fprint(w, "page")
	})
	f := fetcher(t, Options{})
	page, missing := text(s.URL+"/page"), text(s.URL+"/missing")
	key, body := page, page
	key.Key, body.Body = "another issuer", []byte("question")
	over := text(s.URL + "/over")
	over.Parse = func([]byte) (any, time.Time, error) { return "over", time.Now().Add(-time.Minute), nil }
	for _, tt := range []struct {
		name string
		r    pki.Request
		want int32 // requests so far
	}{
		{"first", page, 1}, {"again", page, 1}, {"another issuer", key, 2}, {"question", body, 3}, {"and again", body, 3},
		{"failure", missing, 4}, {"failure again", missing, 4}, {"over when it comes", over, 5}, {"over again", over, 5},
	} {
		_, err := f.Fetch(t.Context(), tt.r)
		if (err != nil) != strings.HasPrefix(tt.name, "failure") {
			t.Errorf("%s: %v", tt.name, err)
		}
		if n := asked.Load(); n != tt.want {
			t.Errorf("%s: %d requests, want %d", tt.name, n, tt.want)
		}
	}
}

// What is kept is asked for again when its time has come, and serves on for
// as long as it is good if there is no newer one.
func TestNewer(t *testing.T) {
	var broken atomic.Bool
	var asked atomic.Int32
	s := server(t, func(w http.ResponseWriter, r *http.Request) {
		asked.Add(1)
		if broken.Load() {
			http.NotFound(w, r)
			return
		}
		fmt.Fprint(w, "page ", asked.Load())
	})
	f := fetcher(t, Options{})
	r := text(s.URL)
	get := func(want string, requests int32) {
		t.Helper()
		got, err := f.Fetch(t.Context(), r)
		if err != nil && want != "" || err == nil && got != want || asked.Load() != requests {
			t.Errorf("%v, %v after %d requests; want %q after %d", got, err, asked.Load(), want, requests)
		}
	}
	// later makes what is kept one to be asked for again, or of no use.
	later := func(change func(*entry)) {
		f.trusted.mu.Lock()
		defer f.trusted.mu.Unlock()
		change(f.trusted.kept.get(keyOf(r)))
	}
	stale := func(e *entry) { e.fresh = time.Now() }
	get("page 1", 1)
	later(stale)
	get("page 2", 2)
	broken.Store(true)
	later(stale)
	get("page 2", 3)
	get("page 2", 3) // it is not asked for at once again
	later(func(e *entry) { e.fresh, e.until = time.Now(), time.Now() })
	get("", 4)
}

// Equal requests at a time are one, which goes on when one of those who wait
// gives up.
func TestSharedFlight(t *testing.T) {
	var asked atomic.Int32
	open := make(chan struct{})
	s := server(t, func(w http.ResponseWriter, r *http.Request) {
		asked.Add(1)
		<-open
		fmt.Fprint(w, "page")
	})
	f := fetcher(t, Options{})
	ctx, stop := context.WithCancel(t.Context())
	gaveUp := make(chan error)
	go func() {
		_, err := f.Fetch(ctx, text(s.URL))
		gaveUp <- err
	}()
	var all sync.WaitGroup
	for range 10 {
		all.Go(func() {
			if got, err := f.Fetch(t.Context(), text(s.URL)); err != nil || got != "page" {
				t.Errorf("%v, %v", got, err)
			}
		})
	}
	stop()
	if err := <-gaveUp; !errors.Is(err, context.Canceled) {
		t.Errorf("gave up with %v", err)
	}
	close(open)
	all.Wait()
	if n := asked.Load(); n != 1 {
		t.Errorf("%d requests", n)
	}
}

// So many at a time, so many that wait, and no longer than the timeout.
func TestBounds(t *testing.T) {
	var now, most atomic.Int32
	open := make(chan struct{})
	s := server(t, func(w http.ResponseWriter, r *http.Request) {
		most.Store(max(most.Load(), now.Add(1)))
		<-open
		now.Add(-1)
		fmt.Fprint(w, "page")
	})
	f := fetcher(t, Options{Parallel: 2, Timeout: 20 * time.Second})
	nobodyWaits, stop := context.WithCancel(t.Context())
	stop()
	for i := range maxWaiting {
		if _, err := f.Fetch(nobodyWaits, text(fmt.Sprint(s.URL, "/", i))); !errors.Is(err, context.Canceled) {
			t.Errorf("request %d: %v", i, err)
		}
	}
	if _, err := f.Fetch(t.Context(), text(s.URL+"/more")); err == nil || !strings.Contains(err.Error(), "too much") {
		t.Errorf("one too many: %v", err)
	}
	close(open)
	for i := range maxWaiting {
		if got, err := f.Fetch(t.Context(), text(fmt.Sprint(s.URL, "/", i))); err != nil || got != "page" {
			t.Errorf("request %d: %v, %v", i, got, err)
		}
	}
	if most.Load() > 2 {
		t.Errorf("%d at a time", most.Load())
	}
}

func TestTimeout(t *testing.T) {
	s := server(t, func(w http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
	f := fetcher(t, Options{Timeout: time.Millisecond})
	if _, err := f.Fetch(t.Context(), text(s.URL)); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("%v", err)
	}
}

// A closed Fetcher has nothing under way, and does nothing.
func TestClose(t *testing.T) {
	began := make(chan struct{})
	s := server(t, func(w http.ResponseWriter, r *http.Request) {
		close(began)
		<-r.Context().Done()
	})
	f := New(Options{Timeout: time.Minute})
	done := make(chan error)
	go func() {
		_, err := f.Fetch(t.Context(), text(s.URL))
		done <- err
	}()
	<-began
	f.Close()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Errorf("ended with %v", err)
	}
	if _, err := f.Fetch(t.Context(), text(s.URL)); err == nil {
		t.Error("fetches after its end")
	}
}

// What a peer made up leads to this host in no way, and is kept apart.
func TestUntrusted(t *testing.T) {
	s := server(t, func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, "page") })
	port := s.URL[strings.LastIndex(s.URL, ":"):]
	for _, tt := range []struct{ name, url, err string }{
		{"another port", s.URL, "port 80 only"},
		{"loopback", "http://127.0.0.1/", "does not lead there"},
		{"loopback by name", "http://localhost/", "does not lead there"},
		{"all of 127", "http://127.1.2.3/", "does not lead there"},
		{"loopback of IPv6", "http://[::1]/", "does not lead there"},
		{"IPv4 in IPv6", "http://[::ffff:127.0.0.1]/", "does not lead there"},
		{"this network", "http://0.0.0.0/", "does not lead there"},
		{"metadata", "http://169.254.169.254/latest", "does not lead there"},
		{"link-local", "http://[fe80::1%25lo]/", "does not lead there"},
		{"multicast", "http://224.0.0.1/", "does not lead there"},
		{"https", "https://192.0.2.1/", "only http is fetched"},
		{"file", "file:///etc/passwd", "only http is fetched"},
		{"port by name", "http://localhost" + port, "port 80 only"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := text(tt.url)
			r.Trusted = false
			if _, err := fetcher(t, Options{}).Fetch(t.Context(), r); err == nil || !strings.Contains(err.Error(), tt.err) {
				t.Errorf("%v, want %q", err, tt.err)
			}
		})
	}
	f := fetcher(t, Options{})
	r := text("http://192.0.2.1/")
	r.Trusted, r.Body = false, []byte("x")
	if _, err := f.Fetch(t.Context(), r); err == nil || !strings.Contains(err.Error(), "nothing is posted") {
		t.Errorf("posted: %v", err)
	}
	if _, err := f.Fetch(t.Context(), text(s.URL)); err != nil || len(f.untrusted.kept.byKey) != 0 {
		t.Errorf("%v, or the lanes share what they keep", err)
	}
}

// Nor does it by an address of an interface, or by one that stands for another.
func TestReachable(t *testing.T) {
	own := []net.Addr{
		&net.IPNet{IP: net.IPv4(192, 0, 2, 1), Mask: net.CIDRMask(24, 32)},
		&net.IPNet{IP: net.ParseIP("2001:db8::1"), Mask: net.CIDRMask(64, 128)},
	}
	for _, tt := range []struct {
		name, address string
		want          bool
	}{
		{"elsewhere", "198.51.100.1:80", true},
		{"a neighbour", "192.0.2.2:80", true},
		{"a neighbour by IPv6", "[2001:db8::2]:80", true},
		{"a private network", "10.0.0.1:80", true},
		{"this host", "192.0.2.1:80", false},
		{"this host, IPv4 in IPv6", "[::ffff:192.0.2.1]:80", false},
		{"this host by IPv6", "[2001:db8::1]:80", false},
		{"this host by IPv6, with a zone", "[2001:db8::1%eth0]:80", false},
		{"NAT64", "[64:ff9b::7f00:1]:80", false},
		{"NAT64 of a network's own", "[64:ff9b:1::7f00:1]:80", false},
		{"NAT64 with a zone", "[64:ff9b::7f00:1%eth0]:80", false},
		{"IPv4-compatible", "[::127.0.0.1]:80", false},
		{"no address", "localhost:80", false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if err := reachable(tt.address, own); (err == nil) != tt.want {
				t.Errorf("%v", err)
			}
		})
	}
}

// The owner of the sockets gets each of them before it is connected.
func TestControl(t *testing.T) {
	s := server(t, func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, "page") })
	errMark := errors.New("cannot be marked")
	var addresses []string
	f := fetcher(t, Options{Control: func(_, address string, c syscall.RawConn) error {
		addresses = append(addresses, address)
		if len(addresses) > 1 {
			return errMark
		}
		return c.Control(func(uintptr) {})
	}})
	if _, err := f.Fetch(t.Context(), text(s.URL+"/1")); err != nil || "http://"+addresses[0] != s.URL {
		t.Errorf("%v, %q", err, addresses)
	}
	if _, err := f.Fetch(t.Context(), text(s.URL+"/2")); !errors.Is(err, errMark) {
		t.Errorf("%v", err)
	}
}

func TestCacheBounds(t *testing.T) {
	c := newCache(3, 100)
	put := func(key string, size int) { c.put(&entry{key: key, size: size}) }
	has := func(want string) {
		t.Helper()
		var got []string
		for el := c.order.Front(); el != nil; el = el.Next() {
			got = append(got, el.Value.(*entry).key)
		}
		size := 0
		for _, el := range c.byKey {
			size += el.Value.(*entry).cost()
		}
		if s := strings.Join(got, " "); s != want || size != c.size || len(c.byKey) != len(got) {
			t.Errorf("keeps %q with %d bytes, want %q with %d", s, c.size, want, size)
		}
	}
	put("a", 10)
	put("b", 10)
	put("c", 10)
	has("c b a")
	c.get("a")
	put("d", 10)
	has("d a c")
	put("a", 70)
	has("a d c")
	put("e", 40)
	has("e")
	put("f", 200)
	has("")
}
