package test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/ipsecfw/ipsecfw/test/lab"
)

// softPolicy asks for security with everybody in a network, and has a
// negotiation that takes the place of NEGOTIATION.
const softPolicy = `version: 1
name: soft
filter-lists:
  domain: [{from: me, to: %s}]
filter-actions:
  ask: {negotiate: {%s}}
rules:
  - {name: domain, filter-list: domain, action: ask, authentication: [{preshared-key: {file: psk}}]}
key-exchange: {liveness: 1s}
`

// softSA is a line of "list sas -o json" that may be no SA.
type softSA struct {
	Rule        string `json:"rule"`
	Remote      string `json:"remote"`
	Soft        bool   `json:"soft"`
	SoftSeconds int    `json:"soft-seconds"`
}

// softSAs lists the peers that are spoken to in clear.
func (d *daemon) softSAs(t *testing.T) (soft []softSA) {
	t.Helper()
	out, err := d.run("list", "sas", "-o", "json")
	must(t, err)
	var all []softSA
	must(t, json.Unmarshal(out, &all))
	for _, x := range all {
		if x.Soft {
			soft = append(soft, x)
		}
	}
	return soft
}

// says reports whether the log has a line with all of the words.
func (d *daemon) says(t *testing.T, words ...string) bool {
	t.Helper()
lines:
	for line := range bytes.Lines(d.log(t)) {
		for _, w := range words {
			if !bytes.Contains(line, []byte(w)) {
				continue lines
			}
		}
		return true
	}
	return false
}

// With accept-unsecured what comes in clear is let in, and the answer to it
// goes under ESP or not at all.
func TestAcceptUnsecured(t *testing.T) {
	s, f, ds := peers(t)
	w, x := f.parties["work"].host, f.parties["other"].host
	ds.write(t, "psk", []byte(psk))
	listenSwaps(t, s.server, server4+":8443")
	ds.apply(t, fmt.Sprintf(softPolicy, "10.1.0.0/16", "accept-unsecured: true"))
	stranger := watch(t, s.gateway, "str0", []string{server4}, []string{stranger4})
	p := f.parse(t, "other me udp 1000 9")
	must(t, p.send())
	f.ears[s.server].until(t, p.number) // it comes in
	if err := refused(x, server4+":8443", 500*time.Millisecond); err != nil {
		t.Error(err)
	}
	stranger.end(t)
	if n := stranger.clear.Load(); n == 0 {
		t.Error("nothing of the stranger was on the wire")
	}
	answers := watch(t, s.gateway, "wks0", []string{server4}, []string{workstation4})
	fromServer := watchFrom(t, s.gateway, "wks0", server4)
	dw := startDaemon(t, w)
	dw.write(t, "psk", []byte(psk))
	dw.apply(t, respondOnly)
	// The workstation asks for nothing: its first packets are in clear, and what
	// the server answers makes it secure the rest.
	must(t, transfer(w, "", server4+":8443", megabyte))
	answers.end(t)
	if n := answers.bytes.Load(); n < 2*megabyte {
		t.Errorf("%d bytes of ESP", n)
	}
	fromServer.end(t)
	if n := fromServer.clear.Load(); n > 0 {
		t.Errorf("%d clear packets of the server, the first: %s", n, *fromServer.witness.Load())
	}
	ds.apply(t, fmt.Sprintf(softPolicy, "10.1.0.0/16", "accept-unsecured: false"))
	p = f.parse(t, "other me udp 1000 9")
	must(t, p.send())
	last := f.parse(t, "gate me udp 1000 9")
	must(t, last.send())
	if f.ears[s.server].until(t, last.number)[p.number] {
		t.Error("without accept-unsecured a clear packet comes in")
	}
}

// respondOnly has no rule for anybody but a name server: a peer that asks for
// security gets it.
const respondOnly = `version: 1
name: respond-only
filter-lists:
  lookups: [{from: me, to: 10.9.0.53, protocol: udp, to-port: 53}]
rules:
  - {name: lookups, filter-list: lookups, action: permit}
default-response:
  action: require-security
  authentication: [{preshared-key: {file: psk}}]
`

// watchFrom counts what passes an interface from a host.
func watchFrom(t *testing.T, h *lab.Host, ifname, from string) *wire {
	t.Helper()
	w := new(wire)
	var err error
	w.capture, err = h.Capture(ifname, func(b []byte, _ bool) {
		kind, p := lab.Classify(b)
		switch {
		case p.Src.String() != from:
		case kind == lab.ESP:
			w.esp.Add(1)
		case kind == lab.Clear:
			w.clear.Add(1)
			what := fmt.Sprintf("%v:%d → %v:%d, protocol %d", p.Src, p.SrcPort, p.Dst, p.DstPort, p.Protocol)
			w.witness.CompareAndSwap(nil, &what)
		}
	})
	must(t, err)
	return w
}

