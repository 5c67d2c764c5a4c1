// SPDX-License-Identifier: Apache-2.0

// Package assisttest is a client that behaves as the official open-source agent, aliyun_assist_client 2.2.3.578, was
// seen to behave, weaknesses included, so that a front end for that agent can be tested with thousands of them over
// real TLS and WebSocket. It follows docs/official-agent.md, to whose sections the comments refer with §; what that
// document does not say, it does not do. It is no agent to deliver files with: internal/agent is.
//
// Register makes an Identity, New and Run are one life of one agent's process, Kill is its death. Everything that an
// agent has done can be read from its Snapshot. A Network, the way to the server, may be shared by any number of
// agents; their WebSocket connections are their own.
//
// # Time
//
// Times holds every wait and every time limit of the agent. RealTimes are the real ones, which hold if Config says
// nothing; RealTimes().Scaled(f) shortens the waits and leaves the limits, so that a slow machine does not turn a
// shortened test into another one. Stamps that are sent to the server are of the real clock always.
package assisttest
