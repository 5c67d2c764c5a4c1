// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	terminal "golang.org/x/term"

	"github.com/openwaybill/waybill"
	"github.com/openwaybill/waybill/internal/audit"
	"github.com/openwaybill/waybill/internal/client"
	"github.com/openwaybill/waybill/internal/term"
)

func newAuditCmd(e env) *cobra.Command {
	f := &clientFlags{}
	cmd := newGroupCmd("audit", "show who did what, check that nothing was altered, and export it", f,
		newAuditListCmd(e, f),
		newAuditVerifyCmd(e, f),
		newAuditExportCmd(e, f),
	)
	cmd.Long = `The audit trail of an account has a record of every request that changes something, and of every one that
was refused. Each record holds the hash of the one before, so none can be altered or removed unnoticed.`
	return cmd
}

// span is a part of time.
type span struct{ since, until string }

func (s *span) addTo(flags *pflag.FlagSet) {
	flags.StringVar(&s.since, "since", "",
		"only records from this `TIME` on, such as 2026-12-24T18:00:00Z, 2026-12-24 or 24h (that long ago)")
	flags.StringVar(&s.until, "until", "", "only records before this `TIME`, likewise")
}

func (s *span) set(f *waybill.AuditFilter) (err error) {
	now := time.Now()
	if f.From, err = parsePast("--since", s.since, now); err != nil {
		return err
	}
	f.To, err = parsePast("--until", s.until, now)
	return err
}

// parsePast reads a time, a day, or how long ago it was. The empty text is no time.
func parsePast(flag, value string, now time.Time) (time.Time, error) {
	if value == "" {
		return time.Time{}, nil
	}
	if ago, err := time.ParseDuration(value); err == nil && ago >= 0 {
		return now.Add(-ago), nil
	}
	for _, layout := range []string{time.RFC3339, time.DateOnly} {
		if at, err := time.Parse(layout, value); err == nil {
			return at, nil
		}
	}
	return time.Time{}, usagef(
		"%s %q is neither a time such as 2026-12-24T18:00:00Z or 2026-12-24 nor a duration such as 24h", flag, value)
}

func newAuditListCmd(e env, f *clientFlags) *cobra.Command {
	var (
		filter waybill.AuditFilter
		when   span
		limit  int
	)
	cmd := &cobra.Command{
		Use: "list", Short: "list records, newest first",
		Example: `  waybill audit list --since 24h --actor alice
  waybill audit list --action ecs:SendFile --result Forbidden.RAM`,
		Args: usageArgs(cobra.NoArgs),
	}
	flags := cmd.Flags()
	when.addTo(flags)
	flags.StringVar(&filter.Action, "action", "", "only records of this `ACTION`, such as ecs:SendFile")
	flags.StringVar(&filter.Actor, "actor", "", "only records of the user with this `NAME`, or the instance with this ID")
	flags.StringVar(&filter.AccessKey, "access-key", "", "only records of requests with the access key `ID`")
	flags.StringVar(&filter.RequestID, "request-id", "", "only the record of the request with this `ID`")
	flags.StringVar(&filter.Result, "result", "", "only records with this `RESULT`: OK, Repeated, or an error code")
	flags.IntVar(&limit, "limit", 50, "list at most this many, 0 for all")
	cmd.RunE = runE(e, func(ctx context.Context, _ []string) error {
		if limit < 0 {
			return usagef("--limit %d is less than nothing; 0 lists all", limit)
		}
		if err := when.set(&filter); err != nil {
			return err
		}
		c, err := f.connectAnywhere(e)
		if err != nil {
			return err
		}
		found, err := listAudit(ctx, e, c, filter, limit)
		if err != nil {
			return err
		}
		return f.write(e, struct{ AuditRecords client.AuditRecords }{client.AuditRecords{Items: found}}, func() io.WriterTo {
			return auditTable(found)
		})
	})
	return cmd
}

