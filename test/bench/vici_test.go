package main

import "testing"

func TestViciValue(t *testing.T) {
	whole := viciMessage{
		{"list", []string{"up", "yes"}},
		{"section", viciMessage{{"up", "no"}, {"inner", viciMessage{{"up", "no"}}}}},
		{"up", "yes"},
	}.append(nil)
	for _, tt := range []struct {
		name    string
		content []byte
		want    string
	}{
		{"behind a list and a section that have it, too", whole, "yes"},
		{"only in a section", viciMessage{{"section", viciMessage{{"up", "no"}}}}.append(nil), ""},
		{"nothing", nil, ""},
		{"cut off", whole[:len(whole)-1], ""},
		{"no element", []byte{99}, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := viciValue(tt.content, "up"); got != tt.want {
				t.Errorf("%q, want %q", got, tt.want)
			}
		})
	}
}
