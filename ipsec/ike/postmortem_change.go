package ike

import (
	"fmt"
	"maps"
	"slices"
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
	CauseSelectors:         "filter-lists",
	CauseMode:              settingMode,
	CauseIdentity:          "rules: peer-id",
	CauseUnknownAuthority:  "authentication: certificate: authority",
	CauseRevocationUnknown: "authentication: certificate: revocation",
	CauseCertificate:       "authentication: certificate",
	CauseKeyMismatch:       "authentication",
	CauseRefusedByPeer:     "authentication",
	CauseAuthMethod:        "authentication",
	CausePPK:               "key-exchange: ppk",
	CauseNoRule:            "rules",
	CauseFull:              "key-exchange: children",
	CauseNoAnswerLarge:     settingFragmentation,
}

// Settings that more than the cause decides on.
const (
	settingSuite         = "key-exchange: suite"
	settingFragmentation = "key-exchange: fragmentation: true"
	settingMode          = "filter-actions: …: negotiate: mode"
	settingMethods       = "filter-actions: …: negotiate: methods"
	settingPFS           = "filter-actions: …: negotiate: pfs"
	settingESN           = "filter-actions: …: negotiate: esn"
	settingRawKeys       = "authentication: raw-key: peers"
	settingCRL           = "authentication: certificate: crl"
)

// Settings returns all settings of the rule file that a Change may name. Keys
// stand after those in which they lie, with a colon between; "…" is for any
// name. Those of a rule begin with "rules", or with a key of it.
func Settings() []string {
	out := slices.Collect(maps.Values(settings))
	out = append(out, settingSuite, settingMethods, settingPFS, settingESN, settingRawKeys, settingCRL,
		"peers: …", "peers: …: except", "peers: …: fingerprints")
	slices.Sort(out)
	return slices.Compact(out)
}

// childSteps are the exchanges that are about Child SAs alone.
const childStep = "CREATE_CHILD_SA"

