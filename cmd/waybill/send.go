// SPDX-License-Identifier: Apache-2.0

package main

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"github.com/openwaybill/waybill"
	"github.com/openwaybill/waybill/internal/client"
)

// waitGrace is how long after its timeout a delivery may take to become final: the server ends what passed its deadline
// a little later.
const waitGrace = 15 * time.Second

type sendOptions struct {
	clientFlags
	choice
	file        waybill.FileSpec
	group       string // ID of a resource group
	timeout     time.Duration
	description string
	preview     bool
	dryRun      bool
	diff        bool
	wait        bool
}

func newSendCmd(e env) *cobra.Command {
	o := &sendOptions{}
	cmd := &cobra.Command{
		Use: "send FILE --to DIR (--instance ID... | --instances-from FILE | --tag k=v... | --name-pattern P | --activation ID | " +
			"--resource-group ID | --all)",
		Short: "place a file on machines",
		Long: `Send places one file on machines: whole or not at all, with the owner, group and mode asked for. FILE "-" is
standard input. How large a file may be is the server's to say (--max-content).

Machines are given by their IDs, or by what they have: then several of --tag, --name-pattern, --activation and
--resource-group narrow, and the server finds the machines. All are one delivery, of up to 50,000 machines (the
server's --max-targets). With --preview nothing is sent: it shows who would be hit. With --dry-run the machines say what would
happen, and change nothing; with --diff they also show which lines.

Without --wait it prints the ID of the delivery. What the server has no time for, or what it may have answered when
nobody heard it, is sent again up to three times, and still delivered once.

` + exitCodesHelp,
		Example: `  waybill send app.conf --to /etc/app --tag role=web --owner app --mode 0640 --overwrite --wait
  waybill send app.conf --to /etc/app --name-pattern 'web-*' --tag env=prod --preview
  waybill send app.conf --to /etc/app --tag role=web --overwrite --diff
  date | waybill send - --name date.txt --to /tmp --all`,
		Args: usageArgs(cobra.ExactArgs(1)),
	}
	o.addTo(cmd)
	flags := cmd.Flags()
	flags.StringVar(&o.file.TargetDir, "to", "", "target `DIR` on the machines, absolute; created if missing")
	o.addFlags(flags)
	flags.StringVar(&o.group, "resource-group", "", "deliver for the resource group with this `ID`, to its instances only")
	flags.StringVar(&o.file.Name, "name", "", "`NAME` of the file on the machines (default: that of FILE)")
	flags.StringVar(&o.file.Owner, "owner", "", "owner, a `USER` name or number (default root)")
	flags.StringVar(&o.file.Group, "group", "", "`GROUP` name or number (default root)")
	flags.StringVar(&o.file.Mode, "mode", "", "permissions, 3 or 4 `OCTAL` digits (default 0644)")
	flags.BoolVar(&o.file.Overwrite, "overwrite", false, "replace an existing file of that name")
	flags.DurationVar(&o.timeout, "timeout", time.Minute, "how long the machines have, at least 10s")
	flags.StringVar(&o.description, "description", "", "`TEXT` kept with the delivery")
	flags.BoolVar(&o.preview, "preview", false, "send nothing, and show who would be hit")
	flags.BoolVar(&o.dryRun, "dry-run", false, "change nothing, and show what would happen on every machine")
	flags.BoolVar(&o.diff, "diff", false, "as --dry-run, and show which lines of a text would change (needs waybill:DiffFile)")
	flags.BoolVar(&o.wait, "wait", false, "wait for the outcome on every machine and show it")

	cmd.RunE = runE(e, func(ctx context.Context, args []string) error { return o.run(ctx, e, args[0]) })
	return usageFlags(cmd)
}

func (o *sendOptions) run(ctx context.Context, e env, file string) error {
	if err := o.check(file); err != nil {
		return err
	}
	content, err := readContent(e, file)
	if err != nil {
		return err
	}
	r := client.SendFileRequest{
		File: o.file, Content: content, Description: o.description, Timeout: o.timeout, ResourceGroup: o.group, ClientToken: rand.Text(),
		DryRun: o.dryRun, Diff: o.diff,
	}
	if err := o.choose(e, o.group, &r); err != nil {
		return err
	}
	c, err := o.connect(ctx, e)
	if err != nil {
		return err
	}
	if o.preview {
		return o.showPreview(ctx, e, c, r)
	}
	id, err := persist(ctx, e.err, func() (waybill.DeliveryID, error) { return c.SendFile(ctx, r) })
	if refused, ok := errors.AsType[*client.Error](err); ok && refused.MaxContent > 0 {
		err = tooLarge(fmt.Sprintf("the file has %d bytes", len(content)), "this server's deliveries carry", refused.MaxContent)
	}
	if err != nil {
		return o.hint(err, o.group)
	}
	if !o.wait && !o.dryRun {
		return o.write(e, newSent(id, nil), textf("%s", id))
	}
	return o.follow(ctx, e, c, id)
}

