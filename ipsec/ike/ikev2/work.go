package ikev2

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"fmt"
	"io"
	"time"

	"github.com/ipsecfw/ipsecfw/ipsec/ike"
)

// job is a Work on its way. An IKE SA has one at a time, before its peer is
// authenticated.
type job struct {
	last uint64                 // the number of the Work that was given last
	then func(result any) error // nil when none is under way
}

// workTime is how long a signature may take, or the look at the peer's, with
// what other hosts are asked for it.
const workTime = 30 * time.Second

// work has something slow done, and then goes on with its result, or with lost
// if this host has too much to do. What it does runs on another goroutine: it
// must have copies of all it needs.
func work[T any](s *SA, do func(context.Context) T, then func(T) error, lost func(error) error) {
	s.job.last++
	s.job.then = func(result any) error {
		if r, ok := result.(T); ok {
			return then(r)
		}
		err, ok := result.(error)
		if !ok {
			err = fmt.Errorf("a Work came back with a %T", result)
		}
		return lost(err)
	}
	s.emit(ike.Work{ID: s.job.last, Do: func(ctx context.Context) any { return do(ctx) }})
}

// done goes on with the result of the Work under way. That of another one
// comes too late: the attempt that wanted it was given up.
func (s *SA) done(d ike.Done) error {
	then := s.job.then
	if then == nil || d.ID != s.job.last {
		return fmt.Errorf("%w: the result of a Work that nobody waits for", errIgnored)
	}
	s.job.then = nil
	return then(d.Result)
}

// source returns randomness for a Work, which must not share the machine's
// with the machine: the key stream of AES-256 in counter mode, under a key that
// serves for nothing else.
func (s *SA) source() (io.Reader, error) {
	key, err := s.random(32)
	if err != nil {
		return nil, err
	}
	defer clear(key)
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	return cipher.StreamReader{S: cipher.NewCTR(block, make([]byte, aes.BlockSize)), R: zeros{}}, nil
}

// zeros reads as zeros without end.
type zeros struct{}

// Read fills b.
func (zeros) Read(b []byte) (int, error) {
	clear(b)
	return len(b), nil
}
