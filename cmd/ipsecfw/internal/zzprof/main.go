package main

import (
	"fmt"
	"os"
	"runtime"
	"runtime/pprof"
	"strings"
	"time"

	"github.com/ipsecfw/ipsecfw/cmd/ipsecfw/internal/verify"
	"github.com/ipsecfw/ipsecfw/filter"
	"github.com/ipsecfw/ipsecfw/filter/nft"
	"github.com/ipsecfw/ipsecfw/rules"
)

func main() {
	var b strings.Builder
	b.WriteString("version: 1\nname: big\nfilter-lists:\n  hosts:\n")
	for i := range 100000 {
		fmt.Fprintf(&b, "    - {from: 10.%d.%d.%d, to: me, protocol: tcp, to-port: %d}\n", i>>16, i>>8&255, i&255, 1024+i%1000)
	}
	b.WriteString("  rest:\n    - {from: any, to: me}\nrules:\n  - {name: hosts, filter-list: hosts, action: permit}\n  - {name: rest, filter-list: rest, action: block}\n")
	src := []byte(b.String())
	f, _ := os.Create("/work/scratch/cpu.prof")
	for round := range 3 {
		if round == 1 {
			pprof.StartCPUProfile(f)
		}
		t := time.Now()
		lap := func(s string) { fmt.Printf("%s %v\n", s, time.Since(t)); t = time.Now() }
		file, err := rules.Parse("big.yaml", src)
		if err != nil {
			panic(err)
		}
		lap("parse")
		es := file.Entries(rules.Addresses{})
		lap("entries")
		spd, err := filter.New(es, filter.Settings{})
		if err != nil {
			panic(err)
		}
		lap("spd")
		v := verify.Policy{Files: []*rules.File{file}, SPD: spd}
		v.Space()
		lap("space")
		if err := v.Errors(); err != nil {
			panic(err)
		}
		lap("errors")
		w := v.Warnings()
		lap("warnings")
		rs := nft.Compile(spd, nft.Config{Interface: "ipsecfw0", OutMark: 1, Features: nft.Features{Inet: true, FIB: true}})
		lap("nft compile")
		_ = rs
		fmt.Println(len(w))
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		fmt.Println("heap", m.HeapInuse>>20)
	}
	pprof.StopCPUProfile()
	f.Close()
}
