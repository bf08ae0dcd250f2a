package examine

import (
	"slices"
	"strings"

	"github.com/ipsecfw/ipsecfw/cmd/ipsecfw/internal/daemon"
	"github.com/ipsecfw/ipsecfw/cmd/ipsecfw/internal/doctor"
	"github.com/ipsecfw/ipsecfw/filter"
	"github.com/ipsecfw/ipsecfw/filter/nft/foreign"
)

// arphrdNone is the type of a TUN device (ARPHRD_NONE of linux/if_arp.h).
const arphrdNone = 0xfffe

// tables finds what the tables of other owners do to the packets of a policy,
// or of any.
func (f *facts) tables(p Policy) {
	const what = "other firewalls"
	if !f.admin() {
		f.unseen(what, errPrivilege, asRoot)
		return
	}
	if f.Kernel != nil && len(f.Kernel.Lacks) > 0 {
		return
	}
	tables, err := foreign.Read(daemon.Table)
	if err != nil {
		f.unseen(what, err, "")
		return
	}
	h, err := daemon.ThisHost()
	if err != nil {
		f.unseen(what, err, "")
		return
	}
	spd := p.SPD
	h.AH = p.AH
	f.Tables = &doctor.Tables{}
	negotiates := spd != nil && slices.ContainsFunc(spd.Entries(), func(e *filter.Entry) bool { return e.Action == filter.Negotiate })
	if !negotiates {
		f.Tables.Perhaps = texts(foreign.Needs(tables, h))
	}
	if spd != nil {
		for _, w := range foreign.Warnings(spd, tables, h) {
			if w.Need != "" {
				f.Tables.Drops = append(f.Tables.Drops, w.String())
			} else {
				f.Tables.Perhaps = append(f.Tables.Perhaps, w.String())
			}
		}
	}
	if negotiates {
		e := foreign.Engine{Device: foreign.Interface{Name: f.Names.Device, Type: arphrdNone}, Mark: f.Names.InMark}
		f.Tables.Drops = append(f.Tables.Drops, texts(foreign.Secured(spd, tables, h, e))...)
		f.Tables.Translates = texts(foreign.Translations(spd, tables, h))
	}
	for _, path := range []string{"ip_tables_names", "ip6_tables_names"} {
		// It is not there with a kernel that does not have them.
		_ = lines("/proc/thread-self/net/"+path, func(w []string) {
			f.Tables.Legacy = append(f.Tables.Legacy, strings.TrimSuffix(path, "_tables_names")+"tables "+strings.Join(w, " "))
		})
	}
}

func texts(all []foreign.Warning) []string {
	var out []string
	for _, w := range all {
		out = append(out, w.String())
	}
	return out
}
