// SPDX-License-Identifier: Apache-2.0

package testenv_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"

	"github.com/openwaybill/waybill/internal/testenv"
)

// programs are the real commands, built once.
var programs struct {
	sync.Once
	dir string
	err error
}

func TestMain(m *testing.M) {
	if dir := os.Getenv(killerEnv); dir != "" {
		runKiller(dir)
	}
	for name, value := range map[string]string{"AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret"} { // of the S3 of tests
		if err := os.Setenv(name, value); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	}
	code := m.Run()
	if err := testenv.RemovePrograms(); err != nil {
		fmt.Fprintln(os.Stderr, err)
	}
	if programs.dir != "" {
		os.RemoveAll(programs.dir)
	}
	os.Exit(code)
}

func buildPrograms(t *testing.T) string {
	t.Helper()
	programs.Do(func() {
		if programs.dir, programs.err = os.MkdirTemp("", "waybill-programs-"); programs.err != nil {
			return
		}
		programs.err = os.Chmod(programs.dir, 0o755) // agents run as other users too
		if programs.err != nil {
			return
		}
		cmd := exec.Command("go", "build", "-o", programs.dir, "github.com/openwaybill/waybill/cmd/...")
		cmd.Stderr = os.Stderr
		programs.err = cmd.Run()
	})
	if programs.err != nil {
		t.Fatalf("build the commands: %v", programs.err)
	}
	return programs.dir
}

func agentProgram(t *testing.T) string { return filepath.Join(buildPrograms(t), "waybill-agent") }

func serverProgram(t *testing.T) string { return filepath.Join(buildPrograms(t), "waybill") }
