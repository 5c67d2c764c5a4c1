// SPDX-License-Identifier: Apache-2.0

// Package agent is the program on a machine that takes up deliveries, places their files with internal/place and tells
// the server what came of it. It speaks internal/wire, over NATS and for its identity over HTTPS. It decides nothing
// about a delivery but whether it is still in time; the server is the truth, and the agent asks it for everything that
// is open whenever it connects.
//
// Enroll makes a machine an instance, New and Run are its agent, Leave ends it. A state directory holds the identity and
// the journal, which is why a kill at any moment loses no outcome and repeats no work.
package agent
