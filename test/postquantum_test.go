package test

import (
	"strings"
	"testing"
	"time"
)

// Between two hosts with ipsecfw the key exchange is post-quantum unless one of
// them has it not, and the wire shows it, in the numbers of the registry:
// transform type 6 is Additional Key Exchange 1 (RFC 9370), IDs 36 and 37 of it
// are ML-KEM-768 and ML-KEM-1024, notification 16438 is
// INTERMEDIATE_EXCHANGE_SUPPORTED and exchange 43 IKE_INTERMEDIATE (RFC 9242).
func TestPostQuantum(t *testing.T) {
	const (
		saInit, auth, intermediate = 34, 35, 43
		addKE1                     = 6
		mlkem768, mlkem1024        = 36, 37
		fragment                   = 53
	)
	s, w, ds, dw := secureHosts(t, "")
	for _, tt := range []struct {
		name                string
		server, workstation string // what they say of the key exchange
		ipv6                bool
		offered, chosen     uint16 // ML-KEM; 0 for none
		cut                 bool   // both messages of IKE_INTERMEDIATE are too large for a datagram
		proposal            string // how that chosen ends
	}{
		{"default", "", "", false, mlkem768, mlkem768, false, "-x25519-ke1_mlkem768"},
		{"default, IPv6", "", "", true, mlkem768, mlkem768, false, "-x25519-ke1_mlkem768"},
		{"cnsa2", "suite: cnsa2", "suite: cnsa2", false, mlkem1024, mlkem1024, true, "IKE:aes256gcm16-prfsha384-ecp384-ke1_mlkem1024"},
		{"cnsa2, IPv6", "suite: cnsa2", "suite: cnsa2", true, mlkem1024, mlkem1024, true, "IKE:aes256gcm16-prfsha384-ecp384-ke1_mlkem1024"},
		{"the responder has none", "suite: interop", "", false, mlkem768, 0, false, "-x25519"},
		{"the initiator has none", "", "suite: interop", false, 0, 0, false, "-ecp256"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			server, workstation := server4, workstation4
			if tt.ipv6 {
				server, workstation = server6, workstation6
			}
			ds.apply(t, hostPolicy("", workstation4, workstation6)+"key-exchange: {"+tt.server+"}\n")
			dw.apply(t, hostPolicy("", server4, server6)+"key-exchange: {"+tt.workstation+"}\n")
			ike, wire := watchIKE(t, s.gateway, "wks0"), s.between(t)
			must(t, ping(within(t, 10*time.Second), w, workstation, server, 3000))
			ike.end(t)
			wire.secret(t, 2*3000)
			onePair(t, ds, dw)
			for _, d := range []*daemon{ds, dw} {
				if list := d.ikeSAs(t); len(list) != 1 || !strings.HasSuffix(list[0].Proposal, tt.proposal) {
					t.Errorf("%s has the IKE SAs %+v, want one with %s", d.host.Name, list, tt.proposal)
				}
			}
			for _, m := range ike.messages(saInit) {
				want := tt.offered
				if m.response {
					want = tt.chosen
				}
				list := m.transforms()
				for _, id := range []uint16{mlkem768, mlkem1024} {
					if got := has(list, addKE1, id); got != (id == want) {
						t.Errorf("response %v: transform %d of type %d: %v", m.response, id, addKE1, got)
					}
				}
				if want != 0 && !m.notifies(16438) {
					t.Errorf("response %v: no INTERMEDIATE_EXCHANGE_SUPPORTED", m.response)
				}
			}
			datagrams := map[bool]int{} // by whether they are of the response
			for _, m := range ike.messages(intermediate) {
				datagrams[m.response]++
				if tt.cut && m.payload != fragment {
					t.Errorf("IKE_INTERMEDIATE begins with the payload %d", m.payload)
				}
			}
			least := 0
			switch {
			case tt.cut:
				least = 2
			case tt.chosen != 0:
				least = 1
			}
			if request, response := datagrams[false], datagrams[true]; request < least || response < least || least == 0 && request+response > 0 {
				t.Errorf("%d and %d datagrams of IKE_INTERMEDIATE", request, response)
			}
			if n := len(ike.messages(auth)); n != 2 {
				t.Errorf("%d messages of IKE_AUTH", n)
			}
			ds.untroubled(t)
			dw.untroubled(t)
			for _, d := range []*daemon{ds, dw} {
				_, err := d.run("unapply")
				must(t, err)
			}
		})
	}
}
