// SPDX-License-Identifier: Apache-2.0

//go:build unix

package server

import (
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// descriptor returns a copy of the descriptor of f, for listenerOf to own.
func descriptor(t *testing.T, f *os.File, err error) int {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	fd, err := unix.FcntlInt(f.Fd(), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	return fd
}

func TestListenerOf(t *testing.T) {
	t.Parallel()
	own, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	f, err := fileOf(own.(*net.TCPListener))
	l, err := listenerOf(descriptor(t, f, err))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if err := own.Close(); err != nil { // the socket stays open
		t.Fatal(err)
	}
	client, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	conn, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	if err := conn.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadAll(client); err != nil {
		t.Error(err)
	}
}

func TestListenerOfWhatIsNone(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	file := func() (*os.File, error) { return os.Create(filepath.Join(dir, "file")) }
	idle := func() (*os.File, error) {
		fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM, 0)
		return os.NewFile(uintptr(fd), "socket"), err
	}
	local := func() (*os.File, error) {
		l, err := net.Listen("unix", filepath.Join(dir, "s"))
		if err != nil {
			return nil, err
		}
		defer l.Close()
		return l.(*net.UnixListener).File()
	}
	for want, open := range map[string]func() (*os.File, error){
		"no socket": file, "a socket that does not listen": idle, "a socket of the kind unix, not tcp": local,
	} {
		f, err := open()
		if l, err := listenerOf(descriptor(t, f, err)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("want %q: %v, %v", want, l, err)
		}
	}
}

// TestInheritedAddressesAreChecked passes a socket on which keys would go in the clear.
func TestInheritedAddressesAreChecked(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "0.0.0.0:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	c := DefaultConfig()
	c.DataDir, c.Inherited = "x", &Inherited{listeners: map[string]*net.TCPListener{"http": l.(*net.TCPListener)}}
	if err := c.Validate(); err == nil || !strings.Contains(err.Error(), "in the clear") {
		t.Errorf("plain HTTP on %s: %v", l.Addr(), err)
	}
}
