package ike

import (
	"fmt"
	"strings"
)

// The sides as programs read them.
const (
	sideThis   = "this-host"
	sidePeer   = "peer"
	sideEither = "either"
)

func sideName(s Side) string { return [...]string{sideEither, sideThis, sidePeer}[min(s, PeerSide)] }

// settings are the keys of the rule file by which the causes are mended.
var settings = map[Cause]string{
	CauseNoProposal:        "key-exchange: proposals",
	CauseSelectors:         "filter-lists: from, to, protocol and ports",
	CauseMode:              "negotiate: mode",
	CauseIdentity:          "rules: peer-id, peers",
	CauseUnknownAuthority:  "authentication: certificate: authority",
	CauseRevocationUnknown: "authentication: certificate: revocation",
	CauseCertificate:       "authentication: certificate",
	CauseKeyMismatch:       "authentication",
	CauseAuthMethod:        "authentication",
	CausePPK:               "key-exchange: ppk",
	CauseNoRule:            "rules",
	CauseFull:              "key-exchange: children",
}

// childSteps are the exchanges that are about Child SAs alone.
const childStep = "CREATE_CHILD_SA"

// change says what is to be done about a failure: what the machine says, which
// was there, or else what the cause alone tells.
func change(p *PostMortem, n *NegotiationError) Change {
	c := Change{Side: sideEither, Setting: settings[p.Cause]}
	if p.Cause == CauseNoProposal && p.aboutChild() {
		c.Setting = "negotiate: methods, pfs, esn"
	}
	c.Side, c.Text = advice(p)
	if n != nil && n.Hint != "" {
		c.Side, c.Text = sideName(n.Side), clip(n.Hint)
	}
	return c
}

// aboutChild reports whether the proposals are for a Child SA.
func (p *PostMortem) aboutChild() bool {
	for _, o := range []*Stance{p.Ours, p.Theirs} {
		if o != nil && len(o.Proposals) > 0 {
			return !strings.HasPrefix(o.Proposals[0], "IKE:")
		}
	}
	return p.Step == childStep
}

// advice is what a cause alone, and the evidence, tell to do.
func advice(p *PostMortem) (side, text string) {
	switch p.Cause {
	case CauseNoProposal:
		return proposalAdvice(p)
	case CauseSelectors:
		return sideEither, "make the filters of both ends cover the same packets, each end's the other's mirrored"
	case CauseMode:
		return sideEither, "make both ends want the same mode, transport or tunnel"
	case CauseIdentity:
		if p.Identity != "" {
			return sideThis, fmt.Sprintf("name %s, if that is the peer", p.Identity)
		}
		return sideThis, "name the identity that the peer claims"
	case CauseExpired:
		return sidePeer, "renew the certificate; or set the clock of this host, if it is ahead"
	case CauseNotYetValid:
		return sideThis, "set the clock, which is behind; or let the peer's certificate be issued from now on"
	case CauseUnknownAuthority:
		return sideThis, "put the certificate of the authority that issued the peer's into the file; or let the peer send the certificates between"
	case CauseRevoked:
		return sidePeer, "get a new certificate: its authority has revoked this one"
	case CauseRevocationUnknown:
		return sideThis, "let this host reach the authority's CRL or OCSP responder, or ask for less than strict"
	case CauseCertificate:
		return sidePeer, "get a certificate that is fit for IKE"
	case CauseKeyMismatch:
		return sideEither, "give both ends the same preshared key, or certificates of authorities that the other trusts"
	case CauseAuthMethod:
		return sideEither, "make both ends accept one way to authenticate"
	case CausePPK:
		return sideEither, "give both ends the same post-quantum preshared key by the same name"
	case CauseUnreachable:
		if p.Evidence.Failure != "" {
			return sideThis, "see to the route to the peer and to other firewalls, as messages do not leave"
		}
		return sidePeer, "start IKE there, and let UDP 500 and 4500 in on the way"
	case CauseNoAnswer:
		if p.Evidence.Answered {
			return sideEither, "see whether the peer still runs, and what its log says"
		}
		return sidePeer, "start IKE there, and let UDP 500 and 4500 in on the way"
	case CauseNoAnswerLarge:
		return sideEither, "let IP fragments and large UDP packets pass on the way, or have both ends cut messages (IKE fragmentation)"
	case CauseNAT:
		return sidePeer, "let UDP 4500 in, to which both ends move because of the NAT; UDP 500 is open"
	case CauseRefused:
		return sidePeer, "see its log, as it does not say why"
	case CausePolicyChanged:
		return sideThis, "nothing: the next packet is negotiated for by the new rules"
	case CauseFull:
		return sidePeer, "allow more SAs of one IKE SA"
	case CauseBusy:
		return sideThis, "wait, or find out who makes this host begin so many negotiations"
	case CauseNoRule:
		return sideThis, "write a rule that negotiates with the peer's address"
	case CauseClosed:
		return sideEither, "nothing, if one of the ends was being stopped"
	}
	return sideThis, "see the log"
}

// proposalAdvice names the algorithms that are missing.
func proposalAdvice(p *PostMortem) (side, text string) {
	if len(p.Differences) == 0 {
		return sidePeer, "accept one of what this host offers; what the peer would take stands in its log"
	}
	var parts []string
	for _, t := range p.Differences[0].Types {
		parts = append(parts, fmt.Sprintf("%s %s", t.Type, strings.Join(t.Ours, " or ")))
	}
	return sidePeer, clip("offer, with the rest of it, " + strings.Join(parts, ", and ") + "; or accept here what the peer offers")
}
