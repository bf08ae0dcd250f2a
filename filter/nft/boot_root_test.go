package nft

import (
	"testing"

	"github.com/ipsecfw/ipsecfw/filter"
)

func TestBoot(t *testing.T) {
	type packets struct{ in, out, forward []datagram }
	permit := ports(filter.Permit, filter.Any(), filter.Me(), 17, open, open)
	out := ports(filter.Permit, filter.Me(), filter.Any(), 17, open, open)
	exempt := []filter.Entry{permit, out, forwarded(filter.Permit, open), ports(filter.Block, filter.Any(), filter.Me(), 17, 7100, 7100)}
	persistent := mustSPD(t,
		ports(filter.Block, filter.Any(), filter.Me(), 17, 7200, 7200),
		ports(filter.Negotiate, filter.Any(), filter.Me(), 17, 7201, 7201),
		ports(filter.Permit, filter.Any(), filter.Me(), 17, 7202, 7202),
	)
	always := packets{
		in: []datagram{
			{"exempt", "10.77.1.2:0", "10.77.1.1:7100", 0, 1, arrives},
			{"answer of DHCP", "10.77.1.2:67", "10.77.1.1:68", 0, 1, arrives},
			{"answer of DHCPv6", "[fe80::1:2%host]:547", "[fe80::1:1%host]:546", 0, 1, arrives},
			{"blocked for ever", "10.77.1.2:0", "10.77.1.1:7200", 0, 1, lost},
			{"to be secured", "10.77.1.2:0", "10.77.1.1:7201", 0, 1, lost},
			{"permitted for ever", "10.77.1.2:0", "10.77.1.1:7202", 0, 1, arrives},
		},
		out: []datagram{
			{"request of DHCP", "10.77.1.1:68", "10.77.1.2:67", 0, 1, arrives},
			{"request of DHCPv6", "[fe80::1:1%peer]:546", "[fe80::1:2%peer]:547", 0, 1, arrives},
			{"answer that is blocked for ever", "10.77.1.1:7200", "10.77.1.2:7999", 0, 1, refused},
			{"answer that is to be secured", "10.77.1.1:7201", "10.77.1.2:7999", 0, 1, refused},
		},
	}
	for _, tt := range []struct {
		mode BootMode
		packets
	}{
		{BootPermit, packets{
			in:      []datagram{{"new", "10.77.1.2:0", "10.77.1.1:7300", 0, 1, arrives}, {"IKE", "10.77.1.2:0", "10.77.1.1:500", 0, 1, arrives}},
			out:     []datagram{{"new", "10.77.1.1:7400", "10.77.1.2:7401", 0, 1, arrives}},
			forward: []datagram{{"forwarded", "10.77.1.2:0", "10.77.2.2:7300", 0, 1, arrives}},
		}},
		{BootBlock, packets{
			in: []datagram{{"new", "10.77.1.2:0", "10.77.1.1:7300", 0, 1, lost}, {"IKE", "10.77.1.2:0", "10.77.1.1:500", 0, 1, lost},
				{"not DHCP", "10.77.1.2:68", "10.77.1.1:67", 0, 1, lost}},
			out: []datagram{{"new", "10.77.1.1:7400", "10.77.1.2:7401", 0, 1, refused},
				{"IKE", "10.77.1.1:500", "10.77.1.2:500", testConfig.OutMark, 1, refused}},
			forward: []datagram{{"forwarded", "10.77.1.2:0", "10.77.2.2:7300", 0, 1, lost}},
		}},
		{BootStateful, packets{
			in:      []datagram{{"new", "10.77.1.2:0", "10.77.1.1:7300", 0, 1, lost}},
			out:     []datagram{{"new", "10.77.1.1:7400", "10.77.1.2:7401", 0, 1, arrives}},
			forward: []datagram{{"forwarded", "10.77.1.2:0", "10.77.2.2:7300", 0, 1, lost}},
		}},
	} {
		t.Log(tt.mode)
		w := newWires(t)
		cfg := testConfig
		rs, err := CompileBoot(tt.mode, exempt, persistent, cfg)
		must(t, err)
		must(t, Apply(rs))
		check(t, rs)
		in, out := path{w.peer, w.host, "10.77.1.2", "10.77.1.1"}, path{w.host, w.peer, "10.77.1.1", "10.77.1.2"}
		for _, p := range []packets{always, tt.packets} {
			w.check(in, p.in)
			w.check(out, p.out)
			w.check(path{w.peer, w.behind, "10.77.1.2", "10.77.2.2"}, p.forward)
		}
		if tt.mode == BootStateful {
			w.check(in, []datagram{
				{"answer", "10.77.1.2:7401", "10.77.1.1:7400", 0, 1, arrives},
				{"no answer", "10.77.1.2:7401", "10.77.1.1:7402", 0, 1, lost},
			})
		}
		must(t, Apply(Compile(wirePolicy(t), testConfig))) // the daemon comes
		check(t, Compile(wirePolicy(t), testConfig))
	}
}

func TestBootErrors(t *testing.T) {
	if _, err := CompileBoot(0, nil, nil, testConfig); err == nil {
		t.Error("no mode: no error")
	}
	if _, err := CompileBoot(BootBlock, []filter.Entry{{}}, nil, testConfig); err == nil {
		t.Error("an exemption without a selector: no error")
	}
}
