package nft

import (
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/ipsecfw/ipsecfw/filter"
)

// BootMode says what becomes of packets while there is no daemon yet. The zero
// value is invalid.
type BootMode uint8

// The boot modes.
const (
	BootPermit   BootMode = iota + 1 // they pass
	BootBlock                        // they do not
	BootStateful                     // those of connections that begin here do, others do not
)

// String returns the rule file's keyword.
func (m BootMode) String() string {
	switch m {
	case BootPermit:
		return "permit"
	case BootBlock:
		return "block"
	case BootStateful:
		return "stateful"
	}
	return "invalid boot mode"
}

// Ports of DHCP's servers and clients (RFC 2131 section 4.1, RFC 8415 section
// 7.2).
const (
	dhcpServer, dhcpClient   = 67, 68
	dhcp6Client, dhcp6Server = 546, 547
)

// CompileBoot returns the rules for the time before the daemon, which Apply
// replaces by those of Compile. First pass what the exemptions of s let pass
// and what a host asks of DHCP; then the filters of s, the persistent policy,
// decide, which may be nil; then passes what the exempt filters match, whatever
// their action; and what remains is for the mode. What is to be secured is
// dropped, and no IKE or ESP is let in: nobody would speak it. What the host
// forwards passes in the mode permit only, or when a filter lets it.
//
// The error says which of the exempt filters is not valid, or that the mode is
// not.
func CompileBoot(mode BootMode, exempt []filter.Entry, s *filter.SPD, cfg Config) (Ruleset, error) {
	if mode < BootPermit || mode > BootStateful {
		return Ruleset{}, fmt.Errorf("%s: use permit, block or stateful", mode)
	}
	permits := make([]filter.Entry, len(exempt))
	for i, e := range exempt {
		e.Action, e.Options = filter.Permit, filter.Options{Log: e.Options.Log}
		permits[i] = e
	}
	passing, err := filter.New(permits, filter.Settings{})
	if err != nil {
		return Ruleset{}, fmt.Errorf("boot exemption: %w", err)
	}
	if s == nil {
		if s, err = filter.New(nil, filter.Settings{}); err != nil {
			return Ruleset{}, err
		}
	}
	c := newCompiler(cfg, true)
	x := s.Settings().Exemptions
	judge := func(ch *chain, d filter.Direction, prefix string) {
		c.judge(ch, d, prefix, s.Groups(d))
		c.judge(ch, d, "boot_"+prefix, passing.Groups(d))
	}

	ingress := chain{name: "ingress", hook: &hook{"input", beforeFilter}}
	ingress.add(track())
	ingress.add(c.exempt(x, filter.Inbound)...)
	ingress.add(dhcp(filter.Inbound)...)
	judge(&ingress, filter.Inbound, "in")
	if mode == BootStateful {
		ingress.add(append(rule(stage(filter.Answers)), accept))
	}
	if mode != BootPermit {
		ingress.add(rule{drop})
	}
	c.chain(ingress)

	if mode != BootPermit || len(s.Groups(filter.Forward)) > 0 {
		forward := chain{name: "forward", hook: &hook{"forward", last}}
		forward.add(c.exempt(x, filter.Forward)...)
		judge(&forward, filter.Forward, "forward")
		if mode != BootPermit {
			forward.add(rule{drop})
		}
		c.chain(forward)
	}

	own := append(c.exempt(x, filter.Outbound), dhcp(filter.Outbound)...)
	if refuses(s.Groups(filter.Inbound)) || refuses(s.Groups(filter.Forward)) {
		own = append(own, ownRefusals()...)
	}
	egress := chain{name: "egress", hook: &hook{"postrouting", last}}
	egress.add(own...)
	egress.add(c.passedOn())
	judge(&egress, filter.Outbound, "out")
	if mode == BootBlock {
		egress.add(rule{drop})
	}
	c.refuseOutput(own)
	c.chain(chain{name: string(secure), rules: []rule{{drop}}})
	return c.finish(egress), nil
}

// dhcp returns the rules that accept the exchanges of a DHCP client.
func dhcp(d filter.Direction) []rule {
	ports := func(v6 bool, local, remote uint16) rule {
		src, dst := local, remote
		if d == filter.Inbound {
			src, dst = remote, local
		}
		return rule{family(v6), protocol(unix.IPPROTO_UDP), port(transportSrc, src), port(transportDst, dst), accept}
	}
	return []rule{ports(false, dhcpClient, dhcpServer), ports(true, dhcp6Client, dhcp6Server)}
}
