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
	FailedCPRequired:           "FAILED_CP_REQUIRED",
	TSUnacceptable:             "TS_UNACCEPTABLE",
	TemporaryFailure:           "TEMPORARY_FAILURE",
	ChildSANotFound:            "CHILD_SA_NOT_FOUND",

	InitialContact:            "INITIAL_CONTACT",
	AdditionalTSPossible:      "ADDITIONAL_TS_POSSIBLE",
	NATDetectionSourceIP:      "NAT_DETECTION_SOURCE_IP",
	NATDetectionDestinationIP: "NAT_DETECTION_DESTINATION_IP",
	Cookie:                    "COOKIE",
	UseTransportMode:          "USE_TRANSPORT_MODE",
	RekeySA:                   "REKEY_SA",
	ESPTFCPaddingNotSupported: "ESP_TFC_PADDING_NOT_SUPPORTED",
	NonFirstFragmentsAlso:     "NON_FIRST_FRAGMENTS_ALSO",
	SignatureHashAlgorithms:   "SIGNATURE_HASH_ALGORITHMS",
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
