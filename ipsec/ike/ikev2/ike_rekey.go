package ikev2

import (
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"github.com/ipsecfw/ipsecfw/ipsec"
	"github.com/ipsecfw/ipsecfw/ipsec/ike"
	"github.com/ipsecfw/ipsecfw/ipsec/ike/wire"
	"github.com/ipsecfw/ipsecfw/ipsec/xform"
)

// rekeyIKE is our CREATE_CHILD_SA for a new IKE SA, which inherits the Child
// SAs (RFC 7296 sections 1.3.2 and 2.18). If both ends begin at once, each
// refuses the other for the moment (section 2.25.2), and one of them is the
// first to try again.
type rekeyIKE struct {
	of      *session // to be replaced
	spi     uint64
	group   uint16 // 0 for the group that is in use
	offered []ipsec.Proposal
	key     xform.PrivateKey
	ni      []byte
	tries   int
}

func (*rekeyIKE) schedule() ike.Schedule { return ike.Patient }

// HDR, SK {SA, Ni, KEi} -->
func (t *rekeyIKE) begin(s *SA) (wire.ExchangeType, []wire.Payload, bool, error) {
	if s.state != Established || t.of != s.cur {
		return 0, nil, false, nil // the peer was faster
	}
	t.tries++
	t.spi = s.cfg.NewIKESPI()
	t.offered = ike.Offer(s.cfg.Policy.Proposals, binary.BigEndian.AppendUint64(nil, t.spi))
	if t.group == 0 {
		g, _ := s.cur.proposal.First(ipsec.TypeGroup)
		t.group = g.ID
	}
	var err error
	if t.ni, err = s.random(nonceLen); err != nil {
		return 0, nil, false, err
	}
	if t.key, err = xform.GenerateKey(t.group, s.cfg.Rand); err != nil {
		return 0, nil, false, err
	}
	return wire.CreateChildSA, []wire.Payload{
		&wire.SA{Proposals: t.offered},
		&wire.Nonce{Data: t.ni},
		&wire.KE{Group: t.group, Data: t.key.Public()},
	}, true, nil
}

// <-- HDR, SK {SA, Nr, KEr}
func (t *rekeyIKE) end(s *SA, ses *session, ps []wire.Payload) {
	if n, ok := firstError(ps); ok && t.tries < maxTries {
		switch {
		case n.Kind == wire.TemporaryFailure:
			s.enqueueLater(t)
			return
		case n.Kind == wire.InvalidKEPayload && len(n.Data) == 2:
			if g := binary.BigEndian.Uint16(n.Data); g != t.group && offersGroup(t.offered, g) {
				t.group = g
				s.enqueue(t)
				return
			}
		}
	}
	fresh, err := t.complete(s, ses, ps)
	if err != nil {
		s.renew = s.now.Add(rekeyAgain)
		s.emit(ike.Failed{Why: &ike.NegotiationError{
			Step: "rekeying of the IKE SA", Peer: s.remote.String(), Err: err, Offered: ike.Proposals(t.offered),
		}})
		return
	}
	s.replace(ses, fresh)
	if err := s.request(ses, wire.Informational, []wire.Payload{&wire.Delete{Protocol: ipsec.ProtoIKE}}, &deleteIKE{}); err != nil {
		s.dropOld()
	}
}

func (t *rekeyIKE) complete(s *SA, ses *session, ps []wire.Payload) (*session, error) {
	if n, ok := firstError(ps); ok {
		return nil, fmt.Errorf("%w: %s", ike.ErrRefused, n.Kind)
	}
	sa, ke, nr, err := initPayloads(ps)
	if err != nil {
		return nil, err
	}
	chosen, err := ike.CheckChoice(t.offered, sa.Proposals)
	if err != nil {
		return nil, err
	}
	g, _ := chosen.First(ipsec.TypeGroup)
	if ke.Group != g.ID || ke.Group != t.group || len(chosen.SPI) != 8 {
		return nil, fmt.Errorf("%w: the answer's key exchange or SPI does not fit", ike.ErrNoProposal)
	}
	if err := errors.Join(checkNonce(nr.Data, chosen), checkNonce(nr.Data, ses.proposal)); err != nil {
		return nil, err
	}
	fresh := &session{initiator: true, spiI: t.spi, spiR: binary.BigEndian.Uint64(chosen.SPI), proposal: chosen}
	return fresh, fresh.inherit(ses, t.key, ke.Data, t.ni, nr.Data, s)
}

