package ah

import "encoding/binary"

// appendCovered appends an IP header, with its options or extension headers, as
// the ICV covers it: what changes on the way is zero, and what changes
// predictably is as it arrives (RFC 4302 section 3.3.3.1). A header that is to
// be sent may be source-routed still. It reports false for one that is malformed
// or that of a fragment, and for one whose length is not headerLen.
func appendCovered(dst, header []byte, sending bool) (covered []byte, ok bool) {
	at := len(dst)
	dst = append(dst, header...)
	h := dst[at:]
	switch {
	case len(h) >= 20 && h[0]>>4 == 4 && int(h[0]&0xf)*4 == len(h):
		return dst, cover4(h, sending)
	case len(h) >= 40 && h[0]>>4 == 6:
		n, ok := cover6(h, sending)
		return dst[:at+n], ok
	}
	return dst, false
}

// cover4 covers an IPv4 header.
func cover4(h []byte, sending bool) (ok bool) {
	if h[6]&0x3f != 0 || h[7] != 0 {
		return false // a fragment: AH is of whole packets (RFC 4302 section 3.4.1)
	}
	h[1] = 0                              // DSCP and ECN
	clear(h[6:9])                         // flags, fragment offset, TTL
	binary.BigEndian.PutUint16(h[10:], 0) // checksum
	for opts := h[20:]; len(opts) > 0 && opts[0] != optionEnd; {
		if opts[0] == optionNop {
			opts = opts[1:]
			continue
		}
		if len(opts) < 2 || opts[1] < 2 || int(opts[1]) > len(opts) {
			return false
		}
		opt := opts[:opts[1]]
		opts = opts[len(opt):]
		switch opt[0] {
		case optionSecurity, optionExtendedSecurity, optionCommercialSecurity, optionRouterAlert, optionMultiDestination:
			continue
		case optionLooseRoute, optionStrictRoute:
			if sending && len(opt) >= 7 && opt[2] <= opt[1] { // there are addresses to come
				copy(h[16:20], opt[len(opt)-4:])
			}
		}
		clear(opt)
	}
	return true
}

// Types of IPv4 options, with copy flag and class. Those that are not named, or
// name a route, are mutable (RFC 4302 appendix A1).
const (
	optionEnd                = 0
	optionNop                = 1
	optionSecurity           = 130
	optionLooseRoute         = 131
	optionExtendedSecurity   = 133
	optionCommercialSecurity = 134
	optionStrictRoute        = 137
	optionRouterAlert        = 148
	optionMultiDestination   = 149
)

// IPv6 extension headers.
const (
	hopByHop    = 0
	routing     = 43
	fragment    = 44
	destOptions = 60
)

// cover6 covers an IPv6 header with its extension headers. It returns the
// length of what is left: a fragment header that a reassembled packet has kept,
// or that a whole packet has, is none of AH's (RFC 4302 appendix A2).
func cover6(h []byte, sending bool) (n int, ok bool) {
	h[0], h[1], h[2], h[3] = 0x60, 0, 0, 0 // class and flow label
	h[7] = 0                               // hop limit
	next, pos := &h[6], 40
	for pos < len(h) {
		if len(h)-pos < 8 {
			return 0, false
		}
		size := 8
		if *next != fragment {
			size += int(h[pos+1]) * 8
		}
		if size > len(h)-pos {
			return 0, false
		}
		ext := h[pos : pos+size]
		switch *next {
		case hopByHop, destOptions:
			if !coverOptions(ext) {
				return 0, false
			}
		case routing:
			if sending && !arrive(h, ext) {
				return 0, false
			}
		case fragment:
			if binary.BigEndian.Uint16(ext[2:])&^6 != 0 {
				return 0, false
			}
			*next = ext[0]
			copy(h[pos:], h[pos+size:])
			h = h[:len(h)-size]
			binary.BigEndian.PutUint16(h[4:], binary.BigEndian.Uint16(h[4:])-uint16(size))
			continue
		default:
			return 0, false
		}
		next, pos = &ext[0], pos+size
	}
	return len(h), *next == Protocol
}

// coverOptions zeroes the data of the options that may change on the way.
func coverOptions(ext []byte) (ok bool) {
	const pad1, changes = 0, 0x20
	for opts := ext[2:]; len(opts) > 0; {
		if opts[0] == pad1 {
			opts = opts[1:]
			continue
		}
		if len(opts) < 2 || 2+int(opts[1]) > len(opts) {
			return false
		}
		opt := opts[:2+int(opts[1])]
		if opt[0]&changes != 0 {
			clear(opt[2:])
		}
		opts = opts[len(opt):]
	}
	return true
}

// arrive makes of the routing header that is sent the one that arrives: the
// destination takes the place of each address that it is replaced with (RFC 2460
// section 4.4, RFC 6275 section 6.4). Other types than 0 and 2 are as they are.
func arrive(h, ext []byte) (ok bool) {
	if typ := ext[2]; typ != 0 && typ != 2 {
		return true
	}
	left, addresses := int(ext[3]), ext[8:]
	if len(addresses)%16 != 0 || 16*left > len(addresses) {
		return false
	}
	for rest := addresses[len(addresses)-16*left:]; len(rest) > 0; rest = rest[16:] {
		for i := range 16 {
			h[24+i], rest[i] = rest[i], h[24+i]
		}
	}
	ext[3] = 0
	return true
}
