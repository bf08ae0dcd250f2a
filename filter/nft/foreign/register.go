package foreign

import (
	"encoding/binary"
	"math"
)

// registers are those of the kernel's virtual machine: 64 bytes in words of
// four. At first nothing of them is known.
type registers struct{ data, known [64]byte }

// at returns a part of the registers. Registers 1 to 4 have 16 bytes, those
// from 8 on have 4 (linux/netfilter/nf_tables.h, enum nft_registers).
func (r *registers) at(register uint32, n int) (data, known []byte, ok bool) {
	at := int64(-1)
	switch {
	case 1 <= register && register <= 4:
		at = 16 * (int64(register) - 1)
	case 8 <= register && register < 24:
		at = 4 * (int64(register) - 8)
	}
	if at < 0 || n < 0 || at+int64(n) > int64(len(r.data)) {
		return nil, nil, false
	}
	return r.data[at:][:n], r.known[at:][:n], true
}

// store writes a value, and zeros up to the end of its last word.
func (r *registers) store(register uint32, b, known []byte) truth {
	data, mask, ok := r.at(register, (len(b)+3)&^3)
	if !ok {
		return maybe
	}
	clear(data)
	for i := range mask {
		mask[i] = 0xff
	}
	copy(data, b)
	copy(mask, known)
	return yes
}

// set stores a value that is known.
func (r *registers) set(register uint32, b []byte) truth {
	known := make([]byte, len(b))
	for i := range known {
		known[i] = 0xff
	}
	return r.store(register, b, known)
}

// setHost stores a number as the kernel keeps it, in the host's byte order.
func (r *registers) setHost(register uint32, n number) truth {
	return r.store(register, binary.NativeEndian.AppendUint32(nil, n.value), binary.NativeEndian.AppendUint32(nil, n.known))
}

// unknown makes n bytes unknown, or as many as there are. Whether the kernel
// goes on with the rule is unknown too.
func (r *registers) unknown(register uint32, n int) truth {
	for ; n > 0; n-- {
		if _, known, ok := r.at(register, n); ok {
			clear(known)
			break
		}
	}
	return maybe
}

// number returns a word in the host's byte order.
func (r *registers) number(register uint32) number {
	data, known, ok := r.at(register, 4)
	if !ok {
		return number{}
	}
	return number{binary.NativeEndian.Uint32(data), binary.NativeEndian.Uint32(known)}
}

// certain returns a number that is known.
func certain(value uint32) number { return number{value, math.MaxUint32} }
