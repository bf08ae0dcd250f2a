package test

import (
	"math/rand/v2"
	"testing"
)

// dimension is a property that cases of a matrix differ in, with its values.
type dimension struct {
	name   string
	values []string
}

// matrixCase holds a value for each dimension, by name.
type matrixCase map[string]string

// allPairs returns cases in which any two values of different dimensions that
// go together meet at least once. Possible tells which whole cases there can
// be. The cases are the same each time.
func allPairs(t *testing.T, dims []dimension, possible func(matrixCase) bool) []matrixCase {
	t.Helper()
	type half struct{ dim, value string }
	type pair struct{ a, b half }
	open := map[pair]bool{}
	var order []pair
	for i, x := range dims {
		for _, y := range dims[i+1:] {
			for _, v := range x.values {
				for _, w := range y.values {
					p := pair{half{x.name, v}, half{y.name, w}}
					open[p] = true
					order = append(order, p)
				}
			}
		}
	}
	covered := func(c matrixCase) (n int) {
		for i, x := range dims {
			for _, y := range dims[i+1:] {
				if open[pair{half{x.name, c[x.name]}, half{y.name, c[y.name]}}] {
					n++
				}
			}
		}
		return n
	}
	rng := rand.New(rand.NewPCG(1, 2))
	random := func(p pair) (matrixCase, bool) {
		for range 200 {
			c := matrixCase{}
			for _, d := range dims {
				c[d.name] = d.values[rng.IntN(len(d.values))]
			}
			c[p.a.dim], c[p.b.dim] = p.a.value, p.b.value
			if possible(c) {
				return c, true
			}
		}
		return nil, false
	}
	var cases []matrixCase
	for _, p := range order {
		if !open[p] {
			continue
		}
		var best matrixCase
		for range 100 {
			if c, ok := random(p); ok && (best == nil || covered(c) > covered(best)) {
				best = c
			}
		}
		if best == nil {
			continue // the two do not go together
		}
		cases = append(cases, best)
		for i, x := range dims {
			for _, y := range dims[i+1:] {
				delete(open, pair{half{x.name, best[x.name]}, half{y.name, best[y.name]}})
			}
		}
	}
	return cases
}

func TestAllPairs(t *testing.T) {
	dims := []dimension{{"a", []string{"1", "2", "3"}}, {"b", []string{"x", "y"}}, {"c", []string{"p", "q"}}}
	cases := allPairs(t, dims, func(c matrixCase) bool { return c["a"] != "3" || c["b"] != "y" })
	if len(cases) > 8 {
		t.Errorf("%d cases for 15 pairs", len(cases))
	}
	for _, want := range []matrixCase{{"a": "1", "b": "y"}, {"a": "3", "c": "q"}, {"b": "y", "c": "p"}, {"a": "2", "b": "x"}} {
		found := false
		for _, c := range cases {
			meets := true
			for k, v := range want {
				meets = meets && c[k] == v
			}
			found = found || meets
		}
		if !found {
			t.Errorf("%v never meet in %v", want, cases)
		}
	}
}
