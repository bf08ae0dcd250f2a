package daemon

import (
	"fmt"
	"testing"
	"time"

	"github.com/ipsecfw/ipsecfw/ipsec"
	"github.com/ipsecfw/ipsecfw/rules"
)

func TestUsed(t *testing.T) {
	life := rules.Lifetime{Time: time.Hour, Bytes: 1000, Packets: 100}
	soft := rules.Lifetime{Time: 50 * time.Minute, Bytes: 850, Packets: 85}
	for _, tt := range []struct {
		name string
		n    ipsec.Counters
		age  time.Duration
		want use
	}{
		{"new", ipsec.Counters{}, 0, fresh},
		{"nearly as old", ipsec.Counters{}, 50 * time.Minute, nearlyUsed},
		{"too old", ipsec.Counters{}, time.Hour, usedUp},
		{"not as many bytes", ipsec.Counters{Bytes: 849}, 0, fresh},
		{"nearly as many bytes", ipsec.Counters{Bytes: 850}, 0, nearlyUsed},
		{"all bytes", ipsec.Counters{Bytes: 1000}, 0, usedUp},
		{"nearly as many packets", ipsec.Counters{Packets: 85}, 0, nearlyUsed},
		{"all packets", ipsec.Counters{Packets: 100}, 0, usedUp},
		{"one packet more would be too much", ipsec.Counters{Bytes: 900, Over: true}, 0, usedUp},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := used(life, soft, tt.n, tt.age); got != tt.want {
				t.Errorf("%d, want %d", got, tt.want)
			}
		})
	}
	if got := used(rules.Lifetime{}, rules.Lifetime{}, ipsec.Counters{Bytes: 1 << 40, Packets: 1 << 40}, 1000*time.Hour); got != fresh {
		t.Errorf("without limits: %d", got)
	}
}

// SAs are replaced when 10 % to 20 % of their lifetime is left, and not all at
// once; without ESN long before their sequence numbers come to an end.
func TestSoftLifetimes(t *testing.T) {
	life := rules.Lifetime{Time: time.Hour, Bytes: 1e12, Packets: 1e12}
	seen := map[time.Duration]bool{}
	for spi := range ipsec.SPI(1000) {
		for _, esn := range []bool{false, true} {
			soft := softOf(life, &ipsec.ChildSA{InSPI: 256 + spi, ESN: esn})
			part := soft.Time.Hours()
			if part < 0.8 || part > 0.9 || soft.Bytes < 8e11 || soft.Bytes > 9e11 {
				t.Fatalf("%+v", soft)
			}
			low, high := uint64(8e11), uint64(9e11)
			if !esn {
				low, high = 3<<30-(3<<30)/15, 3<<30+(3<<30)/14
			}
			if soft.Packets < low || soft.Packets > high {
				t.Fatalf("esn %v: %d packets, want %d to %d", esn, soft.Packets, low, high)
			}
			seen[soft.Time.Truncate(time.Minute)] = true
		}
	}
	if len(seen) < 6 {
		t.Errorf("all within %d minutes", len(seen))
	}
	if soft := softOf(rules.Lifetime{}, &ipsec.ChildSA{InSPI: 256, ESN: true}); soft != (rules.Lifetime{}) {
		t.Errorf("without a limit: %+v", soft)
	}
	if soft := softOf(rules.Lifetime{Packets: 1000}, &ipsec.ChildSA{InSPI: 256}); soft.Packets < 800 || soft.Packets > 900 {
		t.Errorf("fewer packets than sequence numbers: %+v", soft)
	}
}

// The lifetime is that of the method that an SA was made by.
func TestLifetimeOfMethod(t *testing.T) {
	p := mustCompile(t, nestedSource)
	integ := func(id uint16) ipsec.Transform { return ipsec.Transform{Type: ipsec.TypeInteg, ID: id} }
	gcm := ipsec.Transform{Type: ipsec.TypeEncr, ID: ipsec.EncrAESGCM16, KeyBits: 256}
	for _, tt := range []struct {
		rule string
		sa   ipsec.ChildSA
		want rules.Lifetime
	}{
		{"site", ipsec.ChildSA{Protocol: ipsec.ProtoESP, Encr: gcm}, rules.Lifetime{Time: time.Hour, Packets: 5000}},
		{"site", ipsec.ChildSA{Protocol: ipsec.ProtoAH, Integ: integ(ipsec.IntegHMACSHA256)}, rules.Lifetime{Time: time.Hour, Packets: 5000}},
		{"open", ipsec.ChildSA{Protocol: ipsec.ProtoAH, Integ: integ(ipsec.IntegHMACSHA256)}, rules.Lifetime{Time: time.Hour, Bytes: 1e9}},
		{"open", ipsec.ChildSA{Protocol: ipsec.ProtoESP, Encr: ipsec.Transform{Type: ipsec.TypeEncr, ID: ipsec.EncrNull}, Integ: integ(ipsec.IntegHMACSHA256)}, rules.Lifetime{Time: time.Minute, Bytes: 2e9}},
	} {
		t.Run(fmt.Sprint(tt.rule, tt.sa.Protocol), func(t *testing.T) {
			if got := p.rules[tt.rule].lifetimeOf(&tt.sa); got != tt.want {
				t.Errorf("%+v, want %+v", got, tt.want)
			}
		})
	}
}
