package rules

import (
	"bytes"
	"fmt"
	"testing"
)

func BenchmarkParse(b *testing.B) {
	for _, n := range []int{10, 10000} {
		var src bytes.Buffer
		src.WriteString("version: 1\nname: bench\nfilter-lists:\n  all:\n")
		for i := range n {
			fmt.Fprintf(&src, "    - {from: 10.%d.%d.%d, to: me, protocol: tcp, to-port: 8443}\n", i>>16, i>>8&255, i&255)
		}
		src.WriteString("rules:\n  - {name: all, filter-list: all, action: block}\n")
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			b.SetBytes(int64(src.Len()))
			for b.Loop() {
				mustParse(b, "bench.yaml", src.Bytes())
			}
		})
	}
}
