package doctor

import (
	"fmt"
	"strings"
	"time"
)

func (j *judge) privileges() {
	if j.Privileges == nil {
		return
	}
	var missing []string
	if !j.Privileges.NetAdmin {
		missing = append(missing, "CAP_NET_ADMIN")
	}
	if !j.Privileges.NetRaw {
		missing = append(missing, "CAP_NET_RAW")
	}
	if len(missing) > 0 {
		j.find(Warning, "capabilities", "this process has no "+strings.Join(missing, " and no "), "a daemon needs them: run it, and this command, as root")
	}
}

func (j *judge) kernel() {
	if j.TUN != "" {
		j.find(Problem, "/dev/net/tun", j.TUN, "load the module tun; in a container, give it the device")
	}
	if j.Kernel == nil {
		return
	}
	for _, what := range j.Kernel.Lacks {
		j.find(Problem, "kernel", "it has no "+what, "load the module, or use a kernel that has it")
	}
	if len(j.Kernel.Lacks) == 0 {
		j.find(OK, "kernel", "it has nftables, NFQUEUE and connection tracking", "")
	}
}

func (j *judge) clock() {
	if j.Built.IsZero() || !j.Now.Before(j.Built) {
		return
	}
	severity := Warning
	if j.Daemon != nil && j.Daemon.Certificates {
		severity = Problem
	}
	j.find(severity, "clock", fmt.Sprintf("it says %s, which is before this program was made, %s: certificates seem not to be valid yet",
		j.Now.UTC().Format(time.RFC3339), j.Built.UTC().Format(time.RFC3339)), "set the clock")
}

// on reports whether a parameter of the kernel's is there and not 0.
func (j *judge) on(key string) bool {
	v, ok := j.Parameters[key]
	return ok && v != "0"
}

// off reports whether it is there and 0.
func (j *judge) off(key string) bool { return j.Parameters[key] == "0" }

func (j *judge) parameters() {
	for _, key := range Reflecting {
		if j.on(key) {
			j.find(Problem, "kernel parameter "+key, "it is on: the answers to secured packets are lost", "set it to 0")
		}
	}
	if j.strict() {
		what := "source addresses are checked strictly, which what comes by " + j.Names.Device + " passes"
		if j.device() != nil && !j.on("net.ipv4.conf."+j.Names.Device+".src_valid_mark") {
			j.find(Problem, "kernel parameter net.ipv4.conf."+j.Names.Device+".src_valid_mark",
				"it is off, and source addresses are checked strictly: what comes by the device is dropped", "set it to 1, or restart the daemon")
		} else {
			j.find(OK, "kernel parameter rp_filter", what, "")
		}
	}
	for family, key := range []string{"net.ipv4.ip_forward", "net.ipv6.conf.all.forwarding"} {
		if j.Daemon != nil && j.Daemon.Forwards[family] && j.off(key) {
			j.find(Problem, "kernel parameter "+key, "it is off, and the policy in force has filters of what the host passes on", "set it to 1")
		}
	}
	for _, key := range []string{"net.bridge.bridge-nf-call-iptables", "net.bridge.bridge-nf-call-ip6tables"} {
		for _, i := range j.Interfaces {
			if i.Kind == "bridge" && j.on(key) {
				j.find(Warning, "kernel parameter "+key, "it is on: what only crosses bridge "+i.Name+" is filtered as if the host passed it on",
					"set it to 0, unless another firewall needs it")
				break
			}
		}
	}
}

// Reflecting are the parameters that give answers the mark of what they answer.
var Reflecting = []string{"net.ipv4.fwmark_reflect", "net.ipv4.tcp_fwmark_accept", "net.ipv6.fwmark_reflect"}

// strict reports whether the kernel checks the source of what comes by the
// device, or will, strictly (RFC 3704 section 2.2): the higher value counts.
func (j *judge) strict() bool {
	most := j.Parameters["net.ipv4.conf.all.rp_filter"]
	own, ok := j.Parameters["net.ipv4.conf."+j.Names.Device+".rp_filter"]
	if !ok {
		own = j.Parameters["net.ipv4.conf.default.rp_filter"]
	}
	return max(most, own) == "1"
}
