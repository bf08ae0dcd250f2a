package ipsec

// known is a transform that has a name.
type known struct {
	transform Transform // an additional key exchange stands under TypeGroup
	name      string
	weak      string // why it should not be used any more; empty if it may
}

// Why a transform is weak.
const (
	shortICV   = "an ICV of 64 bits can be forged by trying"
	smallBlock = "blocks of 64 bits give away contents after some gigabytes (RFC 8221 section 5)"
	oldHash    = "SHA-1 is at the end of its life (RFC 8247 section 2.2)"
	smallGroup = "the group has less than 112 bits of security (RFC 8247 section 2.4)"
	brinkGroup = "the group has no more than 112 bits of security"
	oddGroup   = "nobody knows how the group's subgroup was chosen (RFC 8247 section 2.4)"
	brokenHash = "MD5 is broken"
)

// supported are the transforms that package xform has, those of each type in
// order of preference. What encrypts nothing stands behind all that encrypts: it
// is not weak, since it keeps its one promise, and is there for those who ask
// for integrity alone.
//
// Group 25 (P-192) and group 27 (brainpoolP224r1) are missing, because no
// library in use has their curves; groups 22 to 24 should not be used (RFC 8247
// section 2.4). ML-KEM-512 is not in the standard library.
var supported = []known{
	{Transform{TypeEncr, EncrAESGCM16, 256}, "aes256gcm16", ""},
	{Transform{TypeEncr, EncrAESGCM16, 128}, "aes128gcm16", ""},
	{Transform{TypeEncr, EncrChaCha20Poly1305, 0}, "chacha20poly1305", ""},
	{Transform{TypeEncr, EncrAESGCM16, 192}, "aes192gcm16", ""},
	{Transform{TypeEncr, EncrAESGCM12, 256}, "aes256gcm12", ""},
	{Transform{TypeEncr, EncrAESGCM12, 192}, "aes192gcm12", ""},
	{Transform{TypeEncr, EncrAESGCM12, 128}, "aes128gcm12", ""},
	{Transform{TypeEncr, EncrAESCCM16, 256}, "aes256ccm16", ""},
	{Transform{TypeEncr, EncrAESCCM16, 192}, "aes192ccm16", ""},
	{Transform{TypeEncr, EncrAESCCM16, 128}, "aes128ccm16", ""},
	{Transform{TypeEncr, EncrAESCCM12, 256}, "aes256ccm12", ""},
	{Transform{TypeEncr, EncrAESCCM12, 192}, "aes192ccm12", ""},
	{Transform{TypeEncr, EncrAESCCM12, 128}, "aes128ccm12", ""},
	{Transform{TypeEncr, EncrAESCBC, 256}, "aes256", ""},
	{Transform{TypeEncr, EncrAESCBC, 192}, "aes192", ""},
	{Transform{TypeEncr, EncrAESCBC, 128}, "aes128", ""},
	{Transform{TypeEncr, EncrAESCTR, 256}, "aes256ctr", ""},
	{Transform{TypeEncr, EncrAESCTR, 192}, "aes192ctr", ""},
	{Transform{TypeEncr, EncrAESCTR, 128}, "aes128ctr", ""},
	{Transform{TypeEncr, EncrAESGCM8, 256}, "aes256gcm8", shortICV},
	{Transform{TypeEncr, EncrAESGCM8, 192}, "aes192gcm8", shortICV},
	{Transform{TypeEncr, EncrAESGCM8, 128}, "aes128gcm8", shortICV},
	{Transform{TypeEncr, EncrAESCCM8, 256}, "aes256ccm8", shortICV},
	{Transform{TypeEncr, EncrAESCCM8, 192}, "aes192ccm8", shortICV},
	{Transform{TypeEncr, EncrAESCCM8, 128}, "aes128ccm8", shortICV},
	{Transform{TypeEncr, Encr3DES, 0}, "3des", smallBlock},
	{Transform{TypeEncr, EncrNullAESGMAC, 256}, "aes256gmac", ""},
	{Transform{TypeEncr, EncrNullAESGMAC, 192}, "aes192gmac", ""},
	{Transform{TypeEncr, EncrNullAESGMAC, 128}, "aes128gmac", ""},
	{Transform{TypeEncr, EncrNull, 0}, "null", ""},

	{Transform{TypePRF, PRFHMACSHA256, 0}, "prfsha256", ""},
	{Transform{TypePRF, PRFHMACSHA384, 0}, "prfsha384", ""},
	{Transform{TypePRF, PRFHMACSHA512, 0}, "prfsha512", ""},
	{Transform{TypePRF, PRFAESCMAC, 0}, "prfaescmac", ""},
	{Transform{TypePRF, PRFAESXCBC, 0}, "prfaesxcbc", ""},
	{Transform{TypePRF, PRFHMACSHA1, 0}, "prfsha1", oldHash},

	{Transform{TypeInteg, IntegHMACSHA256, 0}, "sha256", ""},
	{Transform{TypeInteg, IntegHMACSHA384, 0}, "sha384", ""},
	{Transform{TypeInteg, IntegHMACSHA512, 0}, "sha512", ""},
	{Transform{TypeInteg, IntegAESCMAC, 0}, "aescmac", ""},
	{Transform{TypeInteg, IntegAESXCBC, 0}, "aesxcbc", ""},
	{Transform{TypeInteg, IntegAES256GMAC, 0}, "aesgmac256", ""},
	{Transform{TypeInteg, IntegAES192GMAC, 0}, "aesgmac192", ""},
	{Transform{TypeInteg, IntegAES128GMAC, 0}, "aesgmac128", ""},
	{Transform{TypeInteg, IntegHMACSHA1, 0}, "sha1", oldHash},

	{Transform{TypeGroup, GroupX25519, 0}, "x25519", ""},
	{Transform{TypeGroup, GroupP256, 0}, "ecp256", ""},
	{Transform{TypeGroup, GroupP384, 0}, "ecp384", ""},
	{Transform{TypeGroup, GroupP521, 0}, "ecp521", ""},
	{Transform{TypeGroup, GroupX448, 0}, "x448", ""},
	{Transform{TypeGroup, GroupMODP2048, 0}, "modp2048", ""},
	{Transform{TypeGroup, GroupMODP3072, 0}, "modp3072", ""},
	{Transform{TypeGroup, GroupMODP4096, 0}, "modp4096", ""},
	{Transform{TypeGroup, GroupMODP6144, 0}, "modp6144", ""},
	{Transform{TypeGroup, GroupMODP8192, 0}, "modp8192", ""},
	{Transform{TypeGroup, GroupBrainpoolP256, 0}, "ecp256bp", ""},
	{Transform{TypeGroup, GroupBrainpoolP384, 0}, "ecp384bp", ""},
	{Transform{TypeGroup, GroupBrainpoolP512, 0}, "ecp512bp", ""},
	{Transform{TypeGroup, GroupMLKEM768, 0}, "mlkem768", ""},
	{Transform{TypeGroup, GroupMLKEM1024, 0}, "mlkem1024", ""},
	{Transform{TypeGroup, GroupP224, 0}, "ecp224", brinkGroup},
	{Transform{TypeGroup, GroupMODP1536, 0}, "modp1536", smallGroup},
	{Transform{TypeGroup, GroupMODP1024, 0}, "modp1024", smallGroup},
	{Transform{TypeGroup, GroupNone, 0}, "none", ""},

	{Transform{TypeESN, ESNYes, 0}, "esn", ""},
	{Transform{TypeESN, ESNNo, 0}, "noesn", ""},
}

