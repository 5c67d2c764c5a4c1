// SPDX-License-Identifier: Apache-2.0

package server

import (
	"errors"
	"net"
	"os"
)

func listenerOf(int) (*net.TCPListener, error) { return nil, errors.ErrUnsupported }

func fileOf(*net.TCPListener) (*os.File, error) { return nil, errors.ErrUnsupported }
