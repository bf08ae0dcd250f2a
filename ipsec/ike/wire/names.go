package wire

import "strconv"

var payloadNames = map[PayloadType]string{
	NoNextPayload: "none",
	TypeSA:        "SA",
	TypeKE:        "KE",
	TypeIDi:       "IDi",
	TypeIDr:       "IDr",
	TypeCert:      "CERT",
	TypeCertReq:   "CERTREQ",
	TypeAuth:      "AUTH",
	TypeNonce:     "Nonce",
	TypeNotify:    "Notify",
	TypeDelete:    "Delete",
	TypeVendorID:  "Vendor ID",
	TypeTSi:       "TSi",
	TypeTSr:       "TSr",
	TypeEncrypted: "SK",
	47:            "CP",
	48:            "EAP",
	TypeFragment:  "SKF",
}

// String returns the payload's notation, or its name where the notation is
// one letter (RFC 7296 section 3.2), or its number.
func (t PayloadType) String() string {
	if s, ok := payloadNames[t]; ok {
		return s
	}
	return "payload " + strconv.Itoa(int(t))
}

var exchangeNames = map[ExchangeType]string{
	IKESAInit:       "IKE_SA_INIT",
	IKEAuth:         "IKE_AUTH",
	CreateChildSA:   "CREATE_CHILD_SA",
	Informational:   "INFORMATIONAL",
	IKEIntermediate: "IKE_INTERMEDIATE",
	IKEFollowupKE:   "IKE_FOLLOWUP_KE",
}

// String returns the RFC's name of the exchange, or its number.
func (e ExchangeType) String() string {
	if s, ok := exchangeNames[e]; ok {
		return s
	}
	return "exchange " + strconv.Itoa(int(e))
}

// notifyNames has what IANA's registry "IKEv2 Notify Message Types" has, those
// too that nothing here sends: a trace shows what peers send.
var notifyNames = map[NotifyType]string{
	UnsupportedCriticalPayload: "UNSUPPORTED_CRITICAL_PAYLOAD",
	InvalidIKESPI:              "INVALID_IKE_SPI",
	InvalidMajorVersion:        "INVALID_MAJOR_VERSION",
	InvalidSyntax:              "INVALID_SYNTAX",
	InvalidMessageID:           "INVALID_MESSAGE_ID",
	InvalidSPI:                 "INVALID_SPI",
	NoProposalChosen:           "NO_PROPOSAL_CHOSEN",
	InvalidKEPayload:           "INVALID_KE_PAYLOAD",
	AuthenticationFailed:       "AUTHENTICATION_FAILED",
	SinglePairRequired:         "SINGLE_PAIR_REQUIRED",
	NoAdditionalSAs:            "NO_ADDITIONAL_SAS",
	36:                         "INTERNAL_ADDRESS_FAILURE",
	FailedCPRequired:           "FAILED_CP_REQUIRED",
	TSUnacceptable:             "TS_UNACCEPTABLE",
	39:                         "INVALID_SELECTORS",
	40:                         "UNACCEPTABLE_ADDRESSES",
	41:                         "UNEXPECTED_NAT_DETECTED",
	42:                         "USE_ASSIGNED_HoA",
	TemporaryFailure:           "TEMPORARY_FAILURE",
	ChildSANotFound:            "CHILD_SA_NOT_FOUND",
	45:                         "INVALID_GROUP_ID",
	46:                         "AUTHORIZATION_FAILED",
	StateNotFound:              "STATE_NOT_FOUND",
	48:                         "TS_MAX_QUEUE",

	InitialContact:            "INITIAL_CONTACT",
	SetWindowSize:             "SET_WINDOW_SIZE",
	AdditionalTSPossible:      "ADDITIONAL_TS_POSSIBLE",
	16387:                     "IPCOMP_SUPPORTED",
	NATDetectionSourceIP:      "NAT_DETECTION_SOURCE_IP",
	NATDetectionDestinationIP: "NAT_DETECTION_DESTINATION_IP",
	Cookie:                    "COOKIE",
	UseTransportMode:          "USE_TRANSPORT_MODE",
	HTTPCertLookupSupported:   "HTTP_CERT_LOOKUP_SUPPORTED",
	RekeySA:                   "REKEY_SA",
	ESPTFCPaddingNotSupported: "ESP_TFC_PADDING_NOT_SUPPORTED",
	NonFirstFragmentsAlso:     "NON_FIRST_FRAGMENTS_ALSO",
	16396:                     "MOBIKE_SUPPORTED",
	16397:                     "ADDITIONAL_IP4_ADDRESS",
	16398:                     "ADDITIONAL_IP6_ADDRESS",
	16399:                     "NO_ADDITIONAL_ADDRESSES",
	16400:                     "UPDATE_SA_ADDRESSES",
	16401:                     "COOKIE2",
	16402:                     "NO_NATS_ALLOWED",
	AuthLifetime:              "AUTH_LIFETIME",
	16404:                     "MULTIPLE_AUTH_SUPPORTED",
	16405:                     "ANOTHER_AUTH_FOLLOWS",
	16406:                     "REDIRECT_SUPPORTED",
	16407:                     "REDIRECT",
	16408:                     "REDIRECTED_FROM",
	16409:                     "TICKET_LT_OPAQUE",
	16410:                     "TICKET_REQUEST",
	16411:                     "TICKET_ACK",
	16412:                     "TICKET_NACK",
	16413:                     "TICKET_OPAQUE",
	16414:                     "LINK_ID",
	16415:                     "USE_WESP_MODE",
	16416:                     "ROHC_SUPPORTED",
	16417:                     "EAP_ONLY_AUTHENTICATION",
	ChildlessIKESupported:     "CHILDLESS_IKEV2_SUPPORTED",
	16419:                     "QUICK_CRASH_DETECTION",
	16420:                     "IKEV2_MESSAGE_ID_SYNC_SUPPORTED",
	16421:                     "IPSEC_REPLAY_COUNTER_SYNC_SUPPORTED",
	16422:                     "IKEV2_MESSAGE_ID_SYNC",
	16423:                     "IPSEC_REPLAY_COUNTER_SYNC",
	16424:                     "SECURE_PASSWORD_METHODS",
	16425:                     "PSK_PERSIST",
	16426:                     "PSK_CONFIRM",
	16427:                     "ERX_SUPPORTED",
	16428:                     "IFOM_CAPABILITY",
	16429:                     "GROUP_SENDER",
	FragmentationSupported:    "IKEV2_FRAGMENTATION_SUPPORTED",
	SignatureHashAlgorithms:   "SIGNATURE_HASH_ALGORITHMS",
	16432:                     "CLONE_IKE_SA_SUPPORTED",
	16433:                     "CLONE_IKE_SA",
	16434:                     "PUZZLE",
	UsePPK:                    "USE_PPK",
	PPKIdentity:               "PPK_IDENTITY",
	NoPPKAuth:                 "NO_PPK_AUTH",
	IntermediateSupported:     "INTERMEDIATE_EXCHANGE_SUPPORTED",
	16439:                     "IP4_ALLOWED",
	16440:                     "IP6_ALLOWED",
	AdditionalKeyExchange:     "ADDITIONAL_KEY_EXCHANGE",
	16442:                     "USE_AGGFRAG",
	16443:                     "SUPPORTED_AUTH_METHODS",
	16444:                     "SA_RESOURCE_INFO",
	16445:                     "USE_PPK_INT",
	16446:                     "PPK_IDENTITY_KEY",
}

