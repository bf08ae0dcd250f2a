package nfq

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"sync"

	"golang.org/x/sys/unix"
)

// virtioLen is the length of the header before each packet of the device
// (VIRTIO 1.2 section 5.1.6, without num_buffers).
const virtioLen = 10

// Values of that header.
const (
	virtioNeedsChecksum = 1
	virtioGSOTCP4       = 1
	virtioGSOTCP6       = 4
)

// TUN is the device by which clear packets get into the host's stack. What
// the stack sends to it goes nowhere.
type TUN struct {
	file *os.File
	bufs sync.Pool // of *[]byte
}

// ErrInUse says that another process has the device.
var ErrInUse = errors.New("another ipsecfw daemon runs in this network namespace")

// OpenTUN makes the device, which is gone when the TUN is closed or the
// process ends. Route has to configure it. The error wraps ErrInUse while
// another process has it.
func OpenTUN(name string) (*TUN, error) {
	fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, fmt.Errorf("open /dev/net/tun: %w; it needs root and the kernel's TUN", err)
	}
	ifr, err := unix.NewIfreq(name)
	if err == nil {
		ifr.SetUint16(unix.IFF_TUN | unix.IFF_NO_PI | unix.IFF_VNET_HDR)
		err = unix.IoctlIfreq(fd, unix.TUNSETIFF, ifr)
	}
	if err == nil {
		err = unix.IoctlSetInt(fd, unix.TUNSETOFFLOAD, unix.TUN_F_CSUM|unix.TUN_F_TSO4|unix.TUN_F_TSO6)
	}
	if err != nil {
		unix.Close(fd)
		if errors.Is(err, unix.EBUSY) {
			err = ErrInUse
		}
		return nil, fmt.Errorf("make the device %s: %w", name, err)
	}
	t := &TUN{file: os.NewFile(uintptr(fd), name)}
	t.bufs.New = func() any { b := make([]byte, 0, virtioLen+maxPacket); return &b }
	return t, nil
}

// Close removes the device.
func (t *TUN) Close() error { return t.file.Close() }

// Inject implements Injector.
func (t *TUN) Inject(pkt []byte, gsoSize, hdrLen, csumStart, csumOffset int) error {
	buf := t.bufs.Get().(*[]byte)
	defer t.bufs.Put(buf)
	var h [virtioLen]byte
	if gsoSize > 0 {
		h[0] = virtioNeedsChecksum
		h[1] = virtioGSOTCP4
		if pkt[0]>>4 == 6 {
			h[1] = virtioGSOTCP6
		}
		binary.NativeEndian.PutUint16(h[2:], uint16(hdrLen))
		binary.NativeEndian.PutUint16(h[4:], uint16(gsoSize))
		binary.NativeEndian.PutUint16(h[6:], uint16(csumStart))
		binary.NativeEndian.PutUint16(h[8:], uint16(csumOffset))
	}
	*buf = append(append((*buf)[:0], h[:]...), pkt...)
	if _, err := t.file.Write(*buf); err != nil {
		return fmt.Errorf("give a packet of %d bytes to the stack: %w", len(pkt), err)
	}
	return nil
}
