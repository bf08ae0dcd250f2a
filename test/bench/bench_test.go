package main

import (
	"bytes"
	"encoding/json"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/ipsecfw/ipsecfw/filter"
	"github.com/ipsecfw/ipsecfw/filter/packet"
)

func samplePolicy(filters int) policy {
	return policy{
		host: netip.MustParseAddr("10.77.1.2"), middle: netip.MustParseAddr("10.77.1.1"), last: netip.MustParseAddr("10.77.1.3"),
		filters: filters,
	}
}

// A run with small numbers, of everything.
func TestRun(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("network namespaces need root: run make test with sudo")
	}
	r, err := run(t.Context(), config{
		few: 10, many: 100, repetitions: 2, duration: 20 * time.Millisecond, lookups: 1000,
		handshakes: 20, ikeSAs: 50, rest: 500 * time.Millisecond,
		profile: filepath.Join(t.TempDir(), "profile"), progress: func(s string) { t.Log(s) },
	})
	if err != nil {
		t.Fatal(err)
	}
	var table bytes.Buffer
	if err := r.print(&table); err != nil {
		t.Fatal(err)
	}
	t.Logf("\n%s", &table)
	for _, x := range r.Rows {
		if len(x.Samples) == 0 || x.Median <= 0 && x.Unit != "allocations" {
			t.Errorf("%s: %v, of %v", x.Name, x.Median, x.Samples)
		}
		if x.Unit == "allocations" && x.Median != 0 {
			t.Errorf("%s: %v", x.Name, x.Median)
		}
		if !strings.Contains(table.String(), x.Name) {
			t.Errorf("the table has no row %q", x.Name)
		}
	}
	if len(r.Rows) != 34+15+4 {
		t.Errorf("%d things were measured", len(r.Rows))
	}
	path := filepath.Join(t.TempDir(), "report.json")
	if err := r.write(path); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var back report
	if err := json.Unmarshal(b, &back); err != nil || len(back.Rows) != len(r.Rows) || back.Filters != 100 {
		t.Errorf("the JSON has %d rows of %d filters, error %v", len(back.Rows), back.Filters, err)
	}
}

func TestPolicy(t *testing.T) {
	p := samplePolicy(1000)
	spd, err := compile(&p)
	if err != nil {
		t.Fatal(err)
	}
	if groups := spd.Groups(filter.Inbound); len(groups[0].Tuples) != p.filters {
		t.Errorf("the first group has %d tuples: not all filters are of one shape", len(groups[0].Tuples))
	}
	for i := range p.filters {
		x := p.packet(i)
		if d := spd.Lookup(filter.Context{Direction: filter.Inbound}, &x); d.Action != filter.Permit || d.Entry == nil || d.Entry.Index != i {
			t.Fatalf("filter %d does not decide on its packet: %s", i, d.Why())
		}
	}
	answer := packet.Packet{Src: p.host, Dst: p.middle, Protocol: packet.UDP, HasPorts: true, SrcPort: middlePort, DstPort: middlePort}
	if d := spd.Lookup(filter.Context{Direction: filter.Outbound}, &answer); d.Entry == nil || d.Entry.Index != p.filters/2 || !d.Mirror {
		t.Errorf("the filter in the middle does not decide on what the bench sends: %s", d.Why())
	}
	stranger := packet.Packet{Src: netip.MustParseAddr("10.77.1.4"), Dst: p.host, Protocol: packet.UDP, HasPorts: true, DstPort: middlePort}
	if d := spd.Lookup(filter.Context{Direction: filter.Inbound}, &stranger); d.Action != filter.Block {
		t.Errorf("a stranger: %s", d.Why())
	}
	if n := strings.Count(string(p.plainRules()), " accept\n"); n != p.filters {
		t.Errorf("nft gets %d rules", n)
	}
}

func TestPolicyIsTheSameEachTime(t *testing.T) {
	p, q := samplePolicy(1000), samplePolicy(1000)
	if !bytes.Equal(p.ruleFile(), q.ruleFile()) || !bytes.Equal(p.plainRules(), q.plainRules()) {
		t.Error("two policies of the same size differ")
	}
	a, b := strings.Split(string(p.ruleFile()), "\n"), strings.Split(string(changed(p).ruleFile()), "\n")
	n := 0
	for i := range a {
		if a[i] != b[i] {
			n++
		}
	}
	if len(a) != len(b) || n != 1 {
		t.Errorf("%d lines differ from those of the changed policy, want 1", n)
	}
}

func TestMedian(t *testing.T) {
	for _, tt := range []struct {
		name    string
		samples []float64
		want    float64
	}{
		{"one", []float64{3}, 3},
		{"odd", []float64{5, 1, 3}, 3},
		{"even", []float64{4, 1, 2, 8}, 3},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := median(tt.samples); got != tt.want {
				t.Errorf("median = %v, want %v", got, tt.want)
			}
		})
	}
}

func TestBounds(t *testing.T) {
	r := newReport(10)
	r.add("met", "s", atMost(2), 2, 1, 9)
	r.add("not met", "s", atLeast(0.9), ratios([]float64{1, 8}, []float64{2, 10})...)
	r.add("not wanted", "s", nil, 1)
	r.add("not measured", "s", atMost(1))
	if len(r.Rows) != 3 || !*r.Rows[0].Met || *r.Rows[1].Met || r.Rows[2].Met != nil || r.failed() != 1 {
		t.Errorf("%+v", r.Rows)
	}
	var table bytes.Buffer
	if err := r.print(&table); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"≤ 2.00  pass  met", "≥ 0.900  FAIL  not met", "not wanted"} {
		if !strings.Contains(table.String(), want) {
			t.Errorf("the table does not have %q:\n%s", want, &table)
		}
	}
}
