// SPDX-License-Identifier: Apache-2.0

package agent

func machineID() string { return firstLine("/etc/machine-id") }

func osVersion() string { return prettyName("/etc/os-release") }
