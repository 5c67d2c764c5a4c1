// SPDX-License-Identifier: Apache-2.0

//go:build unix

package server

import (
	"errors"
	"fmt"
	"net"
	"os"

	"golang.org/x/sys/unix"
)

// listenerOf takes over the descriptor fd.
func listenerOf(fd int) (*net.TCPListener, error) {
	listening, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_ACCEPTCONN)
	if err != nil {
		return nil, fmt.Errorf("no socket: %w", err)
	}
	f := os.NewFile(uintptr(fd), "passed socket")
	defer f.Close() // the listener has a copy, which children do not inherit
	if listening == 0 {
		return nil, errors.New("a socket that does not listen")
	}
	l, err := net.FileListener(f)
	if err != nil {
		return nil, err
	}
	tcp, ok := l.(*net.TCPListener)
	if !ok {
		return nil, errors.Join(fmt.Errorf("a socket of the kind %s, not tcp", l.Addr().Network()), l.Close())
	}
	return tcp, nil
}

// fileOf returns a copy of a listener's descriptor. That of its File method would turn the socket to blocking, for both,
// when it is passed to a process.
func fileOf(l *net.TCPListener) (*os.File, error) {
	raw, err := l.SyscallConn()
	if err != nil {
		return nil, err
	}
	var fd int
	var dupErr error
	if err := raw.Control(func(own uintptr) { fd, dupErr = unix.FcntlInt(own, unix.F_DUPFD_CLOEXEC, 0) }); err != nil {
		return nil, err
	}
	if dupErr != nil {
		return nil, os.NewSyscallError("fcntl", dupErr)
	}
	return os.NewFile(uintptr(fd), l.Addr().String()), nil
}
