package daemon

import (
	"time"

	"github.com/ipsecfw/ipsecfw/ipsec"
	"github.com/ipsecfw/ipsecfw/ipsec/ah"
	"github.com/ipsecfw/ipsecfw/ipsec/esp"
	"github.com/ipsecfw/ipsecfw/nfq"
	"github.com/ipsecfw/ipsecfw/rules"
)

// halves makes the two directions of a Child SA, as its rule wants them.
func (j *joint) halves(sa *ipsec.ChildSA) (out nfq.Sealer, in nfq.Opener, err error) {
	limit := ipsec.Limit{Reached: func() {
		select {
		case j.aged <- sa.InSPI:
		default: // it is seen by and by
		}
	}}
	if n := j.policy.Load().rules[sa.Policy]; n != nil {
		sa.ReplayWindow, sa.DF = n.ReplayWindow, n.DF
		if sa.TFC = n.TFC; sa.Unpadded && sa.TFC != 0 {
			sa.TFC = 0
			j.log.Warn("packets in a tunnel are not padded, as their rule wants, since the peer does not take that", "rule", sa.Policy, "peer", sa.RemoteAddr.Addr())
		}
		life := n.lifetimeOf(sa)
		soft := softOf(life, sa)
		limit.Bytes, limit.Packets, limit.SoftBytes, limit.SoftPackets = life.Bytes, life.Packets, soft.Bytes, soft.Packets
	}
	o, i := sa.Outbound(), sa.Inbound()
	o.Limit, i.Limit = limit, limit
	if sa.Protocol == ipsec.ProtoAH {
		if out, err = ah.NewOutbound(o); err == nil {
			in, err = ah.NewInbound(i)
		}
		return out, in, err
	}
	if out, err = esp.NewOutbound(o); err == nil {
		in, err = esp.NewInbound(i)
	}
	return out, in, err
}

// softOf returns when an SA is to be replaced: after 80 % to 90 % of its
// lifetime, or with sequence numbers of 32 bits after 70 % to 80 % of them.
// The two ends have different SPIs, and so do not begin at the same instant (RFC
// 7296 section 2.8); nor do all SAs of a host.
func softOf(life rules.Lifetime, sa *ipsec.ChildSA) rules.Lifetime {
	part := 0.8 + float64(uint32(sa.InSPI)*golden)/(1<<32)/10
	soft := rules.Lifetime{
		Time:    time.Duration(float64(life.Time) * part),
		Bytes:   uint64(float64(life.Bytes) * part),
		Packets: uint64(float64(life.Packets) * part),
	}
	if most := uint64(sequenceNumbers * (part - 0.1)); !sa.ESN && (soft.Packets == 0 || soft.Packets > most) {
		soft.Packets = most
	}
	return soft
}

const (
	sequenceNumbers = 1<<32 - 1  // without ESN (RFC 4303 section 2.2)
	golden          = 2654435769 // a multiplicative hash: not every peer's SPIs are random
)
