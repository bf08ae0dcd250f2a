package ikev2

import (
	"bytes"
	"errors"
	"fmt"
	"slices"

	"github.com/ipsecfw/ipsecfw/ipsec/ike"
	"github.com/ipsecfw/ipsecfw/ipsec/ike/wire"
	"github.com/ipsecfw/ipsecfw/ipsec/xform"
)

// ppkFixed is the type of a PPK_ID that names a key which both ends were
// configured with (RFC 8784 section 5.1).
const ppkFixed = 2

// ppkID returns the data of PPK_IDENTITY for a key.
func ppkID(k ike.PPK) []byte { return append([]byte{ppkFixed}, k.ID...) }

// What to change where the PPKs of both ends do not fit, at either end and at
// the peer.
const (
	hintPPKKey  = `give both ends the same "ppk", by its id and what its file holds, or let none be "required"`
	hintPPKPeer = `give the peer the "ppk" of this host, or do not let it be "required" here`
)

// mixed returns the keys that depend on a post-quantum preshared key too
// (RFC 8784 section 3):
//
//	SK_d  = prf+ (PPK, SK_d')
//	SK_pi = prf+ (PPK, SK_pi')
//	SK_pr = prf+ (PPK, SK_pr')
func (k *ikeKeys) mixed(prf xform.PRF, ppk ike.PPK) *ikeKeys {
	mix := func(sk []byte) []byte { return prf.Plus(ppk.Secret, sk, len(sk)) }
	return &ikeKeys{d: mix(k.d), pi: mix(k.pi), pr: mix(k.pr)}
}

// withPPK holds the keys of an IKE SA with a post-quantum preshared key, for
// as long as the other end may do without it.
type withPPK struct {
	id   string
	keys *ikeKeys // nil without a PPK
}

func (w *withPPK) wipe() {
	if w.keys != nil {
		w.keys.wipe()
	}
	*w = withPPK{}
}

// settlePPK makes the keys with or without the PPK those of the IKE SA, now
// that both ends know which.
func (s *SA) settlePPK(used bool) {
	w := &s.start.ppk
	if used {
		s.cur.keys.wipe()
		s.cur.keys = *w.keys
		s.peer.PPK = w.id
		*w = withPPK{}
		return
	}
	w.wipe()
}

// offerPPK decides what an initiator does that has the peer's IKE_SA_INIT: it
// uses a PPK, or goes without if it may.
func (s *SA) offerPPK(peerUses bool) (use bool, err error) {
	p := &s.cfg.Policy
	use = peerUses && len(p.PPKs) > 0
	if !use && p.PPKRequired {
		err = fmt.Errorf("%w: the rule requires one, and the peer uses none with us", ike.ErrPPK)
	}
	return use, err
}

// acceptPPK is the responder's decision when IKE_AUTH comes, the whole of the
// table in RFC 8784 section 3. It returns the AUTH payload to verify, and
// leaves the keys with the PPK in s.start.ppk if it is to be used.
func (s *SA) acceptPPK(ps []wire.Payload) (*wire.Auth, error) {
	p, st := &s.cfg.Policy, s.start
	auth, ok := wire.Find[*wire.Auth](ps)
	if !ok {
		return nil, errNoAuth
	}
	if !st.usePPK {
		switch {
		case p.PPKRequired && len(p.PPKs) == 0:
			return nil, errPPKMissing
		case p.PPKRequired:
			return nil, fmt.Errorf("%w: the rule requires one, and the peer uses none", ike.ErrPPK)
		}
		return auth, nil
	}
	id, named := wire.FindNotify(ps, wire.PPKIdentity)
	if !named {
		return nil, fmt.Errorf("%w: the peer said that it uses one, and does not say which", ike.ErrPPK)
	}
	for _, k := range p.PPKs {
		if bytes.Equal(id.Data, ppkID(k)) {
			st.ppk = withPPK{k.ID, s.cur.keys.mixed(s.cur.prf, k)}
			return auth, nil
		}
	}
	why := fmt.Errorf("%w: the peer's is %s, which this host does not have", ike.ErrPPK, ppkName(id.Data))
	plain, ok := wire.FindNotify(ps, wire.NoPPKAuth)
	switch {
	case p.PPKRequired:
		return nil, fmt.Errorf("%w, and the rule requires one", why)
	case !ok:
		return nil, fmt.Errorf("%w, and the peer requires it", why)
	case auth.Method == wire.AuthNull:
		return nil, fmt.Errorf("%w, and %w", why, errPPKProof)
	}
	return &wire.Auth{Method: auth.Method, Data: plain.Data}, nil
}

// errPPKMissing is a policy that nobody can meet.
var errPPKMissing = fmt.Errorf("%w: the rule requires one and has none", ike.ErrPPK)

// errPPKProof says why an end that announces PPKs and proves nothing else may
// not go without one (RFC 8784 section 5.2.3).
var errPPKProof = errors.New("without a PPK nothing would prove who it is")

// provable leaves out NULL authentication for an initiator that announced PPKs
// to a peer that uses none.
func provable(methods []ike.AuthMethod) []ike.AuthMethod {
	return slices.DeleteFunc(slices.Clone(methods), isNull)
}

func isNull(m ike.AuthMethod) bool {
	_, null := m.(ike.Null)
	return null
}

var errNoAuth = errors.New("the peer sent no AUTH payload: EAP is not supported")

// ppkName writes a peer's PPK_ID for people.
func ppkName(data []byte) string {
	if len(data) == 0 || data[0] != ppkFixed {
		return fmt.Sprintf("%x", data)
	}
	return fmt.Sprintf("%q", data[1:])
}