// foreign are transforms that a peer may offer and that are only named.
var foreign = []known{
	{Transform{TypeEncr, 2, 0}, "des", "a key of 56 bits can be found by trying"},
	{Transform{TypePRF, 1, 0}, "prfmd5", brokenHash},
	{Transform{TypeInteg, 1, 0}, "md5", brokenHash},
	{Transform{TypeGroup, 1, 0}, "modp768", smallGroup},
	{Transform{TypeGroup, 22, 0}, "modp1024s160", smallGroup},
	{Transform{TypeGroup, 23, 0}, "modp2048s224", oddGroup},
	{Transform{TypeGroup, 24, 0}, "modp2048s256", oddGroup},
	{Transform{TypeGroup, 25, 0}, "ecp192", smallGroup},
	{Transform{TypeGroup, 27, 0}, "ecp224bp", brinkGroup},
	{Transform{TypeGroup, 35, 0}, "mlkem512", ""},
}

var named = func() map[Transform]known {
	m := make(map[Transform]known, len(supported)+len(foreign))
	for _, ks := range [][]known{supported, foreign} {
		for _, k := range ks {
			m[k.transform] = k
		}
	}
	return m
}()

// lookup finds a transform by its numbers.
func lookup(t Transform) (known, bool) {
	if t.Type.Additional() {
		t.Type = TypeGroup
	}
	k, ok := named[t]
	return k, ok
}

// Transforms returns all the transforms of one type that package xform has for
// a protocol, in order of preference: those that are weak stand behind the
// others, those that encrypt nothing behind these, and last "none", which a key
// exchange has for a Child SA without one of its own and for an additional key
// exchange that may be left out. The String of each is the keyword that a rule
// file uses. The slice is the caller's.
func Transforms(p ProtocolID, of TransformType) []Transform {
	table := of
	if of.Additional() {
		table = TypeGroup
	}
	var out []Transform
	for _, k := range supported {
		if k.transform.Type == table && k.transform.Suits(p) {
			out = append(out, Transform{of, k.transform.ID, k.transform.KeyBits})
		}
	}
	return out
}

// Weak reports whether t should only be used with a peer that has nothing
// better, and why. It is false for a transform that nothing is known of.
func (t Transform) Weak() (why string, weak bool) {
	k, ok := lookup(t)
	return k.weak, ok && k.weak != ""
}
