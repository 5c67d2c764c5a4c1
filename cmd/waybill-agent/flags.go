// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"

	"github.com/spf13/pflag"

	"github.com/openwaybill/waybill/internal/agent"
)

const envPrefix = "WAYBILL_AGENT_"

// listSeparator is between the values of a repeated flag in its environment variable, as in PATH.
const listSeparator = string(os.PathListSeparator)

// flagsFromEnv sets the flags that the command line does not from their environment variables.
func flagsFromEnv(flags *pflag.FlagSet) error {
	var bad error
	flags.VisitAll(func(f *pflag.Flag) {
		name := envPrefix + strings.ToUpper(strings.ReplaceAll(f.Name, "-", "_"))
		value, ok := os.LookupEnv(name)
		if !ok || f.Changed || bad != nil {
			return
		}
		values := []string{value}
		if _, repeated := f.Value.(pflag.SliceValue); repeated {
			values = strings.Split(value, listSeparator)
		}
		for _, v := range values {
			if err := flags.Set(f.Name, v); err != nil {
				bad = fmt.Errorf("%s: %w", name, err)
			}
		}
	})
	return bad
}

func addStateDir(flags *pflag.FlagSet, dir *string) {
	flags.StringVar(dir, "state-dir", defaultStateDir(), "`DIR` of the agent's identity and journal")
}

func defaultStateDir() string {
	if runtime.GOOS == "windows" {
		return filepath.Join(os.Getenv("ProgramData"), "waybill-agent")
	}
	return agent.DefaultStateDir
}
