// SPDX-License-Identifier: Apache-2.0

//go:build !race

package agent

// defaultInterleavings is how many TestExplore explores.
const defaultInterleavings = 3000
