package rules

import "testing"

func TestNearest(t *testing.T) {
	known := []string{"from", "to", "protocol", "from-port", "to-port", "mirrored"}
	for _, tt := range []struct{ word, want string }{
		{"form", "from"}, {"fro", "from"}, {"FROM", "from"}, {"froom", "from"}, {"tp-port", "to-port"}, {"toport", "to-port"},
		{"protcol", "protocol"}, {"mirored", "mirrored"}, {"too", "to"}, {"t", ""}, {"x", ""}, {"", ""}, {"source", ""}, {"port", ""},
		{"a very long word that is like none of them", ""},
	} {
		if got := nearest(tt.word, known); got != tt.want {
			t.Errorf("nearest(%q) = %q, want %q", tt.word, got, tt.want)
		}
	}
}

func TestDistance(t *testing.T) {
	for _, tt := range []struct {
		a, b string
		want int
	}{
		{"", "", 0}, {"abc", "abc", 0}, {"abc", "acb", 1}, {"abc", "ab", 1}, {"abc", "abcd", 1}, {"abc", "abd", 1},
		{"abc", "bca", 2}, {"ca", "abc", 3}, {"kitten", "sitting", 3},
	} {
		if got := distance(tt.a, tt.b); got != tt.want {
			t.Errorf("distance(%q, %q) = %d, want %d", tt.a, tt.b, got, tt.want)
		}
		if got := distance(tt.b, tt.a); got != tt.want {
			t.Errorf("distance(%q, %q) = %d, want %d", tt.b, tt.a, got, tt.want)
		}
	}
}
