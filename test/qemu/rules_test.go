package qemu

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// nativeRules fails the test unless the host has our table, with nft's own
// statement queue in the chain that secures and in that of what arrives, there for
// AH and for errors about what was sent, and nothing of xtables anywhere.
func (p *peer) nativeRules(t *testing.T) {
	t.Helper()
	const arriving = 4952
	arrivals := 0
	var queues []uint16
	var foreign []string
	err := p.Do(func() error {
		c, err := nftables.New()
		if err != nil {
			return err
		}
		chains, err := c.ListChainsOfTableFamily(nftables.TableFamilyINet)
		if err != nil {
			return err
		}
		for _, chain := range chains {
			if chain.Table.Name != "ipsecfw" {
				continue
			}
			rules, err := c.GetRules(chain.Table, chain)
			if err != nil {
				return fmt.Errorf("chain %s: %w", chain.Name, err)
			}
			for _, r := range rules {
				for _, e := range r.Exprs {
					switch e := e.(type) {
					case *expr.Queue:
						switch {
						case e.Flag != 0: // such as bypass
						case chain.Name == "secure":
							queues = append(queues, e.Num)
							continue
						case chain.Name == "ingress" && e.Num == arriving:
							arrivals++
							continue
						}
						foreign = append(foreign, fmt.Sprintf("%s: queue %+v", chain.Name, e))
					case *expr.Target, *expr.Match:
						foreign = append(foreign, fmt.Sprintf("%s: %+v", chain.Name, e))
					}
				}
			}
		}
		return nil
	})
	must(t, err)
	if !slices.Equal(queues, []uint16{4951, 4950}) || arrivals == 0 || len(foreign) > 0 {
		t.Errorf("the chain secure of %s has the queues %v, %d rules queue what arrives, and elsewhere or otherwise there is %q", p.Name, queues, arrivals, foreign)
	}
}

// network describes all that ipsecfw could leave in the host: tables, links,
// routing rules and routes.
func (p *peer) network(t *testing.T) string {
	t.Helper()
	var lines []string
	add := func(what string, x any) { lines = append(lines, fmt.Sprintf("%s %v", what, x)) }
	err := p.Do(func() error {
		c, err := nftables.New()
		if err != nil {
			return err
		}
		tables, err := c.ListTables()
		if err != nil {
			return err
		}
		for _, x := range tables {
			add("table", x.Name)
		}
		links, err := netlink.LinkList()
		if err != nil {
			return err
		}
		for _, x := range links {
			add("link", x.Attrs().Name)
		}
		for _, family := range []int{unix.AF_INET, unix.AF_INET6} {
			rules, err := netlink.RuleList(family)
			if err != nil {
				return err
			}
			for _, x := range rules {
				add("rule", x)
			}
			routes, err := netlink.RouteListFiltered(family, &netlink.Route{Table: unix.RT_TABLE_UNSPEC}, netlink.RT_FILTER_TABLE)
			if err != nil {
				return err
			}
			for _, x := range routes {
				add(fmt.Sprintf("route in table %d", x.Table), x)
			}
		}
		return nil
	})
	must(t, err)
	slices.Sort(lines)
	return strings.Join(lines, "\n")
}

// isAsBefore fails the test if the host has not what it had.
func (p *peer) isAsBefore(t *testing.T, before string) {
	t.Helper()
	if now := p.network(t); now != before {
		t.Errorf("%s had before the policy\n%s\nand after it\n%s", p.Name, before, now)
	}
}
