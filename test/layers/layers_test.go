// Package layers keeps the architecture: it has a test that says which
// package may import what.
package layers

import (
	"go/build"
	"path"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/ipsecfw/ipsecfw/"

// effects are the packages of the standard library by which code reaches the
// world, or takes time and randomness from it.
var effects = []string{
	"crypto/rand", "log", "log/slog", "math/rand", "math/rand/v2", "net", "net/http",
	"os", "os/exec", "os/signal", "plugin", "runtime", "sync", "sync/atomic", "syscall", "time", "unsafe",
}

func TestLayers(t *testing.T) {
	tests := []struct {
		dir     string
		imports string // what it may import of this module
		modules string // and of others
		effects string // and of the effects
	}{
		{"filter/packet", "", "", ""},
		{"filter", "filter/packet", "", "sync"},
		{"filter/space", "filter filter/packet", "", "runtime sync sync/atomic"},
		{"rules", "filter filter/packet ipsec ipsec/ike", "github.com/goccy/go-yaml", "time"},
		{"ipsec", "filter", "", ""},
		{"ipsec/xform", "ipsec", "golang.org/x/crypto github.com/ProtonMail/go-crypto github.com/cloudflare/circl", "sync"},
		{"ipsec/protect", "ipsec", "", "sync sync/atomic"},
		{"ipsec/esp", "ipsec ipsec/protect ipsec/xform", "", "sync"},
		{"ipsec/ah", "ipsec ipsec/protect ipsec/xform", "", "sync"},
		{"ipsec/ike/wire", "ipsec", "", ""},
		{"ipsec/pki", "", "golang.org/x/crypto", "sync time"},
		{"ipsec/ike", "ipsec ipsec/ike/wire ipsec/pki ipsec/xform", "", "crypto/rand log/slog sync time"},
		{"ipsec/ike/ikev2", "ipsec ipsec/ike ipsec/ike/wire ipsec/xform", "", "time"},

		{"cmd/ipsecfw/internal/credentials", "ipsec/ike ipsec/pki rules", "software.sslmate.com/src/go-pkcs12", "time"},
		{"cmd/ipsecfw/internal/verify", "filter filter/packet filter/space ipsec rules", "", "sync"},
		{"cmd/ipsecfw/internal/explain", "filter filter/packet ipsec rules", "", ""},
		{"cmd/ipsecfw/internal/doctor", "", "", "time"},

		// Edges: what they may know of us.
		{"cmd/ipsecfw/internal/examine", "cmd/ipsecfw/internal/daemon cmd/ipsecfw/internal/doctor filter filter/nft filter/nft/foreign", "github.com/vishvananda/netlink golang.org/x/sys", "net os time"},
		{"cmd/ipsecfw/internal/conntrack", "filter filter/packet", "github.com/vishvananda/netlink golang.org/x/sys", ""},
		{"cmd/ipsecfw/internal/surroundings", "", "github.com/vishvananda/netlink golang.org/x/net golang.org/x/sys", "crypto/rand log/slog net os sync time"},
		{"filter/nft", "filter", "github.com/google/nftables github.com/mdlayher/netlink golang.org/x/sys", "os time"},
		{"filter/nft/foreign", "filter filter/packet", "github.com/google/nftables github.com/mdlayher/netlink golang.org/x/sys", "time"},
		{"ipsec/ipsock", "", "golang.org/x/net golang.org/x/sys", "net sync syscall"},
		{"ipsec/pki/fetch", "ipsec/pki", "", "net net/http sync syscall time"},
		{"ipsec/ike/udp", "ipsec/ipsock", "golang.org/x/sys", "sync"},
		{"nfq", "filter filter/packet ipsec", "github.com/florianl/go-nfqueue github.com/vishvananda/netlink golang.org/x/sys", "log/slog net os sync sync/atomic time"},
	}
	for _, tt := range tests {
		t.Run(tt.dir, func(t *testing.T) {
			pkg, err := build.ImportDir(path.Join("../..", tt.dir), 0)
			if err != nil {
				t.Fatal(err)
			}
			for _, p := range pkg.Imports {
				ours, isOurs := strings.CutPrefix(p, module)
				first, _, _ := strings.Cut(p, "/")
				switch {
				case isOurs:
					if !slices.Contains(strings.Fields(tt.imports), ours) {
						t.Errorf("imports %s, which is not below it", ours)
					}
				case strings.Contains(first, "."):
					if !slices.ContainsFunc(strings.Fields(tt.modules), func(m string) bool { return strings.HasPrefix(p+"/", m+"/") }) {
						t.Errorf("imports %s", p)
					}
				case slices.Contains(effects, p) && !slices.Contains(strings.Fields(tt.effects), p):
					t.Errorf("imports %s: it is to be pure", p)
				}
			}
		})
	}
}
