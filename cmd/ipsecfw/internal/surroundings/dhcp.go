package surroundings

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"time"
)

// parseServer reads the address of a server: IPv4, of one host.
func parseServer(s string) (netip.Addr, error) {
	a, err := netip.ParseAddr(s)
	if err != nil {
		return netip.Addr{}, err
	}
	if _, ok := unicast(a); !ok || !a.Is4() {
		return netip.Addr{}, fmt.Errorf("%s is not the IPv4 address of a server", a)
	}
	return a, nil
}

// parseNetworkd reads the lease of systemd-networkd, and of the client that
// NetworkManager took from it: variables, one a line. The file does not say
// when the lease ends; it goes with it.
func parseNetworkd(content []byte, _ time.Time) ([]lease, error) {
	for line := range strings.Lines(string(content)) {
		value, ok := strings.CutPrefix(strings.TrimSpace(line), "SERVER_ADDRESS=")
		if !ok {
			continue
		}
		server, err := parseServer(strings.Trim(value, `"`))
		if err != nil {
			return nil, fmt.Errorf("SERVER_ADDRESS: %w", err)
		}
		return []lease{{server: server}}, nil
	}
	return nil, nil
}

// parseDevice reads the state that NetworkManager keeps of a device: a key
// file, with a group for what DHCP said.
func parseDevice(content []byte, _ time.Time) ([]lease, error) {
	var l lease
	group := ""
	for line := range strings.Lines(string(content)) {
		line = strings.TrimSpace(line)
		if strings.HasPrefix(line, "[") {
			group = line
		}
		key, value, _ := strings.Cut(line, "=")
		if group != "[dhcp4]" {
			continue
		}
		var err error
		switch strings.TrimSpace(key) {
		case "dhcp4.dhcp_server_identifier":
			l.server, err = parseServer(strings.TrimSpace(value))
		case "dhcp4.expiry":
			l.expiry, err = parseEpoch(strings.TrimSpace(value))
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %w", key, err)
		}
	}
	if !l.server.IsValid() {
		return nil, nil
	}
	return []lease{l}, nil
}

// parseEpoch reads seconds since 1970.
func parseEpoch(s string) (time.Time, error) {
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil || n < 0 {
		return time.Time{}, fmt.Errorf("%q is not a time in seconds", s)
	}
	return time.Unix(n, 0), nil
}

// Of a DHCP message (RFC 2131 section 2), in bytes from its start.
const (
	serverName    = 44
	bootFile      = 108
	magicCookie   = 236
	optionsOffset = 240
)

// Options (RFC 2132).
const (
	optionPad      = 0
	optionLease    = 51
	optionOverload = 52
	optionType     = 53
	optionServer   = 54
	optionEnd      = 255
)

// forever is a lease time without end (RFC 2131 section 3.3).
const forever = 1<<32 - 1

// parseDhcpcd reads the lease of dhcpcd: the server's message as it came. The
// lease begins when the file was written.
func parseDhcpcd(content []byte, written time.Time) ([]lease, error) {
	options, err := parseOptions(content)
	if err != nil {
		return nil, err
	}
	if len(options[optionServer]) == 0 {
		return nil, nil // BOOTP (RFC 951) names none
	}
	if kind := options[optionType]; !bytes.Equal(kind, []byte{5}) {
		return nil, fmt.Errorf("the message is no DHCPACK: type % x", kind)
	}
	if n := len(options[optionServer]); n != 4 {
		return nil, fmt.Errorf("the server identifier has %d bytes, not 4", n)
	}
	var l lease
	if l.server, err = parseServer(netip.AddrFrom4([4]byte(options[optionServer])).String()); err != nil {
		return nil, err
	}
	if t, ok := options[optionLease]; ok {
		if len(t) != 4 {
			return nil, fmt.Errorf("the lease time has %d bytes, not 4", len(t))
		}
		if s := binary.BigEndian.Uint32(t); s != forever {
			l.expiry = written.Add(time.Duration(s) * time.Second)
		}
	}
	return []lease{l}, nil
}

// parseOptions returns the options of a reply by their code, those that are
// in several pieces put together (RFC 3396).
func parseOptions(msg []byte) (map[byte][]byte, error) {
	if len(msg) < optionsOffset {
		return nil, fmt.Errorf("a DHCP message of %d bytes: it has at least %d", len(msg), optionsOffset)
	}
	if msg[0] != 2 {
		return nil, fmt.Errorf("a BOOTP message of type %d, not a reply", msg[0])
	}
	if c := msg[magicCookie:optionsOffset]; !bytes.Equal(c, []byte{99, 130, 83, 99}) {
		return nil, fmt.Errorf("not the magic cookie of DHCP: % x", c)
	}
	options := make(map[byte][]byte)
	if err := addOptions(options, msg[optionsOffset:]); err != nil {
		return nil, err
	}
	overload, ok := options[optionOverload]
	if !ok {
		return options, nil
	}
	if len(overload) != 1 || overload[0] < 1 || overload[0] > 3 {
		return nil, fmt.Errorf("option overload % x: it is 1, 2 or 3", overload)
	}
	if overload[0]&1 != 0 {
		if err := addOptions(options, msg[bootFile:magicCookie]); err != nil {
			return nil, fmt.Errorf("in the field of the boot file: %w", err)
		}
	}
	if overload[0]&2 != 0 {
		if err := addOptions(options, msg[serverName:bootFile]); err != nil {
			return nil, fmt.Errorf("in the field of the server's name: %w", err)
		}
	}
	return options, nil
}

func addOptions(options map[byte][]byte, field []byte) error {
	for len(field) > 0 {
		code := field[0]
		field = field[1:]
		switch code {
		case optionPad:
			continue
		case optionEnd:
			return nil
		}
		if len(field) == 0 || len(field)-1 < int(field[0]) {
			return fmt.Errorf("option %d is cut off", code)
		}
		n := int(field[0])
		options[code] = append(options[code], field[1:1+n]...)
		field = field[1+n:]
	}
	return errors.New("the options have no end")
}
