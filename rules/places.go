package rules

import (
	"strconv"
	"strings"
)

// Places are where the values of a part of the file stand. A value is named by
// the keys that lead to it and by its place in lists, from 0, as in
// "authentication/0/certificate/crl/1".
type Places struct {
	file string
	at   map[string]Position
}

// At returns the place of a value, as in "payroll.yaml:22:5", or of the nearest
// of those around it that is known; without any it is "".
func (p Places) At(name string) string {
	for {
		if at, ok := p.at[name]; ok {
			return placeIn(p.file).at(at)
		}
		end := strings.LastIndexByte(name, '/')
		if end < 0 {
			return ""
		}
		name = name[:end]
	}
}

// places returns where the values below a node stand. The nodes themselves are
// not kept: they share their memory with those of all filters.
func (n *node) places() map[string]Position {
	out := map[string]Position{}
	var walk func(n *node, name string)
	walk = func(n *node, name string) {
		if name != "" {
			out[name] = n.at
			name += "/"
		}
		for i, v := range n.items {
			walk(v, name+strconv.Itoa(i))
		}
		for _, f := range n.fields {
			below := name + f.key
			if f.key == "ppk" && f.value.kind == mapping { // one in place of a list
				below += "/0"
			}
			walk(f.value, below)
		}
	}
	walk(n, "")
	return out
}
