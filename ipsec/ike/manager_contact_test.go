package ike

import (
	"net/netip"
	"testing"
)

func TestFirstContact(t *testing.T) {
	local, remote := netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("192.0.2.2")
	for _, tt := range []struct {
		name  string
		other func(*entry) // what there is besides; nil for nothing
		want  bool
	}{
		{"nothing else", nil, true},
		{"another that has said nothing yet", func(*entry) {}, true},
		{"another is established", func(o *entry) { o.established = true }, false},
		{"another has told the peer who we are", func(o *entry) { o.introduced = true }, false},
		{"the peer is about to begin", func(o *entry) { o.init = initKey{netip.AddrPortFrom(remote, 500), 7} }, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			m := NewManager(ManagerConfig{})
			if tt.other != nil {
				tt.other(m.newEntry(local, remote, Policy{}))
			}
			if got := m.firstContact(m.newEntry(local, remote, Policy{})); got != tt.want {
				t.Errorf("first contact: %v, want %v", got, tt.want)
			}
		})
	}
}
