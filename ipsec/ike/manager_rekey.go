package ike

import "github.com/ipsecfw/ipsecfw/ipsec"

// RekeyChild asks for another pair of SAs in place of the one that has an
// inbound SPI.
func (m *Manager) RekeyChild(in ipsec.SPI) {}
