package wire

// IDKind is the type of an identification (RFC 7296 section 3.5).
type IDKind uint8

// Identification types.
const (
	IDIPv4  IDKind = 1
	IDFQDN  IDKind = 2
	IDEmail IDKind = 3 // ID_RFC822_ADDR
	IDIPv6  IDKind = 5
	IDDN    IDKind = 9 // DER of a distinguished name
	IDKeyID IDKind = 11
	IDNull  IDKind = 13 // RFC 7619, without data
)

// CertEncoding is the encoding of a certificate (RFC 7296 section 3.6).
type CertEncoding uint8

// Certificate encodings.
const (
	CertX509       CertEncoding = 4  // a DER certificate, "X.509 Certificate - Signature"
	CertCRL        CertEncoding = 7  // a DER certificate revocation list
	CertHashAndURL CertEncoding = 12 // SHA-1 of a DER certificate, then its URL
	CertOCSP       CertEncoding = 14 // a DER OCSP response (RFC 4806)
	CertRawKey     CertEncoding = 15 // a DER SubjectPublicKeyInfo (RFC 7670)
)

// Unusable stands for the ID and the KeyBits of a transform that came with an
// attribute that is not understood, or with a Key Length that makes no sense,
// and that must therefore not be chosen (RFC 7296 section 3.3.6). It stays in
// its proposal, because a proposal whose only group cannot be used is not a
// proposal without a group. No policy has an algorithm of this number, which
// is for private use.
const Unusable uint16 = 0xffff

// AuthMethod is the method of an AUTH payload (RFC 7296 section 3.8).
type AuthMethod uint8

// Authentication methods.
const (
	AuthRSA              AuthMethod = 1 // RSA PKCS#1 v1.5 with SHA-1
	AuthPSK              AuthMethod = 2 // shared key message integrity code
	AuthECDSA256         AuthMethod = 9 // RFC 4754
	AuthECDSA384         AuthMethod = 10
	AuthECDSA521         AuthMethod = 11
	AuthNull             AuthMethod = 13 // RFC 7619
	AuthDigitalSignature AuthMethod = 14 // RFC 7427
)

// NotifyType is the type of a Notify payload (RFC 7296 section 3.10.1).
// Values below 16384 are errors.
type NotifyType uint16

// Notify types.
const (
	UnsupportedCriticalPayload NotifyType = 1
	InvalidIKESPI              NotifyType = 4
	InvalidMajorVersion        NotifyType = 5
	InvalidSyntax              NotifyType = 7
	InvalidMessageID           NotifyType = 9
	InvalidSPI                 NotifyType = 11
	NoProposalChosen           NotifyType = 14
	InvalidKEPayload           NotifyType = 17
	AuthenticationFailed       NotifyType = 24
	SinglePairRequired         NotifyType = 34
	NoAdditionalSAs            NotifyType = 35
	FailedCPRequired           NotifyType = 37
	TSUnacceptable             NotifyType = 38
	TemporaryFailure           NotifyType = 43
	ChildSANotFound            NotifyType = 44
	StateNotFound              NotifyType = 47 // RFC 9370

	InitialContact            NotifyType = 16384
	SetWindowSize             NotifyType = 16385 // 4 bytes, RFC 7296 section 2.3
	AdditionalTSPossible      NotifyType = 16386
	NATDetectionSourceIP      NotifyType = 16388
	NATDetectionDestinationIP NotifyType = 16389
	Cookie                    NotifyType = 16390
	UseTransportMode          NotifyType = 16391
	HTTPCertLookupSupported   NotifyType = 16392
	RekeySA                   NotifyType = 16393
	ESPTFCPaddingNotSupported NotifyType = 16394
	NonFirstFragmentsAlso     NotifyType = 16395
	AuthLifetime              NotifyType = 16403 // RFC 4478, seconds in 4 bytes
	ChildlessIKESupported     NotifyType = 16418 // RFC 6023
	FragmentationSupported    NotifyType = 16430 // RFC 7383
	SignatureHashAlgorithms   NotifyType = 16431 // RFC 7427
	UsePPK                    NotifyType = 16435 // RFC 8784
	PPKIdentity               NotifyType = 16436
	NoPPKAuth                 NotifyType = 16437
	IntermediateSupported     NotifyType = 16438 // RFC 9242
	AdditionalKeyExchange     NotifyType = 16441 // RFC 9370
)
