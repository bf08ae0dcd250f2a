// Package pki decides whether a certificate is to be believed: chains to an
// authority, constraints, key usage, dates, and revocation by CRL and OCSP
// (RFC 5280, RFC 6960, and for IKE RFC 4945).
//
// It opens no connection. What certificates point at is got by a Fetcher, and
// the time is an argument.
package pki
