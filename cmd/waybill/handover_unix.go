// SPDX-License-Identifier: Apache-2.0

//go:build unix

package main

import (
	"os"
	"os/signal"
	"syscall"
)

// notifyHandOver sends to c when the process is told to hand over.
func notifyHandOver(c chan<- os.Signal) { signal.Notify(c, syscall.SIGUSR2) }
