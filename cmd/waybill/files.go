// SPDX-License-Identifier: Apache-2.0

package main

import (
	"cmp"
	"context"
	"encoding/hex"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"github.com/openwaybill/waybill"
	"github.com/openwaybill/waybill/internal/client"
	"github.com/openwaybill/waybill/internal/term"
)

func newFilesCmd(e env) *cobra.Command {
	f := &clientFlags{}
	return newGroupCmd("files", "say which machines have a file", f, newFilesFindCmd(e, f))
}

type findOptions struct {
	*clientFlags
	filter  client.FileFilter
	at      string
	current bool
	limit   int
}

func newFilesFindCmd(e env, f *clientFlags) *cobra.Command {
	o := &findOptions{clientFlags: f}
	cmd := &cobra.Command{
		Use:   "find (--sha256 HEX | --path PATH)",
		Short: "list which machines have or had a content, or a file at a path",
		Long: `Find lists, from the deliveries that the server still keeps, where a file was placed and verified: by content, by path, or
by both. Of each it says whether it is what that machine was given last under that path, and if not, by which delivery it was
replaced. What happened to a file on the machine itself is not known.`,
		Example: `  waybill files find --path /etc/app/app.conf
  waybill files find --sha256 $(sha256sum app.conf | cut -d' ' -f1) --current
  waybill files find --path /etc/app/app.conf --at 2026-11-30T08:00:00Z`,
		Args: usageArgs(cobra.NoArgs),
	}
	flags := cmd.Flags()
	flags.StringVar(&o.filter.SHA256, "sha256", "", "the SHA-256 of the content, in `HEX`")
	flags.StringVar(&o.filter.Path, "path", "", "the absolute `PATH` of the file")
	flags.StringVar(&o.at, "at", "", "only what was there at this `TIME`, such as 2026-11-30T08:00:00Z")
	flags.BoolVar(&o.current, "current", false, "only what no delivery has replaced")
	flags.IntVar(&o.limit, "limit", 0, "list at most this many, 0 for all")
	cmd.RunE = runE(e, func(ctx context.Context, _ []string) error { return o.run(ctx, e) })
	return cmd
}

func (o *findOptions) run(ctx context.Context, e env) error {
	if o.filter.SHA256 == "" && o.filter.Path == "" {
		return usagef("say which file with --sha256 or --path")
	}
	if digest, err := hex.DecodeString(o.filter.SHA256); err != nil || o.filter.SHA256 != "" && len(digest) != 32 {
		return usagef("--sha256 %q is not 64 hexadecimal digits; get them with: sha256sum FILE", o.filter.SHA256)
	}
	if o.filter.Path != "" {
		if err := waybill.CheckPath(o.filter.Path); err != nil {
			return &exitError{exitUsage, err}
		}
	}
	if o.at != "" {
		var err error
		if o.filter.At, err = time.Parse(time.RFC3339, o.at); err != nil {
			return usagef("--at %q is no time such as 2026-11-30T08:00:00Z", o.at)
		}
	}
	if o.current {
		o.filter.State = "Current"
	}
	c, err := o.connect(ctx, e)
	if err != nil {
		return err
	}
	found := []client.ManagedFile{}
	for file, err := range c.Files(ctx, o.filter) {
		if err != nil {
			return err
		}
		if o.limit > 0 && len(found) == o.limit {
			fmt.Fprintf(e.err, "only the first %d are shown; --limit 0 shows all\n", o.limit)
			break
		}
		found = append(found, file)
	}
	return o.write(e, fileList{found}, func() io.WriterTo { return fileTable(found) })
}

// fileList is the shape of DescribeManagedFiles, without the paging.
type fileList struct {
	Files []client.ManagedFile
}

func fileTable(found []client.ManagedFile) *term.Table {
	table := term.NewTable("MACHINE", "NAME", "PATH", "SHA256", "DELIVERY", "SINCE", "STATE", "REPLACED BY", "REPLACED")
	for _, f := range found {
		table.Add(string(f.Instance), f.Name, f.Path, f.SHA256[:min(12, len(f.SHA256))], string(f.Delivery), f.Placed, f.State,
			cmp.Or(string(f.ReplacedBy), "-"), cmp.Or(f.Replaced, "-"))
	}
	return table
}
