// SPDX-License-Identifier: Apache-2.0

package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/openwaybill/waybill"
	"github.com/openwaybill/waybill/internal/client"
	"github.com/openwaybill/waybill/internal/term"
)

// How often a waiting command asks a server that does not tell it of changes: soon at first, because most deliveries take a
// moment, then ever less often. One that tells is asked once for each change, and no more often than that.
const (
	firstPoll = 100 * time.Millisecond
	lastPoll  = time.Second

	waitFor = 20 * time.Second // that a server may take to tell that nothing has changed
	maxCuts = 3                // calls in a row that are cut off before they are given up: a proxy may not like them
)

type resultsOptions struct {
	clientFlags
	filter client.DeliveryFilter
	tags   []string
	limit  int
	follow bool
	diff   bool
}

func newResultsCmd(e env) *cobra.Command {
	o := &resultsOptions{}
	cmd := &cobra.Command{
		Use:   "results [INVOKE_ID]",
		Short: "show what became of deliveries",
		Long: `Results lists deliveries, newest first. With the ID of one it shows every machine of it, and the exit code
tells how it went; with --watch it waits until all that it lists are final. With --instance as well it lists the attempts
on that machine, if there was more than one.

` + exitCodesHelp,
		Example: `  waybill results
  waybill results f-hz0jdfwd9f --watch
  waybill results --instance mi-hz018jrc1o0 --status Failed -o json`,
		Args: usageArgs(cobra.MaximumNArgs(1)),
	}
	o.addTo(cmd)
	flags := cmd.Flags()
	flags.StringVar((*string)(&o.filter.Instance), "instance", "", "only deliveries to the instance with this `ID`")
	flags.StringVar(&o.filter.Name, "name", "", "only deliveries of files with this `NAME`")
	flags.StringVar((*string)(&o.filter.Status), "status", "",
		"only deliveries that are Pending, Running, Success, Failed or PartialFailed")
	flags.StringVar(&o.filter.ResourceGroup, "resource-group", "", "only deliveries of the resource group with this `ID`")
	flags.StringArrayVar(&o.tags, "tag", nil, "only deliveries that have all these tags, each `KEY=VALUE` (repeatable)")
	flags.IntVar(&o.limit, "limit", 50, "list at most this many, 0 for all")
	flags.BoolVar(&o.diff, "diff", false, "of one dry run, also show which lines would change, if it was sent with --diff")
	flags.BoolVar(&o.follow, "watch", false, "wait until all of them are final")
	cmd.RunE = runE(e, func(ctx context.Context, args []string) error { return o.run(ctx, e, args) })
	return usageFlags(cmd)
}

func (o *resultsOptions) run(ctx context.Context, e env, args []string) error {
	if o.filter.Status != "" && !o.filter.Status.Valid() {
		return usagef("--status %q is none of Pending, Running, Success, Failed and PartialFailed", o.filter.Status)
	}
	if len(args) == 1 {
		o.filter.ID = waybill.DeliveryID(args[0])
	}
	var err error
	if o.filter.Tags, err = parseTags(o.tags); err != nil {
		return err
	}
	o.filter.OmitContent = !o.json()
	c, err := o.connect(ctx, e)
	if err != nil {
		return err
	}
	found, err := o.fetch(ctx, e, c)
	if err != nil {
		return err
	}
	one := o.filter.ID != ""
	if o.diff && !one {
		return usagef("--diff is of one dry run; name it: waybill results INVOKE_ID --diff")
	}
	if one && len(found) == 0 {
		return fmt.Errorf("there is no delivery %s; list them with: waybill results", o.filter.ID)
	}
	if o.follow {
		w := watcher{client: c, instance: o.filter.Instance, omit: o.filter.OmitContent, progress: o.progress(e)}
		if err := w.update(ctx, found); err != nil {
			return err
		}
	}
	if one || o.follow {
		for i := range found {
			if err := c.Complete(ctx, &found[i]); err != nil {
				return err
			}
		}
	}
	var attempts []client.Attempt
	if one && o.filter.Instance != "" && !o.json() && slices.ContainsFunc(found[0].Targets.Items, retried) {
		if attempts, err = c.DescribeSendFileAttempts(ctx, o.filter.ID, o.filter.Instance); err != nil {
			return err
		}
	}
	var diffs []client.FileDiff
	if o.diff {
		if diffs, err = collectDiffs(ctx, c, o.filter.ID); err != nil {
			return err
		}
	}
	err = o.write(e, listed(found, diffs), func() io.WriterTo {
		if attempts != nil {
			return stacked{deliveryTable(found), text(""), targetTable(ctx, c, found), text(""), attemptTable(attempts)}
		}
		if one {
			return stacked{deliveryTable(found), text(""), targetTable(ctx, c, found), diffText(diffs)}
		}
		return deliveryTable(found)
	})
	if err != nil || !one && !o.follow {
		return err
	}
	return outcome(found)
}

