package rules

import (
	"bytes"
	"fmt"
	"testing"
)

// manyFilters returns a rule file with a list of n filters.
func manyFilters(n int) []byte {
	var src bytes.Buffer
	src.WriteString("version: 1\nname: bench\nfilter-lists:\n  all:\n")
	for i := range n {
		fmt.Fprintf(&src, "    - {from: 10.%d.%d.%d, to: me, protocol: tcp, to-port: 8443}\n", i>>16, i>>8&255, i&255|1)
	}
	src.WriteString("rules:\n  - {name: all, filter-list: all, action: block}\n")
	return src.Bytes()
}

func BenchmarkParse(b *testing.B) {
	for _, n := range []int{10, 10000} {
		src := manyFilters(n)
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			b.SetBytes(int64(len(src)))
			for b.Loop() {
				mustParse(b, "bench.yaml", src)
			}
		})
	}
}

// What Parse does once the YAML is read.
func BenchmarkRead(b *testing.B) {
	r := &reader{}
	root := parseYAML(&r.reporter, manyFilters(100_000))
	for b.Loop() {
		r = &reader{}
		if r.readFile(root); r.err() != nil {
			b.Fatal(r.err())
		}
	}
}

func BenchmarkEntries(b *testing.B) {
	f := mustParse(b, "bench.yaml", manyFilters(100_000))
	b.ResetTimer()
	for b.Loop() {
		if n := len(f.Entries(Addresses{})); n != 100_000 {
			b.Fatal(n)
		}
	}
}
