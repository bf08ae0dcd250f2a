package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"testing"
	"testing/synctest"
	"time"
)

// What the bench has the test below do.
var (
	rekeyedSAs = flag.Int("ike-sas", 50, "`NUMBER` of IKE SAs whose rekeying is watched")
	rowsFile   = flag.String("rows", "", "`FILE` for what was measured, in JSON")
)

// SAs that were all made at one instant, as after a power cut, are not all
// rekeyed at one.
func TestRekeysAreSpread(t *testing.T) {
	r := newReport(0)
	synctest.Test(t, func(t *testing.T) {
		ikeSAs, children, err := rekeyTimes(t.Context(), *rekeyedSAs)
		if err != nil {
			t.Fatal(err)
		}
		for _, x := range []struct {
			what     string
			lifetime time.Duration
			times    []time.Duration
		}{{"IKE SAs", ikeLifetime, ikeSAs}, {"Child SAs", childLifetime, children}} {
			most := busiest(x.times, x.lifetime)
			t.Logf("%d %s: in the busiest second %.1f times the mean", len(x.times), x.what, most)
			if most > (x.lifetime / 20).Seconds() { // half of them
				t.Errorf("%s are rekeyed at one instant", x.what)
			}
			r.add(fmt.Sprintf("rekeys of %d %s with a lifetime of %.0f h, the busiest second against the mean", *rekeyedSAs, x.what, x.lifetime.Hours()), "ratio", atMost(wantedOfBusiest), most)
		}
	})
	if *rowsFile == "" {
		return
	}
	b, err := json.Marshal(r.Rows)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(*rowsFile, b, 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestBusiest(t *testing.T) {
	s := func(seconds ...float64) (out []time.Duration) {
		for _, x := range seconds {
			out = append(out, time.Duration(x*float64(time.Second)))
		}
		return out
	}
	for _, tt := range []struct {
		name  string
		times []time.Duration
		want  float64
	}{
		{"evenly", s(90, 91, 92, 93, 94, 95, 96, 97, 98, 99), 1},
		{"three of six in one of ten seconds", s(91, 92.1, 92.2, 92.3, 93, 94.9), 5},
		{"at one instant", s(97, 97, 97), 10},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := busiest(tt.times, 100*time.Second); got != tt.want {
				t.Errorf("%v, want %v", got, tt.want)
			}
		})
	}
}