// change says what is to be done about a failure: what the machine says, which
// was there, or else what the cause alone tells.
func change(p *PostMortem, n *NegotiationError) Change {
	c := Change{Side: sideEither, Setting: settings[p.Cause]}
	switch {
	case p.setting != "":
		c.Setting = p.setting
	case p.Cause == CauseNoProposal && p.suites != [2]string{}:
		c.Setting = settingSuite
	case p.Cause == CauseNoProposal && p.aboutChild():
		c.Setting = p.childSetting()
	case p.lostOnTheWay():
		c.Setting = settingFragmentation
	case p.largeInit():
		c.Setting = settings[CauseNoProposal]
	}
	c.Side, c.Text = advice(p)
	if n != nil && n.Hint != "" && c.Setting != settingSuite {
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

// forChild reports whether a failure was about a Child SA, and the IKE SA
// might stand all the same.
func (p *PostMortem) forChild() bool {
	switch p.Cause {
	case CauseSelectors, CauseMode, CauseFull, CausePolicyChanged:
		return true
	case CauseNoProposal:
		return p.aboutChild()
	}
	return p.Step == childStep
}

// childSetting is the one by which proposals for Child SAs are mended.
func (p *PostMortem) childSetting() string {
	if len(p.Differences) > 0 {
		switch t := p.Differences[0].Types[0].Type; {
		case t == "esn":
			return settingESN
		case strings.Contains(t, "key-exchange"):
			return settingPFS
		}
	}
	return settingMethods
}

// lostOnTheWay reports whether a peer that began went silent where messages
// grow large.
func (p *PostMortem) lostOnTheWay() bool {
	return p.Cause == CauseNoAnswer && !p.Initiator && p.Step == authStep
}

// largeInit reports whether a silence, or an ICMP error, may be about the size of
// this host's first message, which goes in one piece however large it is: both
// ends learn in its answer whether they may cut messages (RFC 7383 section 2.3).
func (p *PostMortem) largeInit() bool {
	r := p.Evidence.Request
	return (p.Cause == CauseNoAnswer || p.Cause == CauseUnreachable && p.Evidence.Failure == "") &&
		r != nil && r.Exchange == initStep && r.Bytes > large
}

// initStep is the exchange that no end can cut.
const initStep = "IKE_SA_INIT"

// authStep is the exchange of which a responder waits for the request.
const authStep = "IKE_AUTH"

// cutting is how to have large messages arrive.
func (p *PostMortem) cutting() (side, text string) {
	if p.whole {
		return sideThis, "cut messages (IKE fragmentation), which is off here; or let IP fragments and large UDP packets pass on the way"
	}
	return sideEither, "let IP fragments and large UDP packets pass on the way, or have both ends cut messages (IKE fragmentation)"
}

// startThere is for a peer of which nothing is heard.
const startThere = "start IKE there, and let UDP 500 and 4500 in on the way"

// shrinking is how to have a large first message arrive, if the peer is there.
func (p *PostMortem) shrinking() (side, text string) {
	text = fmt.Sprintf("offer fewer proposals and smaller groups, or let IP fragments pass: %s of %d bytes may be larger than the path, and IKE cannot cut it (RFC 7383)", initStep, p.Evidence.Request.Bytes)
	if !p.Evidence.Answered {
		text = startThere + "; or " + text
	}
	return sideEither, text
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
		switch p.setting {
		case "", settings[CauseIdentity]:
		default:
			if strings.HasSuffix(p.setting, ": except") {
				return sideThis, "take the peer off the exceptions, if it may have the SA after all"
			}
			return sideThis, "list what the error says of the peer, if it may have the SA"
		}
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
		if p.setting == settingCRL {
			return sideThis, "put the authority's CRL into a file, as the certificate does not say where it is; or ask for less than strict"
		}
		return sideThis, "let this host reach the authority's CRL or OCSP responder, or ask for less than strict"
	case CauseCertificate:
		return sidePeer, "get a certificate that is fit for IKE"
	case CauseKeyMismatch:
		if p.setting == settingRawKeys {
			return sideThis, "put the peer's public key into the file, if the fingerprint that the error names is that of its key"
		}
		return sideEither, "give both ends the same preshared key, or certificates of authorities that the other trusts"
	case CauseRefusedByPeer:
		return sidePeer, `see "ipsecfw why" there: compare its peer-id with the own-id of this host, the keys, and the authorities that it believes`
	case CauseAuthMethod:
		return sideEither, "make both ends accept one way to authenticate"
	case CausePPK:
		return sideEither, "give both ends the same post-quantum preshared key by the same name"
	case CauseUnreachable:
		if p.Evidence.Failure != "" {
			return sideThis, "see to the route to the peer and to other firewalls, as messages do not leave"
		}
		if p.largeInit() {
			return p.shrinking()
		}
		return sidePeer, startThere
	case CauseNoAnswer:
		if p.lostOnTheWay() {
			side, text := p.cutting()
			return side, "the peer began and sent nothing more that arrived, as when large messages, with certificates, get lost: " + text
		}
		if p.largeInit() {
			return p.shrinking()
		}
		if p.Evidence.Answered {
			return sideEither, "see whether the peer still runs, and what its log says"
		}
		return sidePeer, startThere
	case CauseNoAnswerLarge:
		return p.cutting()
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
	switch ours, theirs := p.suites[0], p.suites[1]; {
	case ours != "" && theirs != "":
		return sideEither, fmt.Sprintf("give both ends the same suite: this host has %s, the peer %s", ours, theirs)
	case ours != "":
		return sideEither, fmt.Sprintf("give both ends the same suite: this host has %s", ours)
	}
	if len(p.Differences) == 0 {
		return sidePeer, "accept one of what this host offers; what the peer would take stands in its log"
	}
	var parts []string
	for _, t := range p.Differences[0].Types {
		parts = append(parts, fmt.Sprintf("%s %s", t.Type, strings.Join(t.Ours, " or ")))
	}
	return sidePeer, clip("offer, with the rest of it, " + strings.Join(parts, ", and ") + "; or accept here what the peer offers")
}