// fetch lists what the flags select, at most the limit.
func (o *resultsOptions) fetch(ctx context.Context, e env, c *client.Client) ([]client.Delivery, error) {
	var found []client.Delivery
	for d, err := range c.Deliveries(ctx, o.filter) {
		if err != nil {
			return nil, err
		}
		if o.limit > 0 && len(found) == o.limit {
			fmt.Fprintf(e.err, "only the newest %d are shown; --limit 0 shows all\n", o.limit)
			break
		}
		found = append(found, d)
	}
	return found, nil
}

// watcher waits for deliveries to become final, showing their progress. It is used once.
type watcher struct {
	client   *client.Client
	instance waybill.InstanceID // if set, no other target counts
	omit     bool               // the contents are not wanted
	limit    time.Duration      // how long to wait; zero: as long as it takes
	progress *term.Progress
}

// update replaces the open ones of found by what they have become in the end.
func (w watcher) update(ctx context.Context, found []client.Delivery) error {
	var open []waybill.DeliveryID
	for _, d := range found {
		if d.Omitted && !d.Status.Final() || !d.Omitted && tally(d).open() > 0 {
			open = append(open, d.ID)
		}
	}
	ended, err := w.watch(ctx, open)
	for _, d := range ended {
		found[slices.IndexFunc(found, func(f client.Delivery) bool { return f.ID == d.ID })] = d
	}
	return err
}

// watch waits until all deliveries are final, or for the limit, and returns them as they are then.
func (w watcher) watch(ctx context.Context, ids []waybill.DeliveryID) ([]client.Delivery, error) {
	defer w.progress.Close()
	found, err := w.poll(ctx, ids)
	if err != nil {
		if errors.Is(err, context.Canceled) {
			err = errors.New("interrupted")
		}
		return nil, fmt.Errorf("%w; the delivery goes on, follow it with: waybill results %s --watch", err, ids[0])
	}
	return found, nil
}

func (w watcher) poll(ctx context.Context, ids []waybill.DeliveryID) ([]client.Delivery, error) {
	patient := ctx
	if w.limit > 0 {
		var cancel context.CancelFunc
		patient, cancel = context.WithTimeout(ctx, w.limit)
		defer cancel()
	}
	found, tallies := make([]client.Delivery, len(ids)), make([]targetTally, len(ids))
	for l := (listener{client: w.client}); ; {
		var open waybill.DeliveryID // the first that is
		for i, id := range ids {
			if found[i].ID != "" && tallies[i].open() == 0 {
				continue
			}
			filter := client.DeliveryFilter{ID: id, Instance: w.instance, OmitContent: w.omit}
			page, err := w.client.DescribeSendFileResults(ctx, filter, client.Paging{})
			if err != nil {
				return nil, err
			}
			if len(page.Items) != 1 {
				return nil, fmt.Errorf("delivery %s is not in the server's history any more", id)
			}
			found[i] = page.Items[0]
			if tallies[i], err = w.tally(ctx, &found[i]); err != nil {
				return nil, err
			}
			t := tallies[i]
			w.progress.Update(term.Item{Name: string(id), Total: t.total, Done: t.done, Failed: t.failed})
			if open == "" && t.open() > 0 {
				open = id
			}
		}
		if open == "" {
			return found, w.complete(ctx, found)
		}
		switch l.listen(patient, open); {
		case ctx.Err() != nil:
			return nil, ctx.Err()
		case patient.Err() != nil:
			return found, w.complete(ctx, found)
		}
	}
}

