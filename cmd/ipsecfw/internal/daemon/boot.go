package daemon

import (
	"errors"
	"fmt"

	"github.com/ipsecfw/ipsecfw/cmd/ipsecfw/internal/api"
	"github.com/ipsecfw/ipsecfw/filter"
	"github.com/ipsecfw/ipsecfw/filter/nft"
	"github.com/ipsecfw/ipsecfw/rules"
)

// Boot puts in force what is to hold until a daemon has the policy: the filters
// of the persistent policy, and for everything else the boot mode of the policy
// that is kept in a directory. It takes nftables alone. Where no policy is
// kept, nothing changes; where one is and cannot be read, everything is blocked
// and the error says why.
func Boot(dir string) error {
	s := state{dir: dir}
	lock, err := s.lock()
	if errors.Is(err, errLocked) {
		return errors.New("a daemon has the policy: boot is for the time before it")
	}
	if err != nil {
		return errors.Join(err, closed())
	}
	defer lock.Close()
	rs, err := s.bootRules()
	if err != nil {
		return errors.Join(fmt.Errorf("everything is blocked: %w", err), closed())
	}
	if rs == nil {
		return nil
	}
	return nft.Apply(*rs)
}

// closed blocks everything.
func closed() error {
	rs, err := nft.CompileBoot(nft.BootBlock, nil, nil, bootConfig())
	if err != nil {
		return err
	}
	return nft.Apply(rs)
}

func bootConfig() nft.Config {
	return nft.Config{
		Interface: device, InMark: inMark, OutMark: outMark, Queue: queue, TCPQueue: tcpQueue, Arrivals: arrivals, LogGroup: logGroup,
		Features: features(), Broadcasts: broadcasts(),
	}
}

// bootRules returns the ruleset of the boot; nil where no policy is kept.
func (s state) bootRules() (*nft.Ruleset, error) {
	k, err := s.load()
	if err != nil {
		return nil, err
	}
	ps := k.policies
	if k.Trial != nil && k.Trial.expired() {
		ps = k.Trial.Before
	}
	if ps.none() {
		return nil, nil
	}
	x, err := s.loadSeen()
	if err != nil {
		return nil, err
	}
	parse := func(up *api.Policy) (*rules.File, error) { return rules.Parse(up.Name, []byte(up.Source)) }
	var persistent *filter.SPD
	var settings *rules.File // of the last file that says something of the boot
	if ps.Persistent != nil {
		f, err := parse(ps.Persistent)
		if err != nil {
			return nil, err
		}
		settings = f
		if persistent, err = filter.New(f.Entries(x.Addresses), filter.Settings{Exemptions: f.Exemptions}); err != nil {
			return nil, err
		}
	}
	if ps.Applied != nil {
		f, err := parse(ps.Applied)
		if err != nil {
			return nil, err
		}
		if settings == nil || f.Startup.Stated {
			settings = f
		}
	}
	mode, exempt := settings.Boot()
	rs, err := nft.CompileBoot(bootModes[mode], exempt, persistent, bootConfig())
	return &rs, err
}

var bootModes = map[rules.BootMode]nft.BootMode{
	rules.BootPermit: nft.BootPermit, rules.BootBlock: nft.BootBlock, rules.BootStateful: nft.BootStateful,
}
