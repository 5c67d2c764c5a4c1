// SPDX-License-Identifier: Apache-2.0

// Package waybill holds the vocabulary of Waybill: what a delivery, a target, an instance and an activation are, which
// statuses a target passes through, and what may be said about why one ended as it did.
//
// It imports the standard library only. It knows no database, no network and no API: the words of the public API
// (Invocation, InvokeId, ErrorCode …) live in internal/api, those of the official agent in internal/assist.
//
// # Glossary
//
//   - Delivery: one accepted request to place one file on one or more machines.
//   - Target: one machine of a delivery, with its own status and outcome.
//   - Instance: an enrolled machine.
//   - Activation: a code with which machines enrol, limited in number, time and address range.
//   - Account: a tenant. Accounts never see each other's objects.
//   - Agent: the program on the machine.
package waybill
