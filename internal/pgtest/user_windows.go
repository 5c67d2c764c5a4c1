// SPDX-License-Identifier: Apache-2.0

package pgtest

import (
	"os/user"
	"syscall"
)

func asUser(*user.User) *syscall.SysProcAttr { return nil }

func apart(*user.User) *syscall.SysProcAttr { return nil }
