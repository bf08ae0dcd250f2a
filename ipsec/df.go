package ipsec

// DF is how tunnel mode sets the "don't fragment" flag of an outer IPv4 header
// (RFC 4301 section 8.1).
type DF uint8

// What it can do. Copying takes the flag of the packet inside, and sets it for
// one of IPv6, which may never be fragmented on its way.
const (
	DFCopy DF = iota
	DFSet
	DFClear
)

// TFCFull is a ChildSA's TFC that fills up the path.
const TFCFull = 65535

// String returns the rule file's keyword.
func (d DF) String() string {
	switch d {
	case DFCopy:
		return "copy"
	case DFSet:
		return "set"
	case DFClear:
		return "clear"
	}
	return "invalid DF"
}
