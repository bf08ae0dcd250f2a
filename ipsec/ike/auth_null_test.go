package ike

import (
	"bytes"
	"errors"
	"testing"

	"github.com/ipsecfw/ipsecfw/ipsec/ike/wire"
)

func TestNull(t *testing.T) {
	both := Null{Ours: true, Theirs: true}
	for _, tt := range []struct {
		name   string
		to     []AuthMethod
		peerID string
		group  *PeerGroup
		change func(*Verifying)
		want   error
	}{
		{"nobody", []AuthMethod{both}, "", nil, nil, nil},
		{"on the peer's side alone", []AuthMethod{Null{Theirs: true}}, "", nil, nil, nil},
		{"after others", []AuthMethod{PresharedKey{Secret: []byte("secret")}, both}, "", nil, nil, nil},
		{"on our side alone", []AuthMethod{Null{Ours: true}}, "", nil, nil, ErrNoMethod},
		{"not listed", []AuthMethod{PresharedKey{Secret: []byte("secret")}}, "", nil, nil, ErrNoMethod},
		{"a name is wanted", []AuthMethod{both}, "h.example", nil, nil, ErrAuthentication},
		{"the name that is wanted", []AuthMethod{both}, "h.example", nil, func(v *Verifying) { v.ID = ParseID("h.example") }, ErrAuthentication},
		{"a group is wanted", []AuthMethod{both}, "", &PeerGroup{Names: []string{"h.example"}}, func(v *Verifying) { v.ID = ParseID("h.example") }, ErrAuthentication},
		{"another key exchange", []AuthMethod{both}, "", nil, func(v *Verifying) { v.SKp = bytes.Repeat([]byte{8}, 32) }, ErrWrongKey},
		{"no key exchange", []AuthMethod{both}, "", nil, func(v *Verifying) { v.SKp = nil }, ErrWrongKey},
		{"no contents", []AuthMethod{both}, "", nil, func(v *Verifying) { v.Auth.Data = nil }, ErrWrongKey},
	} {
		t.Run(tt.name, func(t *testing.T) {
			v := encounter{change: tt.change}.prove(t, both)
			p, err := Authenticate(t.Context(), tt.to, tt.peerID, tt.group, v)
			if tt.want != nil {
				if !errors.Is(err, tt.want) || !errors.Is(err, ErrAuthentication) {
					t.Errorf("%v, want %v", err, tt.want)
				}
				return
			}
			if err != nil || p.ID.Kind != wire.IDNull || p.How != "null: nobody proved anything" {
				t.Fatalf("%+v, %v", p, err)
			}
			if Entitled([]AuthMethod{both}, "", nil, p, authTime) != nil {
				t.Error("its own rule does not take it")
			}
			for name, m := range map[string]AuthMethod{"preshared key": PresharedKey{Secret: []byte("secret")}, "one side": Null{Ours: true}, "certificate": Certificate{}, "raw key": RawKey{}} {
				if Entitled([]AuthMethod{m}, "", nil, p, authTime) == nil {
					t.Errorf("a rule with a %s takes it", name)
				}
			}
		})
	}
}

// RFC 7619 section 2.1: the syntax is that of a preshared key, and the secret
// is SK_p. Section 2.2: the identity is of type 13 and has no data.
func TestNullAuth(t *testing.T) {
	v := encounter{}.prove(t, Null{Ours: true})
	prf := sha256PRF(t)
	if want := prf.Sum(prf.Sum(v.SKp, []byte("Key Pad for IKEv2")), v.Octets); v.Auth.Method != 13 || !bytes.Equal(v.Auth.Data, want) {
		t.Errorf("method %d, %x; want %x", v.Auth.Method, v.Auth.Data, want)
	}
	if v.ID.Kind != 13 || len(v.ID.Data) != 0 || len(v.Certs) != 0 {
		t.Errorf("identity %d with %d bytes, %d certificates", v.ID.Kind, len(v.ID.Data), len(v.Certs))
	}
	if _, err := (encounter{}).tryProve(t, Null{Theirs: true}); err == nil {
		t.Error("proves nothing though it must")
	}
}
