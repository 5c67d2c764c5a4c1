// SPDX-License-Identifier: Apache-2.0

//go:build race

package agent

// defaultInterleavings is how many TestExplore explores: the race detector makes each many times slower.
const defaultInterleavings = 1000
