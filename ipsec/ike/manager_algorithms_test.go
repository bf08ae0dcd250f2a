package ike_test

import (
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"github.com/ipsecfw/ipsecfw/ipsec"
	"github.com/ipsecfw/ipsecfw/ipsec/ike"
	"github.com/ipsecfw/ipsecfw/ipsec/ike/iketest"
)

// otherAlgorithms are rules with other proposals for IKE.
type otherAlgorithms struct {
	rules
	proposals []ipsec.Proposal
}

func (o otherAlgorithms) Peer(local, remote netip.Addr) (ike.Policy, bool) {
	p, ok := o.rules.Peer(local, remote)
	p.Proposals = o.proposals
	return p, ok
}

// An IKE SA ends when a policy comes into force that would not have chosen its
// algorithms, and lives on when one comes that would have.
func TestManagerSetPoliciesAlgorithms(t *testing.T) {
	def, _, _ := ike.Suite("default")
	cnsa, _, _ := ike.Suite("cnsa2")
	for _, tt := range []struct {
		name      string
		proposals []ipsec.Proposal
		lives     bool
	}{
		{"the same", classical, true},
		{"more", append(append([]ipsec.Proposal{}, def...), classical...), true},
		{"none of the old ones", cnsa, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				net := iketest.NewNetwork(1, iketest.Faults{Delay: 10 * time.Millisecond})
				a, b := start(t, net, addrA, psk(addrB)), start(t, net, addrB, psk(addrA))
				a.acquire(addrB, "all")
				pass(time.Second)
				a.SetPolicies(otherAlgorithms{psk(addrB), tt.proposals})
				pass(time.Second)
				if lives := shared(a, b) == 1; lives != tt.lives || lives != (len(a.Peers()) == 1) {
					t.Errorf("%d Child SAs and %d IKE SAs live on, want %v", shared(a, b), len(a.Peers()), tt.lives)
				}
			})
		})
	}
}
