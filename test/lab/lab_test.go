package lab

import (
	"context"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
)

// pair is two hosts on one cable.
func pair(t *testing.T) (n *Net, a, b *Host) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("network namespaces need root")
	}
	n, err := New("lab-test")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := n.Close(); err != nil {
			t.Error(err)
		}
	})
	if a, err = n.Host("a"); err != nil {
		t.Fatal(err)
	}
	if b, err = n.Host("b"); err != nil {
		t.Fatal(err)
	}
	err = n.Link(a, b, "eth0", "eth1", []string{"192.0.2.1/24", "2001:db8::1/64"}, []string{"192.0.2.2/24", "2001:db8::2/64"})
	if err != nil {
		t.Fatal(err)
	}
	return n, a, b
}

func TestCaptureSeesAConversation(t *testing.T) {
	_, a, b := pair(t)
	for _, addr := range []string{"192.0.2.2", "2001:db8::2"} {
		t.Run(addr, func(t *testing.T) {
			var out, in int
			capture, err := a.Capture("eth0", func(p []byte, outgoing bool) {
				kind, parsed := Classify(p)
				switch {
				case kind != Clear || parsed.Protocol != 6:
				case outgoing && parsed.Dst == netip.MustParseAddr(addr) && parsed.DstPort == 8443:
					out++
				case !outgoing && parsed.Src == netip.MustParseAddr(addr) && parsed.SrcPort == 8443:
					in++
				}
			})
			if err != nil {
				t.Fatal(err)
			}
			listener, err := b.Listen("tcp", net.JoinHostPort(addr, "8443"))
			if err != nil {
				t.Fatal(err)
			}
			defer listener.Close()
			go func() {
				if c, err := listener.Accept(); err == nil {
					io.WriteString(c, "hello")
					c.Close()
				}
			}()
			c, err := a.Dial(context.Background(), "tcp", listener.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			got, err := io.ReadAll(c)
			c.Close()
			if err != nil || string(got) != "hello" {
				t.Errorf("read %q, %v", got, err)
			}
			if err := capture.Close(); err != nil {
				t.Error(err)
			}
			if out < 3 || in < 2 {
				t.Errorf("captured %d packets out and %d in; a conversation has more", out, in)
			}
		})
	}
}

func TestCommandRunsInItsHost(t *testing.T) {
	_, a, _ := pair(t)
	home, err := os.Readlink("/proc/self/ns/net")
	if err != nil {
		t.Fatal(err)
	}
	out, err := a.Command("readlink", "/proc/self/ns/net").Output()
	if err != nil {
		t.Fatal(err)
	}
	if got := strings.TrimSpace(string(out)); got == home || !strings.HasPrefix(got, "net:[") {
		t.Errorf("the process is in %q, the test in %q", got, home)
	}
	if after, _ := os.Readlink("/proc/thread-self/ns/net"); after != home {
		t.Errorf("the test moved from %q to %q", home, after)
	}
}

func TestNewSweepsWhatTheDeadLeft(t *testing.T) {
	n, a, _ := pair(t)
	dead := exec.Command("true")
	if err := dead.Run(); err != nil {
		t.Fatal(err)
	}
	orphan := &Net{prefix: "lab-test-" + strconv.Itoa(dead.Process.Pid) + "-"}
	if _, err := orphan.Host("x"); err != nil {
		t.Fatal(err)
	}
	if _, err := New("lab-test"); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(names + "/" + orphan.hosts[0].Namespace); !os.IsNotExist(err) {
		t.Errorf("the namespace of a dead process is still there: %v", err)
	}
	if _, err := os.Stat(names + "/" + a.Namespace); err != nil {
		t.Errorf("the namespace of a living process is gone from %s: %v", n.prefix, err)
	}
}

func TestRouterForwards(t *testing.T) {
	n, a, b := pair(t)
	c, err := n.Host("c")
	if err != nil {
		t.Fatal(err)
	}
	if err := n.Link(b, c, "eth2", "eth0", []string{"198.51.100.1/24"}, []string{"198.51.100.2/24"}); err != nil {
		t.Fatal(err)
	}
	if err := b.Forwarding(); err != nil {
		t.Fatal(err)
	}
	if err := a.Route("default", "192.0.2.2"); err != nil {
		t.Fatal(err)
	}
	if err := c.Route("192.0.2.0/24", "198.51.100.1"); err != nil {
		t.Fatal(err)
	}
	server, err := c.ListenPacket("udp", "198.51.100.2:53")
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	client, err := a.Dial(context.Background(), "udp", "198.51.100.2:53")
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	if _, err := client.Write([]byte("question")); err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 64)
	size, from, err := server.ReadFrom(buf)
	if err != nil || string(buf[:size]) != "question" || !strings.HasPrefix(from.String(), "192.0.2.1:") {
		t.Errorf("got %q from %v, %v", buf[:size], from, err)
	}
}

func TestClassify(t *testing.T) {
	datagram := func(src, dst uint16, payload ...byte) []byte {
		b := append([]byte{0x45, 19: 0}, byte(src>>8), byte(src), byte(dst>>8), byte(dst), 0, byte(8+len(payload)), 0, 0)
		b = append(b, payload...)
		b[3], b[9] = byte(len(b)), 17
		return b
	}
	proto50 := append([]byte{0x45, 3: 28, 9: 50, 19: 0}, 0, 0, 1, 0, 0, 0, 0, 1)
	for _, tt := range []struct {
		name string
		b    []byte
		want Kind
	}{
		{"protocol 50", proto50, ESP},
		{"port 500", datagram(500, 500, 1, 2, 3, 4, 5, 6, 7, 8), IKE},
		{"port 4500 with non-ESP marker", datagram(4500, 4500, 0, 0, 0, 0, 5, 6, 7, 8), IKE},
		{"port 4500 with SPI", datagram(61000, 4500, 0, 0, 1, 0, 0, 0, 0, 1), ESP},
		{"NAT keepalive", datagram(4500, 4500, 0xff), IKE},
		{"port 4500 with nothing", datagram(4500, 4500), Clear},
		{"another port", datagram(4501, 53, 0, 0, 1, 0, 0, 0, 0, 1), Clear},
		{"not IP", []byte("hello"), Clear},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got, _ := Classify(tt.b); got != tt.want {
				t.Errorf("Classify = %v, want %v", got, tt.want)
			}
		})
	}
}
