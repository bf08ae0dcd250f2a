package nfq

import (
	"errors"
	"net/netip"
	"testing"
	"time"
)

func TestPath(t *testing.T) {
	now := time.Unix(1000, 0)
	for _, tt := range []struct {
		name      string
		v6        bool
		link      int
		learn     int
		want      int
		narrower  bool
		fragments bool
	}{
		{"narrower", false, 1500, 1400, 1400, true, false},
		{"wider than the link", false, 1500, 9000, 1500, false, false},
		{"as the link", false, 1500, 1500, 1500, false, false},
		{"narrower than IPv4 is cut to", false, 1500, 296, minMTU4, true, true},
		{"nothing", false, 1500, 0, minMTU4, true, true},
		{"less than nothing", false, 1500, -1, minMTU4, true, true},
		{"a narrow link", false, 300, 9000, minMTU4, false, true},
		{"IPv6", true, 1500, 1300, 1300, true, false},
		{"narrower than IPv6 is", true, 1500, 296, minMTU6, true, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p := NewPath(tt.v6, tt.link)
			if got := p.Learn(tt.learn, now); got != tt.narrower {
				t.Errorf("it is narrower: %v, want %v", got, tt.narrower)
			}
			if p.MTU() != tt.want || p.Fragments() != tt.fragments {
				t.Errorf("MTU %d, fragments %v; want %d, %v", p.MTU(), p.Fragments(), tt.want, tt.fragments)
			}
			p.age(now.Add(learnedFor - 1))
			if p.MTU() != tt.want {
				t.Errorf("it is forgotten too soon: %d", p.MTU())
			}
			p.age(now.Add(learnedFor))
			if want := max(tt.link, minMTU4); p.MTU() != want {
				t.Errorf("it is not forgotten: %d, want %d", p.MTU(), want)
			}
		})
	}
}

func TestPathsAreShared(t *testing.T) {
	h := newHost(t, client4, 0)
	now := time.Unix(1000, 0)
	h.cfg.Now = func() time.Time { return now }
	mtu, asked := 1500, 0
	link := func(_, _ netip.Addr) (int, error) {
		asked++
		if mtu == 0 {
			return 0, errors.New("no route")
		}
		return mtu, nil
	}
	a, err := h.Path(client4, server4, link)
	if err != nil {
		t.Fatal(err)
	}
	if b, _ := h.Path(client4, server4, link); b != a || asked != 1 {
		t.Errorf("two SAs have two paths; the kernel was asked %d times", asked)
	}
	a.Learn(1300, now)
	h.RefreshPaths(link) // no SA uses it, but it has learned something
	if b, _ := h.Path(client4, server4, link); b != a || a.MTU() != 1300 {
		t.Error("what was learned is forgotten with the SA")
	}
	sa, _ := pair(t, "staff", 1, false, client4, server4)
	sa.Path = a
	h.Install(sa, false)
	mtu = 1200
	h.RefreshPaths(link)
	if a.MTU() != 1200 {
		t.Errorf("the link has 1200, the path %d", a.MTU())
	}
	mtu = 0
	h.RefreshPaths(link)
	if a.MTU() != 1200 || a.Link() != 1200 {
		t.Error("without a route it is forgotten")
	}
	mtu, now = 9000, now.Add(learnedFor)
	h.RefreshPaths(link)
	if a.MTU() != 9000 {
		t.Errorf("after a while the path takes %d", a.MTU())
	}
	h.SAD().Remove(sa.InSPI)
	h.RefreshPaths(link)
	if b, _ := h.Path(client4, server4, link); b == a {
		t.Error("a path that nobody uses is kept")
	}
	mtu = 0
	if _, err := h.Path(client6, server6, link); err == nil {
		t.Error("a path without a route: no error")
	}
}
