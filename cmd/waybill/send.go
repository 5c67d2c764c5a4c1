// SPDX-License-Identifier: Apache-2.0

package main

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
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
standard input. A file that is too large for the request (the server's --max-content) is uploaded before, once, up to
16 GiB (--max-upload): what the account has is not uploaded again, and the same command goes on where it was broken off.
Give machines the time that a large file takes, with --timeout.

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
	content, err := openContent(e, file)
	if err != nil {
		return err
	}
	defer content.close()
	r := client.SendFileRequest{
		File: o.file, Content: content.whole, Size: content.size, Description: o.description, Timeout: o.timeout, ResourceGroup: o.group,
		ClientToken: rand.Text(), DryRun: o.dryRun, Diff: o.diff,
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
	id, err := o.send(ctx, e, c, content, r)
	if err != nil {
		return o.hint(err, o.group)
	}
	if !o.wait && !o.dryRun {
		return o.write(e, newSent(id, nil), textf("%s", id))
	}
	return o.follow(ctx, e, c, id)
}

// send sends a content with the request or, if the server does not take it like that, uploads it before.
func (o *sendOptions) send(ctx context.Context, e env, c *client.Client, content *content, r client.SendFileRequest) (waybill.DeliveryID, error) {
	send := func() (waybill.DeliveryID, error) { return c.SendFile(ctx, r) }
	if content.whole != nil {
		id, err := persist(ctx, e.err, send)
		refused, ok := errors.AsType[*client.Error](err)
		if !ok || refused.MaxContent == 0 {
			return id, err
		}
	}
	// Nobody waits for an upload to be told of a typing error.
	if _, _, err := c.PreviewSendFile(ctx, r, client.Paging{MaxResults: 1}); err != nil {
		return "", err
	}
	digest, err := o.upload(ctx, e, c, content)
	if err != nil {
		return "", err
	}
	r.Content, r.Digest = nil, digest
	return persist(ctx, e.err, send)
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
