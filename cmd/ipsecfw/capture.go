package main

import (
	"bufio"
	"compress/gzip"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
	"github.com/gopacket/gopacket/pcapgo"

	"github.com/ipsecfw/ipsecfw/filter"
)

// frame is one packet of a capture.
type frame struct {
	packet []byte           // the IP packet as far as it was captured; nil for one of another protocol
	length int              // of what was on the wire, from the packet on
	on     filter.Interface // where it was captured, if the capture tells
}

// capture reads a file of captured packets.
type capture struct {
	read  func() ([]byte, gopacket.CaptureInfo, error)
	where func(gopacket.CaptureInfo) (layers.LinkType, string)
}

// The first bytes of the files: of a pcapng section header block, and of gzip.
const (
	ngMagic   = 0x0a0d0d0a
	gzipMagic = 0x1f8b
)

// openCapture reads the header of a capture, pcap or pcapng, packed by gzip or
// not.
func openCapture(r io.Reader) (*capture, error) {
	b := bufio.NewReader(r)
	magic, err := b.Peek(4)
	if err != nil {
		return nil, errors.New("the file is too short for a capture")
	}
	if binary.BigEndian.Uint16(magic) == gzipMagic {
		z, err := gzip.NewReader(b)
		if err != nil {
			return nil, fmt.Errorf("unpack the capture: %w", err)
		}
		b = bufio.NewReader(z)
		if magic, err = b.Peek(4); err != nil {
			return nil, errors.New("what is packed in the file is too short for a capture")
		}
	}
	if binary.BigEndian.Uint32(magic) != ngMagic {
		p, err := pcapgo.NewReader(b)
		if err != nil {
			return nil, fmt.Errorf("read the header of the capture: %w", err)
		}
		return &capture{p.ReadPacketData, func(gopacket.CaptureInfo) (layers.LinkType, string) { return p.LinkType(), "" }}, nil
	}
	p, err := pcapgo.NewNgReader(b, pcapgo.NgReaderOptions{WantMixedLinkType: true, SkipUnknownVersion: true})
	if err != nil {
		return nil, fmt.Errorf("read the header of the capture: %w", err)
	}
	return &capture{p.ReadPacketData, func(ci gopacket.CaptureInfo) (layers.LinkType, string) {
		i, err := p.Interface(ci.InterfaceIndex)
		if err != nil {
			return linkUnknown, ""
		}
		return i.LinkType, i.Name
	}}, nil
}

// each calls do for each packet of a capture file.
func each(path string, do func(frame) error) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	c, err := openCapture(f)
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	for n := 1; ; n++ {
		b, ci, err := c.read()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("%s: packet %d: %w", path, n, err)
		}
		link, name := c.where(ci)
		x, err := unwrap(link, b)
		if err != nil {
			return fmt.Errorf("%s: packet %d: %w", path, n, err)
		}
		x.length = ci.Length - (len(b) - len(x.packet))
		if name != anyInterface {
			x.on.Name = name
		}
		if err := do(x); err != nil {
			return fmt.Errorf("%s: packet %d: %w", path, n, err)
		}
	}
}

// anyInterface is what a capture on all interfaces calls them.
const anyInterface = "any"

// Link types (the LINKTYPE registry of tcpdump.org).
const (
	linkNull     layers.LinkType = 0   // BSD loopback: a family in the order of the host that wrote it
	linkEthernet layers.LinkType = 1   //
	linkRawBSD   layers.LinkType = 12  // raw IP, in files of old
	linkRawOpen  layers.LinkType = 14  // likewise, of OpenBSD
	linkRaw      layers.LinkType = 101 // raw IP
	linkLoop     layers.LinkType = 108 // OpenBSD loopback: a family in network byte order
	linkCooked   layers.LinkType = 113 // Linux cooked capture
	linkIPv4     layers.LinkType = 228
	linkIPv6     layers.LinkType = 229
	linkCooked2  layers.LinkType = 276 // Linux cooked capture, version 2
	linkUnknown  layers.LinkType = 65535
)

// Lengths of link headers, in bytes, and Ethernet's types.
const (
	nullLen     = 4
	ethernetLen = 14
	cookedLen   = 16
	cooked2Len  = 20
	tagLen      = 4

	etherIPv4 = 0x0800
	etherIPv6 = 0x86dd
	etherVLAN = 0x8100 // IEEE 802.1Q
	etherQinQ = 0x88a8 // IEEE 802.1ad
	etherOld  = 0x9100 // what switches used for the outer tag before
)

// unwrap takes the link header off. A frame that is too short, or of no IP, has
// no packet.
func unwrap(link layers.LinkType, b []byte) (x frame, err error) {
	inside := func(header int, kind uint16) []byte {
		b := b[header:]
		for kind == etherVLAN || kind == etherQinQ || kind == etherOld {
			if len(b) < tagLen {
				return nil
			}
			kind, b = binary.BigEndian.Uint16(b[2:]), b[tagLen:]
		}
		if kind != etherIPv4 && kind != etherIPv6 {
			return nil
		}
		return b
	}
	switch link {
	case linkEthernet:
		if len(b) >= ethernetLen {
			x.packet = inside(ethernetLen, binary.BigEndian.Uint16(b[12:]))
		}
	case linkCooked:
		if len(b) >= cookedLen {
			x.packet = inside(cookedLen, binary.BigEndian.Uint16(b[14:]))
			x.on.Remote = filter.RemoteLink(binary.BigEndian.Uint16(b[2:]))
		}
	case linkCooked2:
		if len(b) >= cooked2Len {
			x.packet = inside(cooked2Len, binary.BigEndian.Uint16(b))
			x.on.Remote = filter.RemoteLink(binary.BigEndian.Uint16(b[8:]))
		}
	case linkNull, linkLoop:
		// The families differ from system to system; the packet tells its own.
		if len(b) > nullLen && (b[nullLen]>>4 == 4 || b[nullLen]>>4 == 6) {
			x.packet = b[nullLen:]
		}
	case linkRaw, linkRawBSD, linkRawOpen, linkIPv4, linkIPv6:
		x.packet, x.on.Remote = b, true
	default:
		return x, fmt.Errorf("the link type %d is not known: capture on an Ethernet, on \"any\", or on a raw IP interface", link)
	}
	return x, nil
}