// String returns the RFC's name of the notification, or its number.
func (t NotifyType) String() string {
	if s, ok := notifyNames[t]; ok {
		return s
	}
	return "notify " + strconv.Itoa(int(t))
}

// IsError reports whether the notification is an error, and not a status
// (RFC 7296 section 3.10.1). An error that is not known says that the whole
// request failed.
func (t NotifyType) IsError() bool { return t < InitialContact }

var idNames = map[IDKind]string{
	IDIPv4:  "IPV4_ADDR",
	IDFQDN:  "FQDN",
	IDEmail: "RFC822_ADDR",
	IDIPv6:  "IPV6_ADDR",
	IDDN:    "DER_ASN1_DN",
	10:      "DER_ASN1_GN",
	IDKeyID: "KEY_ID",
	12:      "FC_NAME",
	IDNull:  "NULL",
}

// String returns the RFC's name of the identification type without its prefix
// ID_, or its number.
func (k IDKind) String() string {
	if s, ok := idNames[k]; ok {
		return s
	}
	return "ID type " + strconv.Itoa(int(k))
}

var certNames = map[CertEncoding]string{
	CertX509:       "X.509",
	CertCRL:        "CRL",
	CertHashAndURL: "hash and URL",
	CertOCSP:       "OCSP",
	CertRawKey:     "raw public key",
}

// String returns a short name of the encoding, or its number.
func (e CertEncoding) String() string {
	if s, ok := certNames[e]; ok {
		return s
	}
	return "encoding " + strconv.Itoa(int(e))
}

var authNames = map[AuthMethod]string{
	AuthRSA:              "RSA with SHA-1",
	AuthPSK:              "preshared key",
	AuthECDSA256:         "ECDSA P-256",
	AuthECDSA384:         "ECDSA P-384",
	AuthECDSA521:         "ECDSA P-521",
	AuthNull:             "NULL",
	AuthDigitalSignature: "digital signature",
}

// String returns a short name of the method, or its number.
func (m AuthMethod) String() string {
	if s, ok := authNames[m]; ok {
		return s
	}
	return "method " + strconv.Itoa(int(m))
}
