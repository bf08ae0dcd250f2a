"""Seals and opens packets with Scapy's IPsec layer, for scapy_test.go.

It reads one request as JSON from each line of its input and answers each with
a line: the clear packet that is in the sealed one, and the sealed packet that
it makes of the clear one with the same IV.
"""

import json
import struct
import sys

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from scapy.layers import ipsec
from scapy.layers.inet import IP
from scapy.layers.inet6 import IPv6
from scapy.packet import raw


class XCBC:
    """AES-XCBC-MAC (RFC 3566), which Scapy does not have."""

    def __init__(self, key, _, __):
        k1 = self.block(key, b"\x01" * 16)
        self.k1, self.full, self.partial = k1, self.block(key, b"\x02" * 16), self.block(key, b"\x03" * 16)
        self.data = b""

    @staticmethod
    def block(key, data):
        return Cipher(algorithms.AES(key), modes.ECB()).encryptor().update(data)

    def update(self, data):
        self.data += data

    def finalize(self):
        key, data = self.full, self.data
        if len(data) == 0 or len(data) % 16 != 0:
            key, data = self.partial, data + b"\x80" + b"\x00" * (-(len(data) + 1) % 16)
        last = bytes(a ^ b for a, b in zip(data[-16:], key))
        chained = Cipher(algorithms.AES(self.k1), modes.CBC(b"\x00" * 16)).encryptor().update(data[:-16] + last)
        return chained[-16:]


ipsec.AUTH_ALGOS["AES-XCBC-96"] = ipsec.AuthAlgo("AES-XCBC-96", mac=XCBC, digestmod=lambda: None, icv_size=12)

# The library's AESGCM has no short tags, its older interface has.
for octets in (8, 12):
    ipsec.CRYPT_ALGOS["AES-GCM-%d" % octets] = ipsec.CryptAlgo(
        "AES-GCM-%d" % octets,
        cipher=algorithms.AES, mode=modes.GCM, block_size=1, iv_size=8, salt_size=4, icv_size=octets,
        format_mode_iv=lambda sa, iv, **kw: sa.crypt_salt + iv)


class Association(ipsec.SecurityAssociation):
    """An SA whose MAC covers the upper half of an extended sequence number in
    ESP too. Scapy thinks of it for AH and for AEADs alone."""

    def __init__(self, *args, **kw):
        super().__init__(*args, **kw)
        if self.proto is ipsec.ESP and self.esn_en and self.auth_algo.mac:
            high = struct.pack("!L", self.esn)
            new = self.auth_algo.new_mac

            class WithHigh:
                def __init__(self, key):
                    self.mac = new(key)
                    self.update = self.mac.update

                def finalize(self):
                    self.mac.update(high)
                    return self.mac.finalize()

            algo = ipsec.AuthAlgo(self.auth_algo.name, self.auth_algo.mac, self.auth_algo.digestmod, self.auth_algo.icv_size)
            algo.new_mac = WithHigh
            self.auth_algo = algo


def parse(hexadecimal):
    b = bytes.fromhex(hexadecimal)
    return IP(b) if b[0] >> 4 == 4 else IPv6(b)


def answer(request):
    sa = Association(
        ipsec.ESP if request["Protocol"] == "ESP" else ipsec.AH,
        spi=request["SPI"],
        crypt_algo=request["Encr"] or None, crypt_key=bytes.fromhex(request["EncrKey"]) or None,
        crypt_icv_size=request["EncrICV"] or None,
        auth_algo=request["Integ"] or None, auth_key=bytes.fromhex(request["IntegKey"]) or None,
        tunnel_header=parse(request["Outer"]) if request["Outer"] else None,
        esn_en=request["ESN"], esn=request["High"])
    iv = bytes.fromhex(request["IV"]) if request["Protocol"] == "ESP" else None
    return {
        "Opened": raw(sa.decrypt(parse(request["Sealed"]))).hex(),
        "Sealed": raw(sa.encrypt(parse(request["Clear"]), seq_num=request["Low"], iv=iv)).hex(),
    }


for line in sys.stdin:
    try:
        out = answer(json.loads(line))
    except Exception as e:  # the test says for which packet
        out = {"Error": "%s: %s" % (type(e).__name__, e)}
    print(json.dumps(out), flush=True)