// complete fills in what was left out of deliveries to many machines.
func (w watcher) complete(ctx context.Context, found []client.Delivery) error {
	for i := range found {
		if err := w.client.Complete(ctx, &found[i]); err != nil {
			return err
		}
	}
	return nil
}

// tally counts the targets of a delivery. If it does not list all, the server counts them.
func (w watcher) tally(ctx context.Context, d *client.Delivery) (targetTally, error) {
	if !d.Omitted {
		return tally(*d), nil
	}
	_, groups, err := w.client.DescribeSendFileTargets(ctx, client.TargetFilter{Delivery: d.ID}, client.Paging{MaxResults: 1})
	t := targetTally{total: d.TargetCount}
	for _, g := range groups {
		if g.Status.Final() {
			t.done += int(g.Count)
			if g.Status != waybill.Success {
				t.failed += int(g.Count)
			}
		}
	}
	return t, err
}

// listener is told by the server when a delivery changes, and otherwise says when to look again.
type listener struct {
	client *client.Client
	id     waybill.DeliveryID
	mark   string // of the delivery with that ID, as it was told last
	cuts   int    // calls in a row that failed
	pause  time.Duration
}

// listen returns when it is time to look at the delivery again: because it has changed since it was looked at last, for all
// that is known, or because the server does not tell. That the call fails is not told: to look again shows why.
func (l *listener) listen(ctx context.Context, id waybill.DeliveryID) {
	if id != l.id {
		l.id, l.mark, l.pause = id, "", firstPoll/2
	}
	if l.cuts < maxCuts {
		began := time.Now()
		told, err := l.client.WaitSendFileInvocation(ctx, id, l.mark, waitFor)
		switch {
		case err != nil:
			l.cuts++
		case told.Mark != l.mark:
			if l.cuts, l.mark = 0, told.Mark; time.Since(began) > l.pause {
				l.pause = firstPoll / 2 // changes are rare
			}
			return
		case time.Since(began) >= waitFor-firstPoll: // there was none
			l.cuts = 0
			return
		}
	}
	l.pause = min(2*l.pause, lastPoll)
	select {
	case <-ctx.Done():
	case <-time.After(l.pause):
	}
}

// targetTally counts the targets of a delivery that were listed.
type targetTally struct{ total, done, failed int }

func (t targetTally) open() int { return t.total - t.done }

func tally(d client.Delivery) targetTally {
	t := targetTally{total: len(d.Targets.Items)}
	for _, target := range d.Targets.Items {
		if target.Status.Final() {
			t.done++
			if target.Status != waybill.Success {
				t.failed++
			}
		}
	}
	return t
}

// outcome returns nil if every target succeeded, else the error that carries the exit code.
func outcome(found []client.Delivery) error {
	var all targetTally
	var open waybill.DeliveryID
	for _, d := range found {
		t := tally(d)
		all = targetTally{all.total + t.total, all.done + t.done, all.failed + t.failed}
		if t.open() > 0 {
			open = d.ID
		}
	}
	switch {
	case all.open() > 0:
		return &exitError{exitNotFinal, fmt.Errorf("%d of %d machines are not final yet; "+
			"follow them with: waybill results %s --watch", all.open(), all.total, open)}
	case all.failed > 0 && !slices.ContainsFunc(found, func(d client.Delivery) bool { return !d.DryRun }):
		return &exitError{exitSomeFailed, fmt.Errorf("%d of %d machines would not take the file", all.failed, all.total)}
	case all.failed > 0:
		return &exitError{exitSomeFailed, fmt.Errorf("%d of %d machines did not take the file", all.failed, all.total)}
	}
	return nil
}

