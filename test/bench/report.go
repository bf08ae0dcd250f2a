package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"runtime"
	"slices"
	"text/tabwriter"

	"golang.org/x/sys/unix"
)

// row is something measured, several times over.
type row struct {
	Name    string    `json:"name"`
	Unit    string    `json:"unit"`
	Samples []float64 `json:"samples"`
	Median  float64   `json:"median"`
	Wanted  *bound    `json:"wanted,omitempty"`
	Met     *bool     `json:"met,omitempty"` // with Wanted
}

// bound is what a median is wanted to be.
type bound struct {
	AtLeast bool    `json:"at-least"` // and otherwise at most
	Value   float64 `json:"value"`
}

func atLeast(v float64) *bound { return &bound{true, v} }
func atMost(v float64) *bound  { return &bound{false, v} }

func (b *bound) met(v float64) bool {
	if b.AtLeast {
		return v >= b.Value
	}
	return v <= b.Value
}

func (b *bound) String() string {
	if b.AtLeast {
		return "≥ " + number(b.Value)
	}
	return "≤ " + number(b.Value)
}

// report is all that one run has measured, and where.
type report struct {
	Kernel  string `json:"kernel"`
	Go      string `json:"go"`
	CPUs    int    `json:"cpus"`
	Filters int    `json:"filters"`
	Rows    []row  `json:"rows"`
}

func newReport(filters int) *report {
	r := &report{Go: runtime.Version(), CPUs: runtime.NumCPU(), Filters: filters}
	var name unix.Utsname
	if unix.Uname(&name) == nil {
		r.Kernel = unix.ByteSliceToString(name.Release[:])
	}
	return r
}

// add adds what was measured. What is not measured has no row.
func (r *report) add(name, unit string, wanted *bound, samples ...float64) {
	if len(samples) == 0 {
		return
	}
	x := row{Name: name, Unit: unit, Samples: samples, Median: median(samples), Wanted: wanted}
	if wanted != nil {
		met := wanted.met(x.Median)
		x.Met = &met
	}
	r.Rows = append(r.Rows, x)
}

// failed returns how many bounds are not met.
func (r *report) failed() int {
	n := 0
	for _, x := range r.Rows {
		if x.Met != nil && !*x.Met {
			n++
		}
	}
	return n
}

// print writes the table.
func (r *report) print(w io.Writer) error {
	fmt.Fprintf(w, "Linux %s, %s, %d CPUs, %d filters\n\n", r.Kernel, r.Go, r.CPUs, r.Filters)
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintf(t, "median\tleast\tmost\tof\twanted\t\t\n")
	for _, x := range r.Rows {
		wanted, mark := "", ""
		if x.Wanted != nil {
			wanted, mark = x.Wanted.String(), "FAIL"
			if *x.Met {
				mark = "pass"
			}
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%d\t%s\t%s\t  %s, %s\n", number(x.Median), number(slices.Min(x.Samples)), number(slices.Max(x.Samples)),
			len(x.Samples), wanted, mark, x.Name, x.Unit)
	}
	return t.Flush()
}

// number writes a number with three significant digits or more.
func number(v float64) string {
	switch {
	case v >= 100 || v == 0:
		return fmt.Sprintf("%.0f", v)
	case v >= 10:
		return fmt.Sprintf("%.1f", v)
	case v >= 1:
		return fmt.Sprintf("%.2f", v)
	}
	return fmt.Sprintf("%.3f", v)
}

func (r *report) write(path string) error {
	b, err := json.MarshalIndent(r, "", "\t")
	if err != nil {
		return err
	}
	return os.WriteFile(path, append(b, '\n'), 0o644)
}

func median(samples []float64) float64 {
	s := slices.Sorted(slices.Values(samples))
	n := len(s)
	return (s[(n-1)/2] + s[n/2]) / 2
}

// ratios divides samples that were taken at about the same time.
func ratios(over, under []float64) []float64 {
	out := make([]float64, min(len(over), len(under)))
	for i := range out {
		out[i] = over[i] / under[i]
	}
	return out
}
