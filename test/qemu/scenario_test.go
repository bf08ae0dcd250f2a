package qemu

import (
	"testing"
	"time"

	"github.com/ipsecfw/ipsecfw/filter/nft"
)

// transferSize is how many bytes a transfer moves each way: not many, as the machine's processors are programs.
const transferSize = 2 << 20

// nativeQueue applies a policy on two hosts, follows packets through it, and
// tears it down.
func nativeQueue(t *testing.T) {
	client, server := newPeers(t)
	empty := map[*peer]string{client: client.network(t), server: server.network(t)}

	t.Run("features", func(t *testing.T) {
		var f nft.Features
		must(t, client.Do(func() error { f = nft.Probe(); return nil }))
		if want := (nft.Features{Inet: true, FIB: true, NativeQueue: true}); f != want {
			t.Errorf("the kernel has %+v, want %+v", f, want)
		}
	})
	client.start(t)
	server.start(t)
	client.apply(t, policy([]string{"me", "me"}, server.addrs))
	server.apply(t, policy(client.addrs, []string{"me", "me"}))
	for _, port := range []string{permitted, secured, blocked} {
		server.serve(t, port)
	}
	t.Run("applied", func(t *testing.T) {
		for _, p := range []*peer{client, server} {
			var status struct{ Queue string }
			p.show(t, &status, "status")
			if status.Queue != "native" {
				t.Errorf("%s has the queue %q", p.Name, status.Queue)
			}
			p.nativeRules(t)
		}
	})
	for family, to := range server.addrs {
		name := []string{"IPv4", "IPv6"}[family]
		t.Run("permit/"+name, func(t *testing.T) {
			w := server.watch(t)
			must(t, client.ask(within(t, 20*time.Second), to, permitted, 512))
			must(t, client.transfer(within(t, time.Minute), to, permitted, transferSize))
			w.open(t, permitted, 2*transferSize)
		})
		t.Run("block/"+name, func(t *testing.T) {
			w := server.watch(t)
			client.cannot(t, to, blocked)
			w.secret(t, 0)
		})
		t.Run("negotiate/"+name, func(t *testing.T) {
			w := server.watch(t)
			must(t, client.ask(within(t, 20*time.Second), to, secured, 512))
			must(t, client.ask(within(t, 20*time.Second), to, secured, 3000))
			must(t, client.ping(within(t, 20*time.Second), client.addrs[family], to, 3000))
			must(t, client.transfer(within(t, 2*time.Minute), to, secured, transferSize))
			w.secret(t, 2*transferSize)
			agree(t, client, server, to, transferSize)
		})
		t.Run("trace/"+name, func(t *testing.T) {
			tr := client.trace(t)
			for _, tt := range []struct {
				protocol, port string
				want           []string
			}{
				{"udp", secured, []string{"egress: goto secure", "secure: queue 4950"}},
				{"tcp", secured, []string{"egress: goto secure", "secure: queue 4951"}},
				{"udp", blocked, []string{"egress: drop"}},
				{"tcp", blocked, []string{"egress: drop"}},
				{"udp", permitted, []string{"egress: accept"}},
			} {
				client.send(tt.protocol, to, tt.port)
				tr.want(t, tt.protocol, to, tt.port, tt.want)
			}
		})
	}
	to := server.addrs[0]
	t.Run("killed", func(t *testing.T) {
		client.kill()
		w := server.watch(t)
		client.cannot(t, to, secured)
		must(t, client.ask(within(t, 20*time.Second), to, permitted, 512))
		w.open(t, permitted, 1024)
		client.nativeRules(t)
	})
	t.Run("restarted", func(t *testing.T) {
		client.start(t)
		w := server.watch(t)
		must(t, client.ask(within(t, 30*time.Second), to, secured, 512))
		w.secret(t, 1024)
	})
	t.Run("torn down", func(t *testing.T) {
		client.run(t, "unapply")
		client.isAsBefore(t, empty[client])
		server.kill()
		w := server.watch(t)
		client.cannot(t, to, secured) // in clear, which the server refuses without its daemon
		w.end(t)
		if w.clear[secured] < 512 {
			t.Errorf("in clear on the wire were %v, want a datagram to port %s", w.clear, secured)
		}
		server.start(t)
		server.run(t, "unapply")
		server.isAsBefore(t, empty[server])
		for _, port := range []string{secured, blocked} {
			must(t, client.ask(within(t, 20*time.Second), to, port, 512))
		}
	})
	client.untroubled(t)
	server.untroubled(t)
}
