package iketest_test

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"reflect"
	"runtime"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/ipsecfw/ipsecfw/ipsec/ike"
	"github.com/ipsecfw/ipsecfw/ipsec/ike/iketest"
	"github.com/ipsecfw/ipsecfw/ipsec/ike/ikev2"
)

var (
	seeds = flag.Int("seeds", 10_000, "how many seeds TestSeeds runs")
	seed  = flag.Uint64("seed", 0, "the first of them")
)

var machines = iketest.Machines{
	Initiator: func(c ike.MachineConfig) ike.Machine { return ikev2.NewInitiator(c) },
	Responder: func(c ike.MachineConfig) ike.Machine { return ikev2.NewResponder(c) },
	Spent:     spent,
}

// spent looks for keys that were not wiped.
func spent(m ike.Machine) error {
	seen := make(map[any]bool)
	found := 0
	var look func(v reflect.Value) error
	look = func(v reflect.Value) error {
		switch v.Kind() {
		case reflect.Pointer:
			if v.IsNil() || seen[v.UnsafePointer()] {
				return nil
			}
			seen[v.UnsafePointer()] = true
			return look(v.Elem())
		case reflect.Slice:
			for i := range v.Len() {
				if err := look(v.Index(i)); err != nil {
					return err
				}
			}
		case reflect.Struct:
			keys := v.Type().Name() == "ikeKeys"
			for i := range v.NumField() {
				f := v.Field(i)
				if keys && f.Kind() == reflect.Slice {
					if found++; bytes.Count(f.Bytes(), []byte{0}) != f.Len() {
						return fmt.Errorf("its key %s is not wiped", v.Type().Field(i).Name)
					}
				} else if v.Type().Field(i).Name != "cfg" { // which leads to others
					if err := look(f); err != nil {
						return err
					}
				}
			}
		}
		return nil
	}
	if err := look(reflect.ValueOf(m)); err != nil || found > 0 {
		return err
	}
	return errors.New("it has no place for keys: what are they called now?")
}

// TestSeeds runs IKEv2 through what thousands of seeds make of the network, the
// hosts and their rules. One seed is run again, with its messages shown, by
//
//	go test ./ipsec/ike/iketest -run TestSeeds -seeds 1 -seed N
//
// and as many as there is time for by a larger -seeds.
func TestSeeds(t *testing.T) {
	defer debug.SetGCPercent(debug.SetGCPercent(400)) // a run leaves little behind and makes much
	const enough = 3                                  // seeds that fail
	var (
		next   atomic.Uint64
		mu     sync.Mutex
		failed = make(map[uint64]error)
		all    sync.WaitGroup
	)
	for range runtime.GOMAXPROCS(0) {
		all.Go(func() {
			for i := next.Add(1) - 1; i < uint64(*seeds); i = next.Add(1) - 1 {
				err := iketest.Run(*seed+i, machines, nil)
				mu.Lock()
				if err != nil {
					failed[*seed+i] = err
				}
				done := len(failed) >= enough
				mu.Unlock()
				if done {
					return
				}
			}
		})
	}
	all.Wait()
	for s, err := range failed {
		var log bytes.Buffer
		again := iketest.Run(s, machines, &log)
		t.Errorf("seed %d: %v\n\n%s\nonce more: go test ./ipsec/ike/iketest -run TestSeeds -seeds 1 -seed %d", s, err, log.Bytes(), s)
		if again == nil || again.Error() != err.Error() {
			t.Errorf("seed %d: the second time it is %v", s, again)
		}
	}
}

// TestSeedAgain has the same seed do the same thing.
func TestSeedAgain(t *testing.T) {
	for s := range uint64(20) {
		var logs [2]bytes.Buffer
		for i := range logs {
			if err := iketest.Run(s, machines, &logs[i]); err != nil {
				t.Errorf("seed %d: %v", s, err)
			}
		}
		if !bytes.Equal(logs[0].Bytes(), logs[1].Bytes()) {
			t.Errorf("seed %d: two runs differ", s)
		}
	}
}

// TestSeedsCover has the seeds do what they are for: a simulator in which
// nothing happens finds nothing.
func TestSeedsCover(t *testing.T) {
	var log bytes.Buffer
	for s := range uint64(300) {
		if err := iketest.Run(s, machines, &log); err != nil {
			t.Errorf("seed %d: %v", s, err)
		}
	}
	for _, what := range []string{
		"IKE_SA_INIT", "IKE_AUTH", "IKE_INTERMEDIATE", "CREATE_CHILD_SA", "INFORMATIONAL", "IKE_FOLLOWUP_KE",
		"mlkem768", "AUTH(preshared key)", "AUTH(digital signature)", "fragments)", "(again)",
		"N(COOKIE)", "N(INVALID_KE_PAYLOAD", "N(INITIAL_CONTACT)", "N(USE_TRANSPORT_MODE)", "N(SET_WINDOW_SIZE",
		"N(REKEY_SA", "N(TEMPORARY_FAILURE)", "N(CHILD_SA_NOT_FOUND", "N(NO_ADDITIONAL_SAS)", "N(AUTH_LIFETIME",
		"N(USE_PPK)", "N(PPK_IDENTITY)", "N(CHILDLESS_IKEV2_SUPPORTED)", "N(INVALID_IKE_SPI)", "N(INVALID_SPI)", "D(ESP", "D(IKE)",
		"is lost", "is corrupted", "does not get through the NAT", "NAT: new ports", "restarts", "clock set by", "to authenticate anew",
		"the peer has restarted", "the peers have authenticated anew",
	} {
		if !bytes.Contains(log.Bytes(), []byte(what)) {
			t.Errorf("in no seed there is %q", what)
		}
	}
}
