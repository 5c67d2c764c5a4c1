// SPDX-License-Identifier: Apache-2.0

// Package identity holds the cryptography of Waybill: sealing of secrets at rest, the certificate authority, the
// operator material of the bus, the proof that signs an agent's HTTPS calls, and the making of identifiers and codes.
//
// It knows no database and no network. The only files it touches are keys and certificates.
package identity