// With allow-unsecured a peer that speaks no IKE is spoken to in clear, which
// is listed and logged, for a while.
func TestAllowUnsecured(t *testing.T) {
	s, f, ds := peers(t)
	x := f.parties["other"].host
	ds.write(t, "psk", []byte(psk))
	ds.apply(t, fmt.Sprintf(softPolicy, "10.1.0.0/16", "allow-unsecured: {after: 1s, for: 2s}"))
	listenSwaps(t, x, stranger4+":8443")
	if err := refused(x, server4+":1", 100*time.Millisecond); err != nil { // no accept-unsecured
		t.Error(err)
	}
	start := time.Now()
	must(t, transfer(s.server, "", stranger4+":8443", megabyte))
	if d := time.Since(start); d < time.Second {
		t.Errorf("in clear after %v", d)
	}
	soft := ds.softSAs(t)
	if len(soft) != 1 || soft[0].Remote != stranger4 || soft[0].Rule != "domain" || soft[0].SoftSeconds > 2 {
		t.Errorf("the soft SAs are %+v", soft)
	}
	if !ds.says(t, "level=WARN", "audit: ", "rule=domain", "peer="+stranger4) {
		t.Error("the log has no audit event of it")
	}
	out, err := ds.run("list", "sas")
	must(t, err)
	if !strings.Contains(string(out), stranger4) {
		t.Errorf("list sas does not show it:\n%s", out)
	}
	eventually(t, 10*time.Second, "the soft SA ends", func() bool { return len(ds.softSAs(t)) == 0 })
	start = time.Now()
	must(t, transfer(s.server, "", stranger4+":8443", 1)) // asked anew
	if d := time.Since(start); d < time.Second {
		t.Errorf("in clear anew after %v", d)
	}

	// Without it nothing leaves in clear, however long it takes.
	ds.apply(t, fmt.Sprintf(softPolicy, "10.1.0.0/16", "allow-unsecured: false"))
	if soft := ds.softSAs(t); len(soft) > 0 {
		t.Errorf("the soft SAs under another policy are %+v", soft)
	}
	fromServer := watchFrom(t, s.gateway, "str0", server4)
	if err := refused(s.server, stranger4+":8443", 2*time.Second); err != nil {
		t.Error(err)
	}
	fromServer.end(t)
	if n := fromServer.clear.Load(); n > 0 {
		t.Errorf("%d clear packets of the server, the first: %s", n, *fromServer.witness.Load())
	}
}

// A peer that was once secured is not spoken to in clear, though it does not
// answer, by no daemon of this host.
func TestOnceSecured(t *testing.T) {
	t.Parallel() // it waits most of the time
	s, f, ds := peers(t)
	w := f.parties["work"].host
	ds.write(t, "psk", []byte(psk))
	ds.apply(t, fmt.Sprintf(softPolicy, "10.1.0.0/16", "accept-unsecured: true, allow-unsecured: {after: 1s, for: 1m}"))
	dw := startDaemon(t, w)
	dw.write(t, "psk", []byte(psk))
	dw.apply(t, respondOnly)
	listenSwaps(t, w, workstation4+":8443")
	all := watchFrom(t, s.gateway, "wks0", server4)
	must(t, transfer(s.server, "", workstation4+":8443", megabyte))
	onePair(t, ds, dw)
	if soft := ds.softSAs(t); len(soft) > 0 {
		t.Errorf("of a peer that speaks IKE there are the soft SAs %+v", soft)
	}

	dw.reboot(t) // and no boot mode: the workstation would answer in clear
	const refusal = "audit: a peer that was secured once does not answer"
	for _, again := range []string{"the same daemon", "the next daemon"} {
		if again == "the next daemon" {
			ds.kill()
			must(t, ds.clearLog())
			ds.start(t)
			ds.status(t)
		}
		eventually(t, 60*time.Second, again+" refuses to speak in clear", func() bool {
			if err := refused(s.server, workstation4+":8443", 300*time.Millisecond); err != nil {
				t.Fatal(err)
			}
			return ds.says(t, refusal, "peer="+workstation4)
		})
		if soft := ds.softSAs(t); len(soft) > 0 {
			t.Errorf("%s has the soft SAs %+v", again, soft)
		}
	}
	all.end(t)
	if n := all.clear.Load(); n > 0 {
		t.Errorf("%d clear packets of the server, the first: %s", n, *all.witness.Load())
	}
}
