// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"github.com/openwaybill/waybill/internal/guide"
	"github.com/openwaybill/waybill/internal/term"
)

func newExplainCmd(e env) *cobra.Command {
	f := clientFlags{output: term.FormatTable}
	var lang string
	cmd := &cobra.Command{
		Use: "explain [CODE]", Short: "say what an error means, and what to do about it",
		Long: "Explain says what an error code means: one of the API, or one with which a machine did not take a file. It shows\n" +
			"usual causes, what to check, and commands to type. Without a code it lists all. It asks no server.",
		Example: "  waybill explain FileAuthorityInvalid\n  waybill explain SignatureDoesNotMatch --lang zh",
		Args:    usageArgs(cobra.MaximumNArgs(1)),
	}
	cmd.Flags().VarP(&f.output, "output", "o", "how to write results")
	cmd.Flags().StringVar(&lang, "lang", guide.English, "`LANGUAGE` of the texts: en or zh")
	cmd.RunE = runE(e, func(_ context.Context, args []string) error {
		if lang != guide.English && lang != guide.Chinese {
			return usagef("--lang %q is neither en nor zh", lang)
		}
		found := guide.All(lang)
		if len(args) == 1 {
			if found = guide.Lookup(lang, args[0]); len(found) == 0 {
				return unknownCode(args[0])
			}
		}
		return f.write(e, struct{ Errors []guide.Entry }{found}, func() io.WriterTo {
			if len(args) == 0 {
				return codeTable(found)
			}
			return textf("%s", explained(found))()
		})
	})
	return usageFlags(cmd)
}

// unknownCode is the error for a code that nothing is known of. It names those that read like it.
func unknownCode(code string) error {
	var near []string
	for _, e := range guide.All(guide.English) {
		a, b := strings.ToLower(e.Code), strings.ToLower(code)
		if (strings.Contains(a, b) || strings.Contains(b, a)) && (len(near) == 0 || near[len(near)-1] != e.Code) {
			near = append(near, e.Code)
		}
	}
	if len(near) == 0 {
		return fmt.Errorf("no error has the code %q; list all with: waybill explain", code)
	}
	return fmt.Errorf("no error has the code %q; did you mean %s?", code, strings.Join(near, ", "))
}

func codeTable(found []guide.Entry) *term.Table {
	table := term.NewTable("CODE", "OF", "MEANING")
	for _, e := range found {
		table.Add(e.Code, string(e.Kind), e.Meaning)
	}
	return table
}

func explained(found []guide.Entry) string {
	var b strings.Builder
	for i, e := range found {
		if i > 0 {
			b.WriteString("\n\n")
		}
		b.WriteString(e.Code)
		if e.Cause != "" {
			fmt.Fprintf(&b, " (%s)", e.Cause)
		}
		b.WriteString("\n  " + e.Meaning)
		for _, part := range []struct {
			title string
			lines []string
		}{{"Usual causes", e.Causes}, {"What to check", e.Check}, {"Commands", e.Commands}} {
			if len(part.lines) > 0 {
				b.WriteString("\n\n  " + part.title)
			}
			for _, l := range part.lines {
				b.WriteString("\n    " + l)
			}
		}
	}
	return b.String()
}
