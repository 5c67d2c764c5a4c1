// SPDX-License-Identifier: Apache-2.0

//go:build darwin || freebsd

package agent

import "golang.org/x/sys/unix"

// machineID is FreeBSD's; macOS keeps its own behind a framework.
func machineID() string { return firstLine("/etc/hostid") }

func osVersion() string {
	release, err := unix.Sysctl("kern.osrelease")
	if err != nil {
		return ""
	}
	return release
}