// inherit derives the keys of a session that replaces another.
func (ses *session) inherit(from *session, key xform.PrivateKey, peer, ni, nr []byte, s *SA) error {
	if ses.spiI == 0 || ses.spiR == 0 {
		return fmt.Errorf("%w: the new IKE SA's SPI is zero", ike.ErrRefused)
	}
	ses.proposal.SPI = nil
	prf, _ := ses.proposal.First(ipsec.TypePRF)
	var err error
	if ses.prf, err = xform.NewPRF(prf.ID); err != nil {
		return err
	}
	shared, err := key.Shared(peer)
	if err != nil {
		return err
	}
	defer clear(shared)
	return ses.activate(rekeyedSeed(from.prf, from.keys.d, shared, ni, nr), ni, nr, s.cfg.Rand)
}

// oldTime is how long the peer may take to delete a session that it replaced.
const oldTime = 30 * time.Second

// replace puts a fresh session in the place of another, which stays to hear
// of its deletion.
func (s *SA) replace(ses, fresh *session) {
	s.old.wipe()
	s.old, s.cur = ses, fresh
	s.old.expire = s.now.Add(oldTime)
	s.scheduleRenewal()
	s.emit(ike.Changed{Peer: s.info()})
}

// answerRekeyIKE is the responder's side.
func (s *SA) answerRekeyIKE(ses *session, sa *wire.SA, ni *wire.Nonce, ps []wire.Payload) ([]wire.Payload, error) {
	refuse := func(n wire.NotifyType, data []byte) ([]wire.Payload, error) {
		return []wire.Payload{&wire.Notify{Kind: n, Data: data}}, nil
	}
	if ses.pending != nil {
		if _, harmless := ses.pending.task.(*liveness); !harmless {
			return refuse(wire.TemporaryFailure, nil)
		}
	}
	ke, ok := wire.Find[*wire.KE](ps)
	if !ok {
		return refuse(wire.InvalidSyntax, nil)
	}
	chosen, ok := ike.SelectProposal(s.cfg.Policy.Proposals, sa.Proposals, ke.Group)
	if !ok {
		return refuse(wire.NoProposalChosen, nil)
	}
	g, _ := chosen.First(ipsec.TypeGroup)
	if ke.Group != g.ID {
		return refuse(wire.InvalidKEPayload, binary.BigEndian.AppendUint16(nil, g.ID))
	}
	if len(chosen.SPI) != 8 || checkNonce(ni.Data, chosen) != nil {
		return refuse(wire.InvalidSyntax, nil)
	}
	nr, err := s.random(nonceLen)
	if err != nil {
		return nil, err
	}
	key, err := xform.GenerateKey(g.ID, s.cfg.Rand)
	if err != nil {
		return nil, err
	}
	fresh := &session{spiI: binary.BigEndian.Uint64(chosen.SPI), spiR: s.cfg.NewIKESPI(), proposal: chosen}
	if err := fresh.inherit(ses, key, ke.Data, ni.Data, nr, s); err != nil {
		return refuse(wire.InvalidSyntax, nil)
	}
	s.replace(ses, fresh)
	answer := chosen
	answer.SPI = binary.BigEndian.AppendUint64(nil, fresh.spiR)
	return []wire.Payload{
		&wire.SA{Proposals: []ipsec.Proposal{answer}},
		&wire.Nonce{Data: nr},
		&wire.KE{Group: g.ID, Data: key.Public()},
	}, nil
}
