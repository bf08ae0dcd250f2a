package ikev2

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/ipsecfw/ipsecfw/ipsec"
	"github.com/ipsecfw/ipsecfw/ipsec/ike"
	"github.com/ipsecfw/ipsecfw/ipsec/ike/wire"
	"github.com/ipsecfw/ipsecfw/ipsec/xform"
)

// answerInit is the responder's side of IKE_SA_INIT. Whatever it refuses
// leaves no state behind: the SA closes, and the peer's next attempt finds a
// new one.
//
//	HDR, SAi1, KEi, Ni, N(NAT_DETECTION…), N(…_SUPPORTED)… -->
//	<-- HDR, SAr1, KEr, Nr, N(NAT_DETECTION…), N(…_SUPPORTED)…, [CERTREQ]
func (s *SA) answerInit(d ike.Datagram, h wire.Header, ps []wire.Payload) error {
	sa, ke, nonce, err := initPayloads(ps)
	if err != nil {
		return err
	}
	if c, bad := critical(ps); bad {
		s.refuseInit(d, h, &wire.Notify{Kind: wire.UnsupportedCriticalPayload, Data: []byte{byte(c.Kind)}})
		s.finish(fmt.Sprintf("%s is critical and unknown", c.Kind))
		return nil
	}
	wanted := s.cfg.Policy.Proposals
	if _, ok := wire.FindNotify(ps, wire.IntermediateSupported); !ok {
		wanted = ike.WithoutAdditional(wanted) // there is no exchange for them
	}
	chosen, ok := ike.SelectProposal(wanted, sa.Proposals, ke.Group)
	if !ok {
		s.refuseInit(d, h, &wire.Notify{Kind: wire.NoProposalChosen})
		s.die(&ike.NegotiationError{
			Step: wire.IKESAInit.String(), Peer: d.Remote.String(), Err: ike.ErrNoProposal,
			Ours: ike.Terms{Proposals: wanted}, Theirs: ike.Terms{Proposals: sa.Proposals},
		})
		return nil
	}
	g, _ := chosen.First(ipsec.TypeGroup)
	if ke.Group != g.ID {
		s.refuseInit(d, h, &wire.Notify{Kind: wire.InvalidKEPayload, Data: binary.BigEndian.AppendUint16(nil, g.ID)})
		s.finish("the peer has to begin again with " + g.String())
		return nil
	}
	if err := checkNonce(nonce.Data, chosen); err != nil {
		s.refuseInit(d, h, &wire.Notify{Kind: wire.InvalidSyntax})
		s.finish(err.Error())
		return nil
	}
	st := s.start
	st.forced = s.cfg.Policy.ForceUDP
	chosen.SPI = nil
	st.ni, st.request = bytes.Clone(nonce.Data), d.Data
	if st.nr, err = s.random(nonceLen); err != nil {
		return err
	}
	public, shared, err := xform.Answer(g.ID, ke.Data, s.cfg.Rand)
	if errors.Is(err, xform.ErrPublicValue) {
		// It is either a mistake or an attack.
		s.refuseInit(d, h, &wire.Notify{Kind: wire.InvalidSyntax})
		s.finish(err.Error())
		return nil
	}
	if err != nil {
		return err
	}
	defer clear(shared)
	ses := &session{spiI: h.SPIi, spiR: s.cfg.NewIKESPI(), proposal: chosen, theirs: inWindow{next: 1}}
	if err := ses.agree(shared, st.ni, st.nr, s); err != nil {
		return err
	}
	st.exchanges = additional(chosen)
	s.local, s.remote = d.Local, d.Remote
	s.noteExtensions(ps, ses)
	_, usesPPK := wire.FindNotify(ps, wire.UsePPK)
	st.usePPK = usesPPK && len(s.cfg.Policy.PPKs) > 0
	// The peer computed its hashes before it knew our SPI.
	s.noteNAT(ps, &session{spiI: h.SPIi}, d.Local, d.Remote)
	out := []wire.Payload{
		&wire.SA{Proposals: []ipsec.Proposal{chosen}},
		&wire.KE{Group: g.ID, Data: public},
		&wire.Nonce{Data: st.nr},
	}
	out = append(out, natNotifies(ses.spiI, ses.spiR, d.Local, d.Remote, st.forced)...)
	out = append(out, s.extensions(false, ps)...)
	out = append(out, ike.RequestCerts(s.cfg.Policy.Auth)...)
	answer := ses.header(wire.IKESAInit, 0, true)
	if st.response, err = wire.Encode(answer, out); err != nil {
		ses.wipe()
		return err
	}
	s.cur = ses
	s.until = s.now.Add(halfOpenTime)
	s.transition(InitAnswered)
	s.transmit(d.Local, d.Remote, inClear(answer, st.response), false)
	return nil
}

// refuseInit answers without an SPI of ours, as there will be no SA.
func (s *SA) refuseInit(d ike.Datagram, h wire.Header, n *wire.Notify) {
	answer := wire.Header{SPIi: h.SPIi, Version: wire.Version2, Exchange: wire.IKESAInit, Response: true}
	// A notification of this size can always be encoded.
	if data, err := wire.Encode(answer, []wire.Payload{n}); err == nil {
		s.transmit(d.Local, d.Remote, inClear(answer, data), false)
	}
}
