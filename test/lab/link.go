package lab

import (
	"fmt"
	"unsafe"

	"golang.org/x/sys/unix"
)

// MTU sets the MTU of an interface, in bytes.
func (h *Host) MTU(ifname string, mtu int) error {
	link, err := h.nl.LinkByName(ifname)
	if err == nil {
		err = h.nl.LinkSetMTU(link, mtu)
	}
	if err != nil {
		return fmt.Errorf("lab: setting the MTU of %s in %s: %w", ifname, h.Name, err)
	}
	return nil
}

// Commands of SIOCETHTOOL that set an offload (linux/ethtool.h).
const (
	setTXChecksum = 0x17
	setTSO        = 0x1f
	setGSO        = 0x24
	setGRO        = 0x2c
)

// NoOffloads turns off what an interface and the stack do together: what leaves
// by it has its checksum and its last size, and what comes is not merged.
func (h *Host) NoOffloads(ifname string) error {
	return h.Do(func() error {
		fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		for _, command := range []uint32{setTSO, setGSO, setGRO, setTXChecksum} {
			value := struct{ command, value uint32 }{command, 0}
			request := struct {
				name [unix.IFNAMSIZ]byte
				data unsafe.Pointer
				_    [16]byte
			}{data: unsafe.Pointer(&value)}
			copy(request.name[:unix.IFNAMSIZ-1], ifname)
			if _, _, e := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), unix.SIOCETHTOOL, uintptr(unsafe.Pointer(&request))); e != 0 {
				return fmt.Errorf("lab: turning off offload %#x of %s in %s: %w", command, ifname, h.Name, e)
			}
		}
		return nil
	})
}
