// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"bufio"
	"net"
	"os"
	"runtime"
	"strconv"
	"strings"
)

// facts is what the agent tells of its machine. What a machine does not know of itself is empty.
type facts struct {
	Hostname   string
	MachineID  string
	IntranetIP string
	OSType     string
	OSVersion  string
}

func gatherFacts() facts {
	host, _ := os.Hostname() // a machine without a name is one too
	return facts{
		Hostname:   host,
		MachineID:  machineID(),
		IntranetIP: intranetIP(),
		OSType:     runtime.GOOS,
		OSVersion:  osVersion(),
	}
}

// intranetIP returns the address with which the machine leaves its network. Connecting a UDP socket sends nothing: the
// system only looks up the route to the address, which belongs to nobody (RFC 5737, RFC 3849).
func intranetIP() string {
	for _, addr := range []string{"192.0.2.1:9", "[2001:db8::1]:9"} {
		c, err := net.Dial("udp", addr) //nolint:noctx // it does not wait
		if err != nil {
			continue
		}
		c.Close()
		if a, ok := c.LocalAddr().(*net.UDPAddr); ok {
			return a.IP.String()
		}
	}
	return ""
}

// firstLine returns the first line of a file, or nothing.
func firstLine(path string) string {
	b, err := os.ReadFile(path)
	if err != nil {
		return ""
	}
	line, _, _ := strings.Cut(string(b), "\n")
	return strings.TrimSpace(line)
}

// prettyName returns PRETTY_NAME of an os-release file, or nothing.
func prettyName(path string) string {
	f, err := os.Open(path)
	if err != nil {
		return ""
	}
	defer f.Close()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		if v, ok := strings.CutPrefix(lines.Text(), "PRETTY_NAME="); ok {
			if s, err := strconv.Unquote(v); err == nil {
				return s
			}
			return strings.Trim(v, `'"`)
		}
	}
	return ""
}