// listAudit lists what the filter selects, at most the limit unless that is zero. It asks for no more than it needs.
func listAudit(
	ctx context.Context, e env, c *client.Client, filter waybill.AuditFilter, limit int,
) ([]client.AuditRecord, error) {
	found := []client.AuditRecord{}
	if limit > 0 && limit <= maxAuditPage {
		page, err := c.ListAuditRecords(ctx, filter, client.Paging{MaxResults: limit})
		if err != nil {
			return nil, err
		}
		if page.NextToken != "" {
			fmt.Fprintf(e.err, "only the newest %d are shown; --limit 0 shows all\n", limit)
		}
		return append(found, page.Items...), nil
	}
	for r, err := range c.AuditRecords(ctx, filter) {
		if err != nil {
			return nil, err
		}
		if limit > 0 && len(found) == limit {
			fmt.Fprintf(e.err, "only the newest %d are shown; --limit 0 shows all\n", limit)
			break
		}
		found = append(found, r)
	}
	return found, nil
}

// maxAuditPage is how many records one call returns at most.
const maxAuditPage = 1000

func auditTable(found []client.AuditRecord) *term.Table {
	table := term.NewTable("NO", "TIME", "ACTOR", "KEY", "FROM", "ACTION", "SUBJECT", "RESULT", "REQUEST")
	for _, r := range found {
		actor := string(r.ActorType)
		if r.Actor != "" {
			actor += " " + r.Actor
		}
		table.Add(strconv.FormatInt(r.Sequence, 10), r.Time, actor, r.AccessKey, r.SourceIP, r.Action, r.Subject, r.Result,
			r.RequestID)
	}
	return table
}

func newAuditVerifyCmd(e env, f *clientFlags) *cobra.Command {
	var file string
	cmd := &cobra.Command{
		Use:   "verify [--file EXPORT]",
		Short: "check that no record was altered, removed or added",
		Long: `Verify lets the server check its records, and checks all of them here, too, hash by hash. With --file it checks
an export, without a server. It prints the hash of the last record: whoever notes it elsewhere can tell later whether
the trail still holds that record.

Exit codes: 0 nothing was altered, 1 something was, or an error, 2 usage.`,
		Args: usageArgs(cobra.NoArgs),
	}
	cmd.Flags().StringVar(&file, "file", "", "check this `FILE`, which waybill audit export wrote")
	cmd.RunE = runE(e, func(ctx context.Context, _ []string) error {
		var (
			v   client.AuditVerdict
			err error
		)
		if file != "" {
			v, err = verifyExport(file)
		} else {
			v, err = f.verifyServer(ctx, e)
		}
		if err != nil {
			return err
		}
		if !v.Valid {
			err = fmt.Errorf("not valid: %s", v.Problem)
			if f.output != term.FormatJSON {
				return err
			}
		}
		return errors.Join(f.write(e, v, func() io.WriterTo { return validText(v) }), err)
	})
	return cmd
}

func validText(v client.AuditVerdict) io.WriterTo {
	if v.Records == 0 {
		return text("valid: there are no records")
	}
	return text(fmt.Sprintf("valid: %d records, number %d to %d\nlast hash: %s", v.Records, v.First, v.Last, v.LastHash))
}

// verdictOf says what a chain came to that was looked at up to problem.
func verdictOf(chain *audit.Chain, problem error) client.AuditVerdict {
	v := client.AuditVerdict{Valid: problem == nil, Records: chain.Records}
	if chain.Records > 0 {
		v.First, v.Last = chain.First.Sequence, chain.Last.Sequence
		v.LastHash = hex.EncodeToString(chain.Last.Hash[:])
	}
	if problem != nil {
		v.Problem = problem.Error()
	}
	return v
}

func verifyExport(file string) (client.AuditVerdict, error) {
	in, err := os.Open(file)
	if err != nil {
		return client.AuditVerdict{}, err
	}
	defer in.Close()
	chain, problem := audit.Read(in)
	if cause, ok := errors.AsType[*os.PathError](problem); ok { // it cannot be read: that says nothing of the records
		return client.AuditVerdict{}, cause
	}
	return verdictOf(chain, problem), nil
}