// check finds what is wrong with the command line before anything is read or called.
func (o *sendOptions) check(file string) error {
	o.dryRun = o.dryRun || o.diff
	if o.preview && o.dryRun {
		return usagef("--preview asks no machine, --dry-run asks them all; use one of them")
	}
	if o.file.TargetDir == "" && !o.preview {
		return usagef("--to is missing: the directory on the machines, such as --to /etc/app")
	}
	if o.file.Name == "" {
		if file == "-" && !o.preview {
			return usagef("--name is missing: what standard input is to be called on the machines")
		}
		o.file.Name = filepath.Base(file)
	}
	if err := o.choice.check(file, o.group); err != nil {
		return err
	}
	if o.timeout <= 0 {
		return usagef("--timeout %s is not a time to wait", o.timeout)
	}
	if o.preview {
		return nil
	}
	errs := []error{waybill.CheckName(o.file.Name), waybill.CheckTargetDir(o.file.TargetDir)}
	if o.file.Mode != "" {
		_, err := waybill.ParseMode(o.file.Mode)
		errs = append(errs, err)
	}
	for _, err := range errs {
		if err != nil {
			return &exitError{exitUsage, err}
		}
	}
	return nil
}

// How often a call is made again, and how long to wait before the first time, unless the server says; then it doubles.
const (
	maxRepeats = 3
	firstPause = time.Second
	longPause  = time.Minute // the longest wait a server may ask for
)

// persist makes a call again that failed for a reason that may pass, and says so. It is for calls with a client token,
// which may be repeated although the one before was carried out and only its answer lost.
func persist[T any](ctx context.Context, progress io.Writer, call func() (T, error)) (T, error) {
	for repeats, pause := 0, firstPause; ; repeats, pause = repeats+1, 2*pause {
		answer, err := call()
		if err == nil || repeats == maxRepeats || ctx.Err() != nil || !client.Transient(err) {
			return answer, err
		}
		wait := pause
		if refused, ok := errors.AsType[*client.Error](err); ok && refused.RetryAfter > 0 {
			wait = min(refused.RetryAfter, longPause)
		}
		fmt.Fprintf(progress, "%v; trying again in %s\n", err, wait)
		select {
		case <-ctx.Done():
			return answer, ctx.Err()
		case <-time.After(wait):
		}
	}
}

// follow waits until the delivery is final or late, and shows what became of it.
func (o *sendOptions) follow(ctx context.Context, e env, c *client.Client, id waybill.DeliveryID) error {
	w := watcher{
		client:   c,
		limit:    max(o.timeout, waybill.DefaultLimits().MinTimeout) + waitGrace,
		omit:     !o.json(),
		progress: o.progress(e),
	}
	found, err := w.watch(ctx, []waybill.DeliveryID{id})
	if err != nil {
		return err
	}
	result := newSent(id, found)
	if o.diff {
		if result.Diffs, err = collectDiffs(ctx, c, id); err != nil {
			return err
		}
	}
	err = o.write(e, result, func() io.WriterTo { return stacked{targetTable(ctx, c, found), diffText(result.Diffs)} })
	return cmp.Or(err, outcome(found))
}

// sent is the JSON result of send. Invocations is there after waiting.
type sent struct {
	IDs         []waybill.DeliveryID `json:"InvokeIds"` // one; a list since there could be several
	Invocations *client.Deliveries   `json:"Invocations,omitempty"`
	Diffs       []client.FileDiff    `json:"FileDiffs,omitempty"` // with --diff
}

func newSent(id waybill.DeliveryID, found []client.Delivery) sent {
	s := sent{IDs: []waybill.DeliveryID{id}}
	if found != nil {
		s.Invocations = &client.Deliveries{Items: found}
	}
	return s
}

// readContent reads what is to be sent, and refuses what no server takes. What one server takes, that says.
func readContent(e env, file string) ([]byte, error) {
	const limit = largestFile
	if file == "-" {
		return readAtMost(e.in, limit, "standard input")
	}
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	switch {
	case err != nil:
		return nil, err
	case info.IsDir():
		return nil, usagef("%s is a directory; send one file, an archive for instance", file)
	case info.Size() > int64(limit):
		return nil, tooLarge(fmt.Sprintf("%s has %d bytes", file, info.Size()), anyCarries, waybill.MaxContent)
	}
	return readAtMost(f, limit, file)
}

func readAtMost(r io.Reader, limit int, name string) ([]byte, error) {
	content, err := io.ReadAll(io.LimitReader(r, int64(limit)+1))
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", name, err)
	}
	if len(content) > limit {
		return nil, tooLarge(fmt.Sprintf("%s has more than %d bytes", name, limit), anyCarries, waybill.MaxContent)
	}
	return content, nil
}

// largestFile is the most bytes that a server can be told to take.
const largestFile = 64 << 20

// anyCarries is who says the limit that no server goes beyond.
const anyCarries = "a delivery carries"

// tooLarge says what to do about a content that is longer than limit bytes as Base64.
func tooLarge(what, who string, limit int) error {
	hint := "raise the server's --max-content"
	if limit >= waybill.MaxContent {
		hint = "send it in parts"
	}
	return fmt.Errorf("%s; %s at most %d bytes, which are %d as Base64; %s", what, who, min(limit/4*3, largestFile), limit, hint)
}
