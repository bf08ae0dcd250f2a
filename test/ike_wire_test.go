package test

import (
	"encoding/binary"
	"net/netip"
	"slices"
	"sync"
	"testing"

	"github.com/ipsecfw/ipsecfw/test/lab"
)

// ikeMessage is one of IKE, or a fragment of one, as the wire shows it
// (RFC 7296 section 3.1). Numbers are those of the IANA registry.
type ikeMessage struct {
	from     netip.Addr
	exchange byte // 34 is IKE_SA_INIT, 35 IKE_AUTH, 43 IKE_INTERMEDIATE
	response bool
	payload  byte // the first: 46 is an encrypted message, 53 a fragment of one
	data     []byte
}

// ikeWire keeps the messages of IKE that pass an interface.
type ikeWire struct {
	capture *lab.Capture
	mu      sync.Mutex
	list    []ikeMessage
}

func watchIKE(t *testing.T, h *lab.Host, ifname string) *ikeWire {
	t.Helper()
	w := new(ikeWire)
	var err error
	w.capture, err = h.Capture(ifname, func(b []byte, _ bool) {
		kind, p := lab.Classify(b)
		if kind != lab.IKE || p.FragmentOffset > 0 {
			return
		}
		data := slices.Clone(b[p.HeaderLen+8:])
		if p.DstPort == 4500 || p.SrcPort == 4500 {
			data = data[min(4, len(data)):]
		}
		if len(data) < 28 {
			return
		}
		w.mu.Lock()
		defer w.mu.Unlock()
		w.list = append(w.list, ikeMessage{p.Src, data[18], data[19]&0x20 != 0, data[16], data})
	})
	must(t, err)
	return w
}

// messages returns those of an exchange that passed until now.
func (w *ikeWire) messages(exchange byte) (list []ikeMessage) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, m := range w.list {
		if m.exchange == exchange {
			list = append(list, m)
		}
	}
	return list
}

func (w *ikeWire) end(t *testing.T) {
	t.Helper()
	if err := w.capture.Close(); err != nil {
		t.Error(err)
	}
}

// payloads calls f with each payload of a message in clear, by its type
// (RFC 7296 section 3.2).
func (m ikeMessage) payloads(f func(kind byte, body []byte)) {
	kind, rest := m.payload, m.data[28:]
	for kind != 0 && len(rest) >= 4 {
		n := int(binary.BigEndian.Uint16(rest[2:]))
		if n < 4 || n > len(rest) {
			return
		}
		next := rest[0]
		f(kind, rest[4:n])
		kind, rest = next, rest[n:]
	}
}

// transform is one of a proposal (RFC 7296 section 3.3.2).
type transform struct {
	proposal int // counted from 0
	kind     byte
	id       uint16
}

// transforms returns those of the SA payload, which is of type 33.
func (m ikeMessage) transforms() (list []transform) {
	m.payloads(func(kind byte, body []byte) {
		if kind != 33 {
			return
		}
		for n := 0; len(body) >= 8; n++ {
			size, spi, left := int(binary.BigEndian.Uint16(body[2:])), int(body[6]), int(body[7])
			for t := body[8+spi : size]; left > 0; left-- {
				list = append(list, transform{n, t[4], binary.BigEndian.Uint16(t[6:])})
				t = t[binary.BigEndian.Uint16(t[2:]):]
			}
			body = body[size:]
		}
	})
	return list
}

// has reports whether some proposal has a transform.
func has(list []transform, kind byte, id uint16) bool {
	return slices.ContainsFunc(list, func(t transform) bool { return t.kind == kind && t.id == id })
}

// notifies reports whether a message has a notification, which is a payload of
// type 41.
func (m ikeMessage) notifies(number uint16) (found bool) {
	m.payloads(func(kind byte, body []byte) {
		found = found || kind == 41 && len(body) >= 4 && binary.BigEndian.Uint16(body[2:]) == number
	})
	return found
}
