package wire

import (
	"encoding/binary"
	"fmt"
)

// cursor reads a part of a message from its front and knows where it stands,
// so that an error can say where it is.
type cursor struct {
	payload PayloadType
	off     int // of rest in the message
	rest    []byte
}

func (c *cursor) fail(format string, args ...any) error {
	return &Error{Payload: c.payload, Offset: c.off, Reason: fmt.Sprintf(format, args...)}
}

// take returns the next n bytes; nil for none. Their capacity ends with them,
// so that appending to a field cannot overwrite the one behind it.
func (c *cursor) take(n int) ([]byte, error) {
	if n > len(c.rest) {
		return nil, c.fail("%d bytes are wanted, %d are left", n, len(c.rest))
	}
	if n == 0 {
		return nil, nil
	}
	b := c.rest[:n:n]
	c.off += n
	c.rest = c.rest[n:]
	return b, nil
}

// takeRest returns all bytes that are left; nil for none.
func (c *cursor) takeRest() []byte {
	b, _ := c.take(len(c.rest)) // as many as there are
	return b
}

// structure takes a structure that begins with a fixed part of fixed bytes,
// in which bytes 2 and 3 are the length of the whole. It returns the fixed
// part, and a cursor over what follows it.
func (c *cursor) structure(fixed int) (head []byte, body cursor, err error) {
	body = *c
	if head, err = body.take(fixed); err != nil {
		return nil, body, err
	}
	n := int(binary.BigEndian.Uint16(head[2:]))
	switch {
	case n < fixed:
		return nil, body, c.fail("length %d is shorter than the %d bytes before the content", n, fixed)
	case n > len(c.rest):
		return nil, body, c.fail("length %d, but %d bytes are left", n, len(c.rest))
	}
	body.rest = body.rest[:n-fixed]
	_, err = c.take(n)
	return head, body, err
}

// end returns an error when bytes are left.
func (c *cursor) end() error {
	if len(c.rest) != 0 {
		return c.fail("%d bytes follow the end", len(c.rest))
	}
	return nil
}
