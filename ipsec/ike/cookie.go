package ike

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"io"
	"net/netip"
	"time"

	"github.com/ipsecfw/ipsecfw/ipsec/ike/wire"
)

// Cookies lets a responder that is under load find out whether a peer really
// has its address, without remembering anything (RFC 7296 section 2.6). It is
// not safe for concurrent use.
type Cookies struct {
	rand         io.Reader
	secret, last [32]byte // the one in use and the one before
	version      uint32
	renew        time.Time
}

// cookieTime is how long a secret is used; a cookie is good for as long to
// twice as long.
const cookieTime = 30 * time.Second

// NewCookies returns cookies whose secrets are read from rand.
func NewCookies(rand io.Reader) *Cookies { return &Cookies{rand: rand} }

// Check looks for a valid cookie in an IKE_SA_INIT request. If there is none,
// it returns the answer that asks for one. The error is that of the source of
// randomness, or says that the request does not parse.
func (c *Cookies) Check(now time.Time, remote netip.AddrPort, request []byte) (ok bool, answer []byte, err error) {
	if err := c.rotate(now); err != nil {
		return false, nil, err
	}
	h, ps, err := wire.Decode(request)
	if err != nil {
		return false, nil, err
	}
	nonce, found := wire.Find[*wire.Nonce](ps)
	if !found {
		return false, nil, fmt.Errorf("IKE_SA_INIT of %s without a nonce", remote)
	}
	if n, found := wire.FindNotify(ps, wire.Cookie); found && len(n.Data) == 4+sha256.Size {
		switch v := binary.BigEndian.Uint32(n.Data); v {
		case c.version:
			ok = hmac.Equal(n.Data, c.bake(&c.secret, v, remote, h.SPIi, nonce.Data))
		case c.version - 1:
			ok = c.version > 1 && hmac.Equal(n.Data, c.bake(&c.last, v, remote, h.SPIi, nonce.Data))
		}
		if ok {
			return true, nil, nil
		}
	}
	cookie := c.bake(&c.secret, c.version, remote, h.SPIi, nonce.Data)
	answer, err = wire.Encode(
		wire.Header{SPIi: h.SPIi, Version: wire.Version2, Exchange: wire.IKESAInit, Response: true},
		[]wire.Payload{&wire.Notify{Kind: wire.Cookie, Data: cookie}})
	return false, answer, err
}

func (c *Cookies) rotate(now time.Time) error {
	if now.Before(c.renew) {
		return nil
	}
	c.last = c.secret
	if _, err := io.ReadFull(c.rand, c.secret[:]); err != nil {
		return fmt.Errorf("read a secret for cookies: %w", err)
	}
	if c.renew.IsZero() || now.Sub(c.renew) > cookieTime {
		c.last = c.secret // the one before is too old, or there was none
	}
	c.version++
	c.renew = now.Add(cookieTime)
	return nil
}

// bake returns the version of the secret and a MAC of what a retry repeats.
func (c *Cookies) bake(secret *[32]byte, version uint32, remote netip.AddrPort, spi uint64, nonce []byte) []byte {
	m := hmac.New(sha256.New, secret[:])
	m.Write(nonce)
	a := remote.Addr().As16()
	m.Write(a[:])
	m.Write(binary.BigEndian.AppendUint16(nil, remote.Port()))
	m.Write(binary.BigEndian.AppendUint64(nil, spi))
	return m.Sum(binary.BigEndian.AppendUint32(nil, version))
}
