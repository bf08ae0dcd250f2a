package ike

import (
	"bytes"
	"net/netip"
	"testing"
	"time"

	"github.com/ipsecfw/ipsecfw/ipsec/ike/wire"
)

// counter is a source of randomness that counts up, so that secrets differ.
type counter byte

func (c *counter) Read(b []byte) (int, error) {
	for i := range b {
		*c++
		b[i] = byte(*c)
	}
	return len(b), nil
}

func TestCookies(t *testing.T) {
	peer := netip.MustParseAddrPort("192.0.2.1:500")
	request := func(cookie []byte, nonce byte) []byte {
		ps := []wire.Payload{&wire.Nonce{Data: bytes.Repeat([]byte{nonce}, 16)}}
		if cookie != nil {
			ps = append([]wire.Payload{&wire.Notify{Kind: wire.Cookie, Data: cookie}}, ps...)
		}
		b, err := wire.Encode(wire.Header{SPIi: 7, Version: wire.Version2, Exchange: wire.IKESAInit, Initiator: true}, ps)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	t0 := time.Unix(1000, 0)
	for _, tt := range []struct {
		name   string
		later  time.Duration
		from   netip.AddrPort
		nonce  byte
		change func([]byte) []byte
		ok     bool
	}{
		{"at once", 0, peer, 1, nil, true},
		{"with the secret before", 31 * time.Second, peer, 1, nil, true},
		{"too late", 5 * time.Minute, peer, 1, nil, false},
		{"from another address", 0, netip.MustParseAddrPort("192.0.2.2:500"), 1, nil, false},
		{"from another port", 0, netip.MustParseAddrPort("192.0.2.1:501"), 1, nil, false},
		{"with another nonce", 0, peer, 2, nil, false},
		{"changed", 0, peer, 1, func(b []byte) []byte { b[9] ^= 1; return b }, false},
		{"cut", 0, peer, 1, func(b []byte) []byte { return b[:20] }, false},
		{"of a secret to come", 0, peer, 1, func(b []byte) []byte { b[3]++; return b }, false},
		{"of the secret that never was", 0, peer, 1, func(b []byte) []byte { b[3]--; return b }, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := NewCookies(new(counter))
			ok, answer, err := c.Check(t0, peer, request(nil, 1))
			if ok || err != nil {
				t.Fatalf("without a cookie: %v, %v", ok, err)
			}
			h, ps, err := wire.Decode(answer)
			n, found := wire.FindNotify(ps, wire.Cookie)
			if err != nil || !found || !h.Response || h.SPIi != 7 || h.SPIr != 0 || len(ps) != 1 {
				t.Fatalf("answer %+v %v: %v", h, ps, err)
			}
			cookie := n.Data
			if tt.change != nil {
				cookie = tt.change(bytes.Clone(cookie))
			}
			ok, answer, err = c.Check(t0.Add(tt.later), tt.from, request(cookie, tt.nonce))
			if ok != tt.ok || err != nil || (answer == nil) != ok {
				t.Errorf("accepted %v, want %v; answer of %d bytes, error %v", ok, tt.ok, len(answer), err)
			}
		})
	}
	if _, _, err := NewCookies(new(counter)).Check(t0, peer, []byte("noise")); err == nil {
		t.Error("noise is no error")
	}
}
