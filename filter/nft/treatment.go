package nft

import (
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"

	"github.com/ipsecfw/ipsecfw/filter"
)

// What a flood of logged packets may bring to the log: it must not fill a
// disk.
var logLimit = limit{filter.Limit{Packets: 10, Per: filter.PerSecond, Burst: 20}, false}

// maxPrefix is the longest prefix of a log message, in bytes
// (NF_LOG_PREFIXLEN with the zero at its end).
const maxPrefix = 127

// logTo reports the packet to an NFLOG group.
type logTo struct {
	group  uint16
	prefix string // the rule's name; what exceeds maxPrefix is cut off
}

func (l logTo) String() string {
	return fmt.Sprintf("log prefix %s group %d", strconv.Quote(l.cut()), l.group)
}

// cut returns the part of the prefix that the kernel takes, whole characters.
// A zero would end it.
func (l logTo) cut() string {
	p, _, _ := strings.Cut(l.prefix, "\x00")
	if len(p) <= maxPrefix {
		return p
	}
	n := maxPrefix
	for n > 0 && !utf8.RuneStart(p[n]) {
		n--
	}
	return p[:n]
}

func (l logTo) lower() []expr.Any {
	return []expr.Any{&expr.Log{
		Key: 1<<unix.NFTA_LOG_GROUP | 1<<unix.NFTA_LOG_PREFIX, Group: l.group, Data: []byte(l.cut()),
	}}
}

// limit ends the rule when the rate is exceeded; over, while it is not.
type limit struct {
	filter.Limit
	over bool
}

// defaultBurst is what a limit without a burst gets, as in nft.
const defaultBurst = 5

func (l limit) burst() uint32 {
	if l.Burst == 0 {
		return defaultBurst
	}
	return l.Burst
}

func (l limit) String() string {
	over := ""
	if l.over {
		over = "over "
	}
	return fmt.Sprintf("limit rate %s%d/%s burst %d packets", over, l.Packets, l.Per, l.burst())
}

func (l limit) lower() []expr.Any {
	units := map[filter.Unit]expr.LimitTime{
		filter.PerSecond: expr.LimitTimeSecond, filter.PerMinute: expr.LimitTimeMinute, filter.PerHour: expr.LimitTimeHour,
	}
	return []expr.Any{&expr.Limit{
		Type: expr.LimitTypePkts, Rate: uint64(l.Packets), Unit: units[l.Per], Burst: l.burst(), Over: l.over,
	}}
}

// refusal drops the packet and tells its sender.
type refusal uint8

const (
	reset       refusal = iota // of TCP, which a match of l4proto before it makes sure of
	prohibited4                // the two of ICMP want a match of nfproto before them
	prohibited6
)

// Administratively prohibited: the codes of "unreachable" in ICMP (RFC 1812
// section 5.2.7.1) and ICMPv6 (RFC 4443 section 3.1).
const prohibitedCode4, prohibitedCode6 = 13, 1

func (r refusal) String() string {
	switch r {
	case reset:
		return "reject with tcp reset"
	case prohibited4:
		return "reject with icmp admin-prohibited"
	}
	return "reject with icmpv6 admin-prohibited"
}

func (r refusal) lower() []expr.Any {
	switch r {
	case reset:
		return []expr.Any{&expr.Reject{Type: unix.NFT_REJECT_TCP_RST}}
	case prohibited4:
		return []expr.Any{&expr.Reject{Type: unix.NFT_REJECT_ICMP_UNREACH, Code: prohibitedCode4}}
	}
	return []expr.Any{&expr.Reject{Type: unix.NFT_REJECT_ICMP_UNREACH, Code: prohibitedCode6}}
}

// refusals are the rules of the chain that refuses a packet in its protocol's
// words.
func refusals() []rule {
	return []rule{
		{protocol(unix.IPPROTO_TCP), reset},
		{family(false), prohibited4},
		{family(true), prohibited6},
	}
}

// ownRefusals are the rules that let the host's own refusals out, and nothing else.
// The kernel makes a refusal part of the connection of what is refused, as an
// answer related to it. No other TCP segment is that: a connection which
// another has announced is new or established. An error is, whatever makes it,
// but that a packet is prohibited the host says only for a firewall, or of a
// route that is closed.
func ownRefusals() []rule {
	related := match{ctState, native(expr.CtStateBitRELATED), expr.CmpOpNeq, native(0)}
	answer := is(ctDirection, reply)
	return []rule{
		{protocol(unix.IPPROTO_TCP), related, answer, match{tcpFlags, []byte{tcpReset}, expr.CmpOpNeq, []byte{0}}, accept},
		{family(false), protocol(unix.IPPROTO_ICMP), related, answer, is(icmpType, filter.Unreachable4), is(icmpCode, prohibitedCode4), accept},
		{family(true), protocol(unix.IPPROTO_ICMPV6), related, answer, is(icmp6Type, filter.Unreachable6), is(icmp6Code, prohibitedCode6), accept},
	}
}

// tcpReset is the flag RST (RFC 9293 section 3.1).
const tcpReset = 0x04
