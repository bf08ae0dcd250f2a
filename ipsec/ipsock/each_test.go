package ipsock

import (
	"errors"
	"net"
	"testing"

	"golang.org/x/sys/unix"
)

func TestEach(t *testing.T) {
	failing := func(times int, then error) func(Batch) (int, error) {
		return func(Batch) (int, error) {
			if times--; times < 0 {
				return 0, then
			}
			return 0, unix.ECONNREFUSED
		}
	}
	for _, tt := range []struct {
		name  string
		times int
		then  error
		want  error
	}{
		{"closed", 0, net.ErrClosed, net.ErrClosed},
		{"errors of packets, then closed", maxErrors - 1, net.ErrClosed, net.ErrClosed},
		{"no socket", 3, unix.EBADF, unix.EBADF},
		{"nothing but errors", maxErrors, net.ErrClosed, unix.ECONNREFUSED},
	} {
		t.Run(tt.name, func(t *testing.T) {
			err := each(failing(tt.times, tt.then), make(Batch, 1), func(Batch) { t.Error("a batch came") })
			if !errors.Is(err, tt.want) {
				t.Errorf("error %v, want %v", err, tt.want)
			}
		})
	}
	t.Run("a packet between errors", func(t *testing.T) {
		n, got := 0, 0
		err := each(func(Batch) (int, error) {
			switch n++; {
			case n > 3*maxErrors:
				return 0, net.ErrClosed
			case n%(maxErrors/2) == 0:
				return 1, nil
			}
			return 0, unix.ECONNREFUSED
		}, make(Batch, 1), func(b Batch) { got += len(b) })
		if err != net.ErrClosed || got != 6 {
			t.Errorf("%d packets and %v", got, err)
		}
	})
}
