// SPDX-License-Identifier: Apache-2.0

package blob

import (
	"bytes"
	"io"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
)

// TestKilled runs this test binary again. These variables tell it what to do there.
const (
	childDir  = "WAYBILL_BLOB_TEST_DIR"
	childStep = "WAYBILL_BLOB_TEST_STEP"
)

// stepHalf is a moment of the test: half of the content has been read.
const stepHalf step = "half"

const killedSize = 3 * copyBuffer

func dieAt(t *testing.T, url string, last step) {
	die := func(next step) {
		if next != last {
			return
		}
		if err := syscall.Kill(os.Getpid(), syscall.SIGKILL); err != nil {
			t.Error(err)
		}
		select {}
	}
	s := open(t, url)
	s.(*disk).trace = die
	b, digest := content(killedSize)
	half := readerFunc(func([]byte) (int, error) {
		die(stepHalf)
		return 0, io.EOF
	})
	err := s.Put(t.Context(), digest, killedSize, io.MultiReader(bytes.NewReader(b[:killedSize/2]), half, bytes.NewReader(b[killedSize/2:])))
	t.Errorf("not killed before %s: %v", last, err)
}

// Killed before any step, the content is there whole or not at all, and the next start removes the rest.
func TestKilled(t *testing.T) {
	if url := os.Getenv(childDir); url != "" {
		dieAt(t, url, step(os.Getenv(childStep)))
		return
	}
	t.Parallel()
	for _, c := range []struct {
		before      step
		left, there bool
	}{
		{stepHalf, true, false},
		{stepSync, true, false},
		{stepRename, true, false},
		{stepSyncDir, false, true},
	} {
		t.Run(strings.ReplaceAll(string(c.before), " ", "-"), func(t *testing.T) {
			t.Parallel()
			at := onDisk(t)
			cmd := exec.CommandContext(t.Context(), "/proc/self/exe", "-test.run=^TestKilled$")
			cmd.Env = append(os.Environ(), childDir+"="+at.url, childStep+"="+string(c.before))
			out, err := cmd.CombinedOutput()
			if status, ok := cmd.ProcessState.Sys().(syscall.WaitStatus); !ok || status.Signal() != syscall.SIGKILL {
				t.Fatalf("the child ended with %v:\n%s", err, out)
			}
			if left := at.left(t); len(left) > 1 || len(left) == 1 != c.left {
				t.Errorf("left: %q", left)
			}
			s := open(t, at.url)
			if left := at.left(t); len(left) > 0 {
				t.Errorf("left after the next start: %q", left)
			}
			b, digest := content(killedSize)
			if c.there {
				check(t, s, b, 0)
			} else {
				absent(t, s, digest)
			}
			put(t, s, killedSize)
			check(t, s, b, 0)
		})
	}
}
