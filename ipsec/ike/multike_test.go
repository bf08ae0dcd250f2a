package ike

import (
	"slices"
	"testing"

	"github.com/ipsecfw/ipsecfw/ipsec"
)

// sets makes candidates for the key exchanges out of their methods.
func sets(methods ...[]uint16) [][]ipsec.Transform {
	out := make([][]ipsec.Transform, len(methods))
	for i, ids := range methods {
		for _, id := range ids {
			t := ke(i, id)
			if i == 0 {
				t.Type = ipsec.TypeGroup
			}
			out[i] = append(out[i], t)
		}
	}
	return out
}

func TestDistinct(t *testing.T) {
	many := make([]uint16, 200)
	for i := range many {
		many[i] = uint16(i + 1)
	}
	for _, tt := range []struct {
		name string
		in   [][]ipsec.Transform
		want []uint16 // nil for no choice
	}{
		{"one", sets([]uint16{31, 19}), []uint16{31}},
		{"different", sets([]uint16{31, 19}, []uint16{36}), []uint16{31, 36}},
		{"same", sets([]uint16{31}, []uint16{31}), nil},
		{"the later gives way", sets([]uint16{31, 19}, []uint16{31, 20}), []uint16{31, 20}},
		{"the earlier gives way", sets([]uint16{31, 19}, []uint16{31}), []uint16{19, 31}},
		{"a chain", sets([]uint16{1, 2}, []uint16{2, 3}, []uint16{3, 1}, []uint16{1}), nil},
		{"a chain that ends", sets([]uint16{1, 2}, []uint16{2, 3}, []uint16{3, 4}, []uint16{1}), []uint16{2, 3, 4, 1}},
		{"NONE first", sets([]uint16{31}, []uint16{0, 31}, []uint16{0}), []uint16{31, 0, 0}},
		{"NONE last", sets([]uint16{31}, []uint16{31, 0}, []uint16{36, 0}), []uint16{31, 0, 36}},
		{"NONE makes room", sets([]uint16{1, 2}, []uint16{1, 0}, []uint16{1, 2}), []uint16{1, 0, 2}},
		{"nothing in common", sets([]uint16{31}, nil), nil},
		{"many that cannot be", sets(many, many, many, many, many, many, []uint16{5}, []uint16{5}), nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, ok := distinct(tt.in)
			var ids []uint16
			for _, x := range got {
				ids = append(ids, x.ID)
			}
			if ok != (len(tt.want) > 0) || !slices.Equal(ids, tt.want) {
				t.Errorf("%v, %v, want %v", ids, ok, tt.want)
			}
		})
	}
}
