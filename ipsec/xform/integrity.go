package xform

import (
	"crypto/hmac"
	"encoding/binary"
	"fmt"
	"hash"
	"sync"

	"github.com/ipsecfw/ipsecfw/ipsec"
)

// Integrity makes the ICVs of packets under one key. It is safe for concurrent
// use and allocates nothing for a packet.
type Integrity struct {
	ICVLen int // bytes
	IVLen  int // bytes of the IV that each packet carries; 0 for none
	esn    bool
	macs   sync.Pool // of *runningMAC
}

// runningMAC is the state of one packet's MAC. It keeps its key, so that a
// packet costs no key schedule.
type runningMAC struct {
	hash.Hash
	high [4]byte
	sum  [64]byte // as long as the longest hash
}

// NewIntegrity returns an integrity algorithm with its key. With esn, its ICVs
// cover the upper half of an extended sequence number, which stands last and is
// not sent (RFC 4302 section 2.5.1, RFC 4303 section 2.2.1). The error wraps
// ErrUnsupported or ErrKeyLength.
func NewIntegrity(integ ipsec.Transform, key []byte, esn bool) (*Integrity, error) {
	m, err := NewMAC(integ, key)
	if err != nil {
		return nil, err
	}
	i := &Integrity{ICVLen: m.ICVLen, esn: esn}
	if _, ok := m.Hash.(*gmacHash); ok {
		i.IVLen = ivLen
	}
	first, err := cloneMAC(m.Hash)
	if err != nil {
		return nil, fmt.Errorf("preparing %s: %w", integ, err)
	}
	i.macs.New = func() any {
		x, _ := cloneMAC(m.Hash) // as the first one, it succeeds
		return x
	}
	i.macs.Put(first)
	return i, nil
}

// cloneMAC makes a MAC from one that is never written to, so that no copy of
// the key itself is kept.
func cloneMAC(h hash.Hash) (*runningMAC, error) {
	cloner, ok := h.(hash.Cloner)
	if !ok {
		return nil, fmt.Errorf("%w: the MACs of this build cannot be reused", ErrUnsupported)
	}
	m, err := cloner.Clone()
	if err != nil {
		return nil, err
	}
	m.Reset() // the first Reset allocates
	return &runningMAC{Hash: m}, nil
}

// Put writes the ICV of a packet with the header before it. high is the upper
// half of its sequence number, and iv has IVLen bytes.
func (i *Integrity) Put(icv, iv, header, pkt []byte, high uint32) {
	x := i.macs.Get().(*runningMAC)
	copy(icv, i.sum(x, iv, header, pkt, high))
	i.macs.Put(x)
}

// Check reports whether an ICV is the one that Put writes.
func (i *Integrity) Check(icv, iv, header, pkt []byte, high uint32) bool {
	x := i.macs.Get().(*runningMAC)
	ok := hmac.Equal(icv, i.sum(x, iv, header, pkt, high))
	i.macs.Put(x)
	return ok
}

func (i *Integrity) sum(x *runningMAC, iv, header, pkt []byte, high uint32) []byte {
	x.Reset()
	if i.IVLen > 0 {
		x.Hash.(*gmacHash).setIV(iv)
	}
	x.Write(header)
	x.Write(pkt)
	if i.esn {
		binary.BigEndian.PutUint32(x.high[:], high)
		x.Write(x.high[:])
	}
	return x.Sum(x.sum[:0])[:i.ICVLen]
}
