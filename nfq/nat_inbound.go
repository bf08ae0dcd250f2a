package nfq

import "net/netip"

// untranslate makes what was opened, and is allowed, what the stack is to see. A
// packet that got another port is judged once more: the answer to it will have
// that port, and must be secured by the same rule.
func (in *Inbound) untranslate(clear []byte, sa *SA, link int) bool {
	moved, ok := in.engine.sad.untranslate(clear, &in.p, sa)
	return ok && (!moved || in.wanted(sa, link))
}

// movedEvery is how often the key exchange is told that a peer seems to have
// moved, in seconds.
const movedEvery = 1

// follow tells the key exchange of a packet that came from another place than
// the peer was at.
func (in *Inbound) follow(sa *SA, local, remote netip.AddrPort) {
	if !in.encap || remote == sa.RemoteAddr && local == sa.LocalAddr {
		return
	}
	now, last := in.engine.cfg.Now().Unix(), sa.movedAt.Load()
	if now-last >= movedEvery && sa.movedAt.CompareAndSwap(last, now) {
		in.engine.cfg.Acquirer.Moved(sa.InSPI, local, remote)
	}
}
