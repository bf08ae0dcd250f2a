package main

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
)

// vici is a connection with strongSwan's daemon, by its "Versatile IKE
// Configuration Interface": packets with a length of four bytes before them, in
// which a request and its answer, or an event, is a list of names with values.
// Commands are for one goroutine.
type vici struct {
	conn    net.Conn
	answers chan viciPacket
	// stands has nil for each IKE SA that is established, and an error for each
	// that ends. It is closed when the connection ends.
	stands chan error
}

type viciPacket struct {
	kind    byte
	content []byte
}

// The kinds of packets and of elements in them.
const (
	viciRequest, viciResponse, viciRegister, viciConfirm, viciEvent byte = 0, 1, 3, 5, 7

	viciSectionStart, viciSectionEnd, viciKeyValue, viciListStart, viciListItem, viciListEnd byte = 1, 2, 3, 4, 5, 6
)

// maxVici is the longest packet that the daemon sends or takes, in bytes.
const maxVici = 512 << 10

// viciField is a name with its value: a string, a list of strings, or a
// viciMessage.
type viciField struct {
	name  string
	value any
}

type viciMessage []viciField

var errEnded = errors.New("an IKE SA of charon has ended")

// dialVici connects, and asks to be told of IKE SAs: of so many that nobody has
// taken from stands yet.
func dialVici(path string, events int) (*vici, error) {
	conn, err := net.Dial("unix", path)
	if err != nil {
		return nil, err
	}
	v := &vici{conn: conn, answers: make(chan viciPacket, 1), stands: make(chan error, events)}
	go v.read()
	if err := v.send(viciRegister, "ike-updown", nil); err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	if p, ok := <-v.answers; !ok || p.kind != viciConfirm {
		return nil, errors.Join(errors.New("charon does not tell when an IKE SA stands"), conn.Close())
	}
	return v, nil
}

func (v *vici) close() error { return v.conn.Close() }

// read sorts what comes.
func (v *vici) read() {
	defer close(v.stands)
	defer close(v.answers)
	for {
		var size [4]byte
		if _, err := io.ReadFull(v.conn, size[:]); err != nil {
			return
		}
		n := binary.BigEndian.Uint32(size[:])
		if n == 0 || n > maxVici {
			return
		}
		b := make([]byte, n)
		if _, err := io.ReadFull(v.conn, b); err != nil {
			return
		}
		p := viciPacket{b[0], b[1:]}
		if p.kind != viciEvent {
			v.answers <- p
			continue
		}
		_, event, _ := cut(p.content, 1) // there is but one that it was asked for
		if viciValue(event, "up") == "yes" {
			v.stands <- nil
		} else {
			v.stands <- errEnded
		}
	}
}

func (v *vici) send(kind byte, name string, m viciMessage) error {
	b := append([]byte{0, 0, 0, 0, kind}, short(name)...)
	b = m.append(b)
	binary.BigEndian.PutUint32(b, uint32(len(b)-4))
	_, err := v.conn.Write(b)
	return err
}

// command has the daemon do something. Those that the bench uses answer with
// their success.
func (v *vici) command(name string, m viciMessage) error {
	if err := v.send(viciRequest, name, m); err != nil {
		return fmt.Errorf("vici: %s: %w", name, err)
	}
	p, ok := <-v.answers
	switch {
	case !ok:
		return fmt.Errorf("vici: %s: charon has ended", name)
	case p.kind != viciResponse:
		return fmt.Errorf("vici: charon knows no command %q", name)
	case viciValue(p.content, "success") != "yes":
		return fmt.Errorf("vici: %s: %s", name, viciValue(p.content, "errmsg"))
	}
	return nil
}

// short returns a name with its length before it.
func short(name string) []byte { return append([]byte{byte(len(name))}, name...) }

// append writes the message behind b.
func (m viciMessage) append(b []byte) []byte {
	long := func(s string) []byte { return append(binary.BigEndian.AppendUint16(nil, uint16(len(s))), s...) }
	for _, f := range m {
		name := short(f.name)
		switch v := f.value.(type) {
		case string:
			b = append(append(append(b, viciKeyValue), name...), long(v)...)
		case []string:
			b = append(append(b, viciListStart), name...)
			for _, s := range v {
				b = append(append(b, viciListItem), long(s)...)
			}
			b = append(b, viciListEnd)
		case viciMessage:
			b = append(append(b, viciSectionStart), name...)
			b = append(v.append(b), viciSectionEnd)
		}
	}
	return b
}

// viciValue returns the value with a name that stands in no section, or
// nothing.
func viciValue(b []byte, want string) string {
	for depth := 0; len(b) > 0; {
		kind := b[0]
		b = b[1:]
		var name, value []byte
		ok := true
		switch kind {
		case viciSectionStart:
			depth++
			_, b, ok = cut(b, 1)
		case viciSectionEnd:
			depth--
		case viciListStart:
			_, b, ok = cut(b, 1)
		case viciListItem:
			_, b, ok = cut(b, 2)
		case viciListEnd:
		case viciKeyValue:
			if name, b, ok = cut(b, 1); ok {
				value, b, ok = cut(b, 2)
			}
			if ok && depth == 0 && string(name) == want {
				return string(value)
			}
		default:
			return ""
		}
		if !ok {
			return ""
		}
	}
	return ""
}

// cut splits off what has its length before it, in so many bytes.
func cut(b []byte, size int) (content, rest []byte, ok bool) {
	if len(b) < size {
		return nil, nil, false
	}
	n := 0
	for _, x := range b[:size] {
		n = n<<8 | int(x)
	}
	if b = b[size:]; len(b) < n {
		return nil, nil, false
	}
	return b[:n], b[n:], true
}
