// SPDX-License-Identifier: Apache-2.0

package server

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"
)

// Inherited is what the process that started this one has left to it: listening sockets, which outlive the processes
// that accept on them. That is systemd (socket activation) or a predecessor (HandOver). The zero value and nil are
// nothing.
type Inherited struct {
	listeners map[string]*net.TCPListener
	ready     *os.File // the predecessor reads a byte from it once this process can take over; nil: there is none
}

// The environment in which descriptors are passed: that of sd_listen_fds(3), and in place of the process ID, which a
// predecessor cannot know, the number of a descriptor that is written to.
const (
	envPID      = "LISTEN_PID"
	envFDs      = "LISTEN_FDS"
	envNames    = "LISTEN_FDNAMES"
	envHandOver = "WAYBILL_HANDOVER"
	firstFD     = 3
)

// listenerNames are the listeners that can be inherited. That of the agents' link cannot: NATS binds it itself.
var listenerNames = []string{"https", "http", "admin"}

// Inherit takes over what was left to this process, and removes the variables that say so, so that its children do not
// think that they are meant. Call it once, before anything else opens files.
func Inherit() (_ *Inherited, err error) {
	names, err := passedNames(os.Getenv, os.Getpid())
	handOver := os.Getenv(envHandOver)
	for _, v := range []string{envPID, envFDs, envNames, envHandOver} {
		err = errors.Join(err, os.Unsetenv(v))
	}
	if err != nil {
		return nil, err
	}
	in := &Inherited{listeners: map[string]*net.TCPListener{}}
	for i, name := range names {
		l, err := listenerOf(firstFD + i)
		if err != nil {
			return nil, errors.Join(fmt.Errorf("the socket passed as %s (descriptor %d): %w", name, firstFD+i, err), in.close())
		}
		in.listeners[name] = l
	}
	if handOver != "" {
		fd, err := strconv.ParseUint(handOver, 10, 16)
		if err != nil {
			return nil, errors.Join(fmt.Errorf("%s is no descriptor: %w", envHandOver, err), in.close())
		}
		in.ready = os.NewFile(uintptr(fd), "predecessor")
	}
	return in, nil
}

// passedNames returns the names of the listeners that are passed as descriptors 3, 4 and so on to the process pid.
func passedNames(getenv func(string) string, pid int) ([]string, error) {
	if getenv(envFDs) == "" || getenv(envHandOver) == "" && getenv(envPID) != strconv.Itoa(pid) {
		return nil, nil // nothing, or meant for another process
	}
	n, err := strconv.Atoi(getenv(envFDs))
	if err != nil || n < 0 {
		return nil, fmt.Errorf("%s is %q, which is no number of descriptors", envFDs, getenv(envFDs))
	}
	names := strings.Split(getenv(envNames), ":")
	if n == 0 {
		return nil, nil
	}
	if n == 1 && len(names) == 1 && unnamed(names[0]) {
		return []string{"https"}, nil
	}
	if n != len(names) {
		return nil, fmt.Errorf("%d sockets are passed, and %d names: %q; name each with FileDescriptorName=", n, len(names), getenv(envNames))
	}
	for i, name := range names {
		if !slices.Contains(listenerNames, name) {
			return nil, fmt.Errorf("a socket is passed as %q; FileDescriptorName= can be %s", name, strings.Join(listenerNames, ", "))
		}
		if slices.Contains(names[:i], name) {
			return nil, fmt.Errorf("two sockets are passed as %s; one with ListenStream=PORT and BindIPv6Only=both is good for IPv4 and IPv6", name)
		}
	}
	return names, nil
}

// unnamed reports whether a socket was given no name of its own: systemd then says unknown, or the name of the unit.
func unnamed(name string) bool {
	return name == "" || name == "unknown" || strings.HasSuffix(name, ".socket")
}

// Listener returns the listener of that name, and nil if it was not inherited.
func (in *Inherited) Listener(name string) *net.TCPListener {
	if in == nil {
		return nil
	}
	return in.listeners[name]
}

// FromPredecessor reports whether a server that still runs waits for this process to take over.
func (in *Inherited) FromPredecessor() bool { return in != nil && in.ready != nil }

// tellReady lets the predecessor begin to stop.
func (in *Inherited) tellReady(log *slog.Logger) {
	if _, err := in.ready.Write([]byte{'\n'}); err != nil {
		log.Warn("predecessor has ended early", "err", err) // what it left is here
	}
	_ = in.ready.Close() // the byte is written
}

func (in *Inherited) close() error {
	if in == nil {
		return nil
	}
	var errs []error
	for _, l := range in.listeners {
		errs = append(errs, ignoreClosed(l.Close()))
	}
	return errors.Join(errs...)
}
