package test

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"strings"
	"testing"

	"github.com/ipsecfw/ipsecfw/ipsec/ike"
)

// Post-quantum preshared keys with strongSwan: RFC 8784 section 3.
func TestPPK(t *testing.T) {
	p := newTunnelPeer(t)
	key, other := bytes.Repeat([]byte{0x5a}, 32), bytes.Repeat([]byte{0xa5}, 32)
	p.d.write(t, "ppk", key)
	ours := func(required bool) string { return fmt.Sprintf("ppk: {id: winter, file: ppk, required: %v}", required) }
	const silent = "silent"
	theirs := func(id string, required bool) []string {
		return []string{"ppk_id = " + id, "ppk_required = " + map[bool]string{true: "yes", false: "no"}[required]}
	}
	for _, tt := range []struct {
		name, ours string
		theirs     []string
		key        []byte // strongSwan's
		used       bool
		fails      [2]string // as the initiator and as the responder: the cause and the side
		say        string
	}{
		{name: "at both ends", ours: ours(true), theirs: theirs("winter", true), key: key, used: true},
		{name: "at both ends, not required", ours: ours(false), theirs: theirs("winter", false), key: key, used: true},
		{name: "strongSwan has none", ours: ours(false)},
		{name: "ipsecfw has none", theirs: theirs("winter", false), key: key},
		{name: "strongSwan has none, and ipsecfw requires one", ours: ours(true), fails: [2]string{"ppk peer", "ppk either"}, say: "(key-exchange: ppk)"},
		{name: "ipsecfw has none, and strongSwan requires one", theirs: theirs("winter", true), key: key, fails: [2]string{"refused-by-peer peer", silent}},
		{name: "strongSwan has another", ours: ours(false), theirs: theirs("summer", false), key: key, fails: [2]string{"refused-by-peer peer"}, say: `the same "ppk"`},
		{name: "the same name, and another key", ours: ours(true), theirs: theirs("winter", true), key: other, fails: [2]string{"refused-by-peer peer", "key-mismatch either"}, say: `the same "ppk"`},
	} {
		for i, initiator := range []bool{true, false} {
			t.Run(tt.name+"/"+role(initiator), func(t *testing.T) {
				defer p.end(t)
				p.c.ppks = nil
				if tt.key != nil {
					id := strings.TrimPrefix(tt.theirs[0], "ppk_id = ")
					p.c.ppks = []ppk{{id, "0x" + hex.EncodeToString(tt.key)}}
				}
				p.c.connect(t, p.connection(tt.theirs...))
				p.d.apply(t, p.policy(withPSK, tt.ours))
				switch cause, side, _ := strings.Cut(tt.fails[i], " "); cause {
				case "":
				case silent: // strongSwan goes no further, and nothing failed here
					if out, err := p.begin(initiator); err == nil || len(p.d.ikeSAs(t)) > 0 {
						t.Errorf("there is an IKE SA:\n%s", out)
					}
					return
				default:
					if why := p.fails(t, initiator, ike.Cause(cause), side); !strings.Contains(why.Change.String(), tt.say) {
						t.Errorf("%q is missing in\n%s", tt.say, why)
					}
					return
				}
				want, warnings := "", []string(nil)
				switch {
				case tt.used:
					want = "winter"
				case tt.ours != "":
					warnings = []string{"no ppk in common with the peer"}
				}
				p.works(t, initiator, warnings...)
				if list := p.d.ikeSAs(t); len(list) != 1 || list[0].PPK != want {
					t.Errorf("the IKE SAs are %+v; want one with the PPK %q", list, want)
				}
				out, err := p.c.swanctl("--list-sas")
				must(t, err)
				if theirs := strings.Contains(out, "/PPK"); theirs != tt.used {
					t.Errorf("strongSwan uses a PPK: %v; want %v:\n%s", theirs, tt.used, out)
				}
			})
		}
	}
}

// IKE SAs that begin without a Child SA: RFC 6023.
func TestChildless(t *testing.T) {
	p := newTunnelPeer(t)
	for _, tt := range []struct {
		name, ours, theirs string
		initiator          bool
		childless          bool
	}{
		{"strongSwan allows it", "childless: true", "allow", true, true},
		{"strongSwan knows nothing else", "childless: true", "force", true, true},
		{"strongSwan never does", "childless: true", "never", true, false},
		{"ipsecfw does not begin so", "", "allow", true, false},
		{"strongSwan begins so", "", "force", false, true},
		{"strongSwan does not begin so", "", "never", false, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			defer p.end(t)
			p.c.connect(t, p.connection("childless = "+tt.theirs))
			p.d.apply(t, p.policy(withPSK, tt.ours))
			p.works(t, tt.initiator)
			log := p.c.log(t)
			if childless := strings.Contains(log, "CREATE_CHILD_SA request"); childless != tt.childless {
				t.Errorf("the Child SA has an exchange of its own: %v, want %v", childless, tt.childless)
			}
			for line := range strings.Lines(log) {
				if strings.Contains(line, "IKE_AUTH re") && strings.Contains(line, " TSi ") == tt.childless {
					t.Errorf("strongSwan logs %s", line)
				}
			}
		})
	}
	t.Run("strongSwan knows nothing else, ipsecfw does not begin so", func(t *testing.T) {
		defer p.end(t)
		p.c.connect(t, p.connection("childless = force"))
		p.d.apply(t, p.policy(withPSK, ""))
		p.fails(t, true, ike.CauseRefused, "peer")
	})
}
