// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/openwaybill/waybill/internal/testenv"
)

// TestMain makes this test binary the command that scripts call.
func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"waybill": main})
}

// TestScripts runs the user stories in testdata/script: the real command line and the real agent against real servers.
// Beside the commands of testscript they have those of scriptCommands.
func TestScripts(t *testing.T) {
	t.Parallel()
	agentDir := t.TempDir()
	build := exec.Command("go", "build", "-o", agentDir, "github.com/openwaybill/waybill/cmd/waybill-agent")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build the agent: %v\n%s", err, out)
	}
	testscript.Run(t, testscript.Params{
		Dir:                 filepath.Join("testdata", "script"),
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		Cmds:                scriptCommands(),
		Setup: func(e *testscript.Env) error {
			e.Setenv("PATH", agentDir+string(os.PathListSeparator)+e.Getenv("PATH"))
			e.Setenv("GORACE", "atexit_sleep_ms=0") // else each command built with -race ends a second late
			// Only root may give files away. Whoever else runs the tests sends files of their own.
			e.Setenv("WAYBILL_OWNER", strconv.Itoa(os.Geteuid()))
			e.Setenv("WAYBILL_GROUP", strconv.Itoa(os.Getegid()))
			e.Values[stageKey{}] = &stage{t: e.T().(testing.TB)}
			return nil
		},
	})
}

// stage is the server of one script, which fleet starts.
type stage struct {
	t      testing.TB
	server *testenv.Server
}

type stageKey struct{}

func stageOf(ts *testscript.TestScript) *stage { return ts.Value(stageKey{}).(*stage) }

type scriptCommand = func(ts *testscript.TestScript, neg bool, args []string)

func scriptCommands() map[string]scriptCommand {
	return map[string]scriptCommand{
		"fleet":      cmdFleet,
		"enrolled":   cmdEnrolled,
		"exits":      cmdExits,
		"eventually": cmdEventually,
		"terminate":  cmdTerminate,
		"capture":    cmdCapture,
		"json":       cmdJSON,
		"mode":       cmdMode,
		"empty":      cmdEmpty,
	}
}

// usage ends the script unless the command has n arguments at least, and no "!" before it.
func usage(ts *testscript.TestScript, neg bool, args []string, n int, text string) {
	if neg || len(args) < n {
		ts.Fatalf("usage: %s", text)
	}
}

func number(ts *testscript.TestScript, s string) int {
	n, err := strconv.Atoi(s)
	ts.Check(err)
	return n
}

// cmdFleet starts a server and N machines, demo-001 and so on, and sets what clients read from the environment, $DATA
// (the server's data directory), and $ID1, $ROOT1 and so on for the machines.
func cmdFleet(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, neg, args, 1, "fleet N")
	st := stageOf(ts)
	st.server = testenv.Start(st.t)
	for i := range number(ts, args[0]) {
		a := st.server.Agent()
		ts.Check(st.server.Client.ModifyManagedInstance(st.t.Context(), a.ID, fmt.Sprintf("demo-%03d", i+1)))
		ts.Setenv("ID"+strconv.Itoa(i+1), string(a.ID))
		ts.Setenv("ROOT"+strconv.Itoa(i+1), a.Root)
	}
	ts.Setenv("DATA", st.server.Dir)
	ts.Setenv("WAYBILL_ENDPOINT", st.server.Key.Endpoint)
	ts.Setenv("WAYBILL_CA", st.server.Key.CA)
	ts.Setenv("ALIBABA_CLOUD_ACCESS_KEY_ID", st.server.Key.AccessKeyID)
	ts.Setenv("ALIBABA_CLOUD_ACCESS_KEY_SECRET", st.server.Key.AccessKeySecret)
}

// cmdEnrolled enrols N machines whose agents never run, and sets $SILENT1 and so on to their IDs.
func cmdEnrolled(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, neg, args, 1, "enrolled N")
	for i := range number(ts, args[0]) {
		ts.Setenv("SILENT"+strconv.Itoa(i+1), string(stageOf(ts).server.Enrol().ID))
	}
}

// cmdExits runs a program that must end with the status CODE.
func cmdExits(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, neg, args, 2, "exits CODE PROGRAM [ARG...]")
	got := 0
	if err := ts.Exec(args[1], args[2:]...); err != nil {
		exit, ok := errors.AsType[*exec.ExitError](err)
		if !ok {
			ts.Fatalf("%s: %v", args[1], err)
		}
		got = exit.ExitCode()
	}
	if want := number(ts, args[0]); got != want {
		ts.Fatalf("exit status %d, want %d", got, want)
	}
}

// cmdEventually repeats a program until it succeeds, or with "!" until it fails.
func cmdEventually(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, false, args, 1, "[!] eventually PROGRAM [ARG...]")
	testenv.Eventually(stageOf(ts).t, strings.Join(args, " "), func() bool {
		return (ts.Exec(args[0], args[1:]...) != nil) == neg
	})
}

// cmdTerminate asks every program in the background to end, as service managers do.
func cmdTerminate(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, neg, args, 0, "terminate")
	for _, c := range ts.BackgroundCmds() {
		ts.Check(c.Process.Signal(syscall.SIGTERM))
	}
}

// cmdCapture sets a variable to the first group of a regular expression in what the last program wrote.
func cmdCapture(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, neg, args, 2, "capture VARIABLE REGEXP")
	found := regexp.MustCompile("(?m)" + args[1]).FindStringSubmatch(ts.ReadFile("stdout"))
	if len(found) != 2 {
		ts.Fatalf("%s does not match with one group", args[1])
	}
	ts.Setenv(args[0], found[1])
}

// cmdJSON looks into the JSON that the last program wrote. PATH is names and indexes with dots between; len is the
// length of a list. The value is compared, or kept in a variable.
func cmdJSON(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, neg, args, 3, "json PATH == VALUE | json PATH to VARIABLE")
	var at any
	ts.Check(json.Unmarshal([]byte(ts.ReadFile("stdout")), &at))
	for step := range strings.SplitSeq(args[0], ".") {
		switch v := at.(type) {
		case map[string]any:
			value, ok := v[step]
			if !ok {
				ts.Fatalf("%s: there is no %s", args[0], step)
			}
			at = value
		case []any:
			if step == "len" {
				at = len(v)
				break
			}
			if i := number(ts, step); i < len(v) {
				at = v[i]
				break
			}
			ts.Fatalf("%s: the list has %d items only", args[0], len(v))
		default:
			ts.Fatalf("%s: nothing is below %v", args[0], at)
		}
	}
	switch got := fmt.Sprint(at); {
	case args[1] == "to":
		ts.Setenv(args[2], got)
	case got != args[2]:
		ts.Fatalf("%s is %q, want %q", args[0], got, args[2])
	}
}

// cmdMode checks the permissions of a file.
func cmdMode(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, neg, args, 2, "mode OCTAL FILE")
	info, err := os.Stat(ts.MkAbs(args[1]))
	ts.Check(err)
	if got := fmt.Sprintf("%04o", info.Mode().Perm()); got != args[0] {
		ts.Fatalf("%s has mode %s, want %s", args[1], got, args[0])
	}
}

// cmdEmpty checks that nothing is in a directory.
func cmdEmpty(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, neg, args, 1, "empty DIR")
	entries, err := os.ReadDir(ts.MkAbs(args[0]))
	ts.Check(err)
	for _, e := range entries {
		ts.Fatalf("%s is left in %s", e.Name(), args[0])
	}
}