// verifyServer lets the server check its records, then checks those it lists. Between the two more may be added.
func (f *clientFlags) verifyServer(ctx context.Context, e env) (client.AuditVerdict, error) {
	c, err := f.connectAnywhere(e)
	if err != nil {
		return client.AuditVerdict{}, err
	}
	said, err := c.VerifyAuditRecords(ctx)
	if err != nil || !said.Valid {
		return said, err
	}
	progress := newCounter(e.err, "checked")
	defer progress.end()
	chain := &audit.Chain{}
	for listed, err := range c.AuditRecords(ctx, waybill.AuditFilter{OldFirst: true}) {
		if err != nil {
			return client.AuditVerdict{}, err
		}
		r, problem := listed.Decode()
		if problem == nil {
			problem = chain.Add(r)
		}
		if problem == nil && r.Sequence == said.Last && listed.Hash != said.LastHash {
			problem = fmt.Errorf("record %d is not the one that the server checked", r.Sequence)
		}
		if problem != nil {
			return verdictOf(chain, problem), nil
		}
		progress.add()
	}
	if chain.Last.Sequence < said.Last {
		return verdictOf(chain, fmt.Errorf("the server checked records up to %d, but lists them up to %d only",
			said.Last, chain.Last.Sequence)), nil
	}
	return verdictOf(chain, nil), nil
}

func newAuditExportCmd(e env, f *clientFlags) *cobra.Command {
	var (
		when span
		file string
	)
	cmd := &cobra.Command{
		Use:   "export [--file OUT]",
		Short: "write all records as JSON lines, oldest first",
		Long: `Export writes all records, or all of a time, as JSON lines, oldest first. What it writes can be checked without
a server: waybill audit verify --file OUT.`,
		Example: "  waybill audit export --since 2026-12-01 --until 2027-01-01 --file december.jsonl",
		Args:    usageArgs(cobra.NoArgs),
	}
	flags := cmd.Flags()
	when.addTo(flags)
	flags.StringVar(&file, "file", "", "write to this `FILE`, which appears, or is replaced, when all is written "+
		"(default: standard output)")
	cmd.RunE = runE(e, func(ctx context.Context, _ []string) error {
		filter := waybill.AuditFilter{OldFirst: true}
		if err := when.set(&filter); err != nil {
			return err
		}
		c, err := f.connectAnywhere(e)
		if err != nil {
			return err
		}
		if file == "" {
			return exportAudit(ctx, e, c, filter, e.out)
		}
		return replaceFile(file, func(w io.Writer) error { return exportAudit(ctx, e, c, filter, w) })
	})
	return cmd
}

func exportAudit(ctx context.Context, e env, c *client.Client, filter waybill.AuditFilter, w io.Writer) error {
	progress := newCounter(e.err, "exported")
	defer progress.end()
	out := bufio.NewWriter(w)
	for listed, err := range c.AuditRecords(ctx, filter) {
		if err != nil {
			return err
		}
		r, err := listed.Decode()
		if err != nil {
			return err
		}
		if _, err := out.Write(append(audit.Marshal(&r), '\n')); err != nil {
			return err
		}
		progress.add()
	}
	return out.Flush()
}

// replaceFile writes a file that only its owner can read, whole or not at all.
func replaceFile(path string, write func(io.Writer) error) (err error) {
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".*")
	if err != nil {
		return fmt.Errorf("write %s: %w", path, errors.Unwrap(err))
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.Remove(f.Name()))
		}
	}()
	if err := errors.Join(write(f), f.Sync(), f.Close()); err != nil {
		return err
	}
	return os.Rename(f.Name(), path)
}

// counter shows on a terminal how many records it was. Elsewhere it shows nothing.
type counter struct {
	w    io.Writer // nil: nowhere
	done string
	n    int
}

func newCounter(w io.Writer, done string) *counter {
	if !isTerminal(w) {
		w = nil
	}
	return &counter{w: w, done: done}
}

func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	return ok && terminal.IsTerminal(int(f.Fd()))
}

// counterStep is how many records pass between two changes of what is shown.
const counterStep = 1000

func (c *counter) add() {
	if c.n++; c.w != nil && c.n%counterStep == 0 {
		fmt.Fprintf(c.w, "\r%d records %s", c.n, c.done)
	}
}

// end leaves the last count on the screen.
func (c *counter) end() {
	if c.w != nil {
		fmt.Fprintf(c.w, "\r%d records %s\n", c.n, c.done)
	}
}
