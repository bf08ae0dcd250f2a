package packet

import "testing"

func TestEnRoute(t *testing.T) {
	type header struct {
		kind byte
		size int
	}
	for _, tt := range []struct {
		name    string
		headers []header
		length  int
		nextAt  int
	}{
		{"none", nil, 40, 6},
		{"hop-by-hop", []header{{hopByHop, 8}}, 48, 40},
		{"destination", []header{{destOptions, 16}}, 40, 6},
		{"hop-by-hop, destination", []header{{hopByHop, 16}, {destOptions, 8}}, 56, 40},
		{"destination, routing, destination", []header{{destOptions, 8}, {routing, 24}, {destOptions, 8}}, 72, 48},
		{"all", []header{{hopByHop, 8}, {destOptions, 8}, {routing, 8}, {fragment, 8}, {destOptions, 8}}, 72, 64},
		{"routing, last", []header{{hopByHop, 8}, {routing, 16}}, 64, 48},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var body []byte
			for i, h := range tt.headers {
				b := make([]byte, h.size)
				b[0], b[1] = UDP, byte(h.size/8-1)
				if i+1 < len(tt.headers) {
					b[0] = tt.headers[i+1].kind
				}
				if h.kind != routing && h.kind != fragment {
					for at := 2; at < h.size; at++ {
						b[at] = 0 // Pad1
					}
				}
				body = append(body, b...)
			}
			body = append(body, 0, 1, 0, 2, 0, 8, 0, 0)
			first := byte(UDP)
			if len(tt.headers) > 0 {
				first = tt.headers[0].kind
			}
			b := append(AppendIPv6Header(nil, addr6a, addr6b, first, 0, 64, len(body)), body...)
			var p Packet
			if err := Parse(b, &p); err != nil {
				t.Fatal(err)
			}
			if length, at := EnRoute(b, &p); length != tt.length || at != tt.nextAt {
				t.Errorf("%d bytes, protocol at %d; want %d and %d", length, at, tt.length, tt.nextAt)
			}
		})
	}
	var p Packet
	b := options4(datagram(false, 4), []byte{1, 1, 1, 1})
	if err := Parse(b, &p); err != nil {
		t.Fatal(err)
	}
	if length, at := EnRoute(b, &p); length != 24 || at != 9 {
		t.Errorf("IPv4 with options: %d bytes, protocol at %d", length, at)
	}
}