// listed is the shape of DescribeSendFileResults, without the paging, and with the diffs that were asked for.
func listed(found []client.Delivery, diffs []client.FileDiff) any {
	return struct {
		Invocations client.Deliveries
		Diffs       []client.FileDiff `json:"FileDiffs,omitempty"`
	}{client.Deliveries{Items: append([]client.Delivery{}, found...)}, diffs}
}

func deliveryTable(found []client.Delivery) *term.Table {
	table := term.NewTable("DELIVERY", "STATUS", "FILE", "MACHINES", "CREATED")
	for _, d := range found {
		file := joinPath(d.TargetDir, d.Name)
		if d.DryRun {
			file += " (dry run)"
		}
		table.Add(string(d.ID), string(d.Status), file, strconv.Itoa(d.TargetCount), d.Created)
	}
	return table
}

// joinPath shows a path as its machine writes it. A backslash is a separator on Windows only.
func joinPath(dir, name string) string {
	separator := "/"
	if !path.IsAbs(dir) && strings.Contains(dir, `\`) {
		separator = `\`
	}
	return strings.TrimSuffix(dir, separator) + separator + name
}

// targetTable shows every machine of the deliveries.
func targetTable(ctx context.Context, c *client.Client, found []client.Delivery) *term.Table {
	names := instanceNames(ctx, c, found)
	head := []string{"MACHINE", "NAME", "STATUS", "CHANGE", "CODE", "DETAIL", "TIME"}
	again := slices.ContainsFunc(found, func(d client.Delivery) bool { return slices.ContainsFunc(d.Targets.Items, retried) })
	if again {
		head = append(head, "ATTEMPT")
	}
	table := term.NewTable(head...)
	for _, d := range found {
		for _, t := range d.Targets.Items {
			row := []string{
				string(t.Instance), cmp.Or(t.Name, names[t.Instance]), string(t.Status), string(t.Change), t.ErrorCode,
				cmp.Or(t.Detail, t.ErrorInfo), cmp.Or(t.Finished, t.Updated),
			}
			if again {
				row = append(row, strconv.Itoa(t.Attempt))
			}
			table.Add(row...)
		}
	}
	return table
}

func retried(t client.Target) bool { return t.Attempt > 1 }

// attemptTable shows every attempt at a delivery on a machine.
func attemptTable(attempts []client.Attempt) *term.Table {
	table := term.NewTable("ATTEMPT", "STATUS", "CHANGE", "CODE", "DETAIL", "BEGAN", "TIME")
	for _, a := range attempts {
		table.Add(strconv.Itoa(a.Number), string(a.Status), string(a.Change), a.ErrorCode, cmp.Or(a.Detail, a.ErrorInfo),
			a.Created, cmp.Or(a.Finished, a.Updated))
	}
	return table
}

// instanceNames asks for the names of the machines. They are an ornament: what cannot be found out is left out, as when
// the caller may see deliveries but not instances.
func instanceNames(ctx context.Context, c *client.Client, found []client.Delivery) map[waybill.InstanceID]string {
	names := map[waybill.InstanceID]string{}
	for _, d := range found {
		if len(d.Targets.Items) > 0 && d.Targets.Items[0].Name != "" {
			continue // they came along
		}
		for chunk := range slices.Chunk(d.Targets.Items, waybill.DefaultLimits().Instances) {
			filter := client.InstanceFilter{}
			for _, t := range chunk {
				filter.IDs = append(filter.IDs, t.Instance)
			}
			for i, err := range c.Instances(ctx, filter) {
				if err != nil {
					return names
				}
				names[i.ID] = i.Name
			}
		}
	}
	return names
}

// stacked writes one after the other.
type stacked []io.WriterTo

// WriteTo writes all of them.
func (s stacked) WriteTo(w io.Writer) (int64, error) {
	var total int64
	for _, part := range s {
		n, err := part.WriteTo(w)
		total += n
		if err != nil {
			return total, err
		}
	}
	return total, nil
}
