// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"crypto/rand"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/openwaybill/waybill"
	"github.com/openwaybill/waybill/internal/client"
	"github.com/openwaybill/waybill/internal/term"
)

func newWebhooksCmd(e env) *cobra.Command {
	f := &clientFlags{}
	cmd := newGroupCmd("webhooks", "have an address told of deliveries and their targets", f,
		newWebhooksCreateCmd(e, f),
		newWebhooksListCmd(e, f),
		newWebhooksShowCmd(e, f),
		newWebhooksUpdateCmd(e, f),
		newWebhooksDeleteCmd(e, f),
		newWebhooksEventsCmd(e, f),
		newWebhooksReplayCmd(e, f),
	)
	cmd.Long = `A webhook is an HTTPS address that is sent a CloudEvent when a delivery is accepted, when one of its targets changes, and
when nothing of it is left to do. Each is signed, and tried again for three days. The document docs/events.md tells how to receive
them.`
	return cmd
}

// webhookFlags are what a webhook is to be.
type webhookFlags struct {
	events      []string
	description string
}

func (w *webhookFlags) addTo(f *pflag.FlagSet) {
	f.StringSliceVar(&w.events, "event", nil, "send events of this `TYPE` only: delivery.created, delivery.ended or target.changed (repeatable; default: all)")
	f.StringVar(&w.description, "description", "", "`TEXT` for people")
}

// eventPrefix may be left out on the command line.
const eventPrefix = "io.waybill."

func (w *webhookFlags) spec(f *pflag.FlagSet) client.WebhookSpec {
	var spec client.WebhookSpec
	for _, t := range w.events {
		spec.Types = append(spec.Types, waybill.EventType(eventPrefix+strings.TrimPrefix(t, eventPrefix)))
	}
	if f.Changed("description") {
		spec.Description = &w.description
	}
	return spec
}

func newWebhooksCreateCmd(e env, f *clientFlags) *cobra.Command {
	var w webhookFlags
	cmd := &cobra.Command{
		Use: "create URL", Short: "make a webhook and print its ID and its secret, this once", Args: usageArgs(cobra.ExactArgs(1)),
		Example: "  waybill webhooks create https://ci.example.com/waybill --event delivery.ended",
	}
	w.addTo(cmd.Flags())
	cmd.RunE = runE(e, func(ctx context.Context, args []string) error {
		c, err := f.connect(ctx, e)
		if err != nil {
			return err
		}
		spec := w.spec(cmd.Flags())
		spec.URL = args[0]
		made, err := c.CreateWebhook(ctx, spec, rand.Text())
		if err != nil {
			return err
		}
		return f.write(e, made, textf("%s\nsecret: %s", made.Webhook.ID, made.Secret))
	})
	return cmd
}

// oneWebhook and manyWebhooks are the shapes of webhooks in answers.
type (
	oneWebhook   struct{ Webhook client.Webhook }
	manyWebhooks struct {
		Webhooks struct{ Webhook []client.Webhook }
	}
)

func newWebhooksListCmd(e env, f *clientFlags) *cobra.Command {
	cmd := &cobra.Command{Use: "list", Short: "list webhooks", Args: usageArgs(cobra.NoArgs)}
	cmd.RunE = runE(e, func(ctx context.Context, _ []string) error {
		c, err := f.connect(ctx, e)
		if err != nil {
			return err
		}
		list, err := c.Webhooks(ctx, "")
		if err != nil {
			return err
		}
		var found manyWebhooks
		found.Webhooks.Webhook = list
		return f.write(e, found, func() io.WriterTo {
			table := term.NewTable("WEBHOOK", "STATUS", "WAITING", "URL", "DESCRIPTION")
			for _, w := range list {
				table.Add(w.ID, w.Status, strconv.FormatInt(w.Waiting, 10), w.URL, w.Description)
			}
			return table
		})
	})
	return cmd
}

func newWebhooksShowCmd(e env, f *clientFlags) *cobra.Command {
	cmd := &cobra.Command{Use: "show ID", Short: "show one webhook, and how it fares", Args: usageArgs(cobra.ExactArgs(1))}
	cmd.RunE = runE(e, func(ctx context.Context, args []string) error {
		c, err := f.connect(ctx, e)
		if err != nil {
			return err
		}
		list, err := c.Webhooks(ctx, args[0])
		if err != nil {
			return err
		}
		if len(list) == 0 {
			return fmt.Errorf("there is no webhook %s", args[0])
		}
		return f.write(e, oneWebhook{list[0]}, webhookTable(list[0]))
	})
	return cmd
}

func webhookTable(w client.Webhook) func() io.WriterTo {
	return func() io.WriterTo {
		events := "all"
		if len(w.Types.Items) > 0 {
			var names []string
			for _, t := range w.Types.Items {
				names = append(names, strings.TrimPrefix(string(t), eventPrefix))
			}
			events = strings.Join(names, ", ")
		}
		table := term.NewTable("WEBHOOK", w.ID)
		for _, row := range [][2]string{
			{"URL", w.URL},
			{"DESCRIPTION", w.Description},
			{"EVENTS", events},
			{"STATUS", w.Status},
			{"REASON", w.Reason},
			{"WAITING", strconv.FormatInt(w.Waiting, 10)},
			{"FAILURES IN A ROW", strconv.Itoa(w.Failures)},
			{"NO ATTEMPT BEFORE", w.Resume},
			{"CREATED", w.Created},
			{"UPDATED", w.Updated},
		} {
			if row[1] != "" {
				table.Add(row[0], row[1])
			}
		}
		return table
	}
}

func newWebhooksUpdateCmd(e env, f *clientFlags) *cobra.Command {
	var w webhookFlags
	var address string
	var enable, disable bool
	cmd := &cobra.Command{
		Use: "update ID", Short: "change a webhook, enable or disable it", Args: usageArgs(cobra.ExactArgs(1)),
		Long: `Update changes what is given of a webhook. While it is disabled, nothing of what happens is kept for it; what waits goes on
waiting, and is tried again at once when it is enabled.`,
	}
	w.addTo(cmd.Flags())
	cmd.Flags().StringVar(&address, "url", "", "send events to this `URL`")
	cmd.Flags().BoolVar(&enable, "enable", false, "send events")
	cmd.Flags().BoolVar(&disable, "disable", false, "send no events")
	cmd.RunE = runE(e, func(ctx context.Context, args []string) error {
		spec := w.spec(cmd.Flags())
		spec.URL = address
		switch {
		case enable && disable:
			return usagef("--enable and --disable exclude each other")
		case enable:
			spec.Status = "Enabled"
		case disable:
			spec.Status = "Disabled"
		}
		c, err := f.connect(ctx, e)
		if err != nil {
			return err
		}
		changed, err := c.ModifyWebhook(ctx, args[0], spec)
		if err != nil {
			return err
		}
		return f.write(e, oneWebhook{changed}, webhookTable(changed))
	})
	return cmd
}

func newWebhooksDeleteCmd(e env, f *clientFlags) *cobra.Command {
	cmd := &cobra.Command{
		Use: "delete ID", Short: "delete a webhook, with what it has not been sent", Args: usageArgs(cobra.ExactArgs(1)),
	}
	cmd.RunE = runE(e, func(ctx context.Context, args []string) error {
		c, err := f.connect(ctx, e)
		if err != nil {
			return err
		}
		if err := c.DeleteWebhook(ctx, args[0]); err != nil {
			return err
		}
		return f.write(e, struct {
			WebhookID string `json:"WebhookId"`
		}{args[0]}, textf("deleted %s", args[0]))
	})
	return cmd
}

func newWebhooksEventsCmd(e env, f *clientFlags) *cobra.Command {
	var status string
	limit := 50
	cmd := &cobra.Command{
		Use: "events ID", Short: "list what a webhook was or is to be sent, newest first", Args: usageArgs(cobra.ExactArgs(1)),
		Example: "  waybill webhooks events wh-hz0k2 --status Failed",
	}
	cmd.Flags().StringVar(&status, "status", "", "only those that are `STATUS`: Waiting, Sent or Failed")
	cmd.Flags().IntVar(&limit, "limit", limit, "list at most this many, 0 for all")
	cmd.RunE = runE(e, func(ctx context.Context, args []string) error {
		c, err := f.connect(ctx, e)
		if err != nil {
			return err
		}
		var found struct {
			Events struct{ Event []client.WebhookEvent }
		}
		found.Events.Event = []client.WebhookEvent{}
		for v, err := range c.WebhookEvents(ctx, args[0], waybill.EventStatus(status)) {
			if err != nil {
				return err
			}
			found.Events.Event = append(found.Events.Event, v)
			if len(found.Events.Event) == limit {
				break
			}
		}
		return f.write(e, found, func() io.WriterTo {
			table := term.NewTable("EVENT", "TIME", "TYPE", "SUBJECT", "STATUS", "ATTEMPTS", "LAST ANSWER")
			for _, v := range found.Events.Event {
				table.Add(v.ID, v.Time, strings.TrimPrefix(string(v.Type), eventPrefix), v.Subject, string(v.Status), strconv.Itoa(v.Attempts), v.Answer)
			}
			return table
		})
	})
	return cmd
}

func newWebhooksReplayCmd(e env, f *clientFlags) *cobra.Command {
	var events []string
	var since, until string
	cmd := &cobra.Command{
		Use: "replay ID (--event EVENT_ID... | --since TIME)", Short: "send events again that were sent or given up",
		Args:    usageArgs(cobra.ExactArgs(1)),
		Example: "  waybill webhooks replay wh-hz0k2 --since 2026-11-30T08:00:00Z",
	}
	cmd.Flags().StringSliceVar(&events, "event", nil, "the event with this `ID` (repeatable)")
	cmd.Flags().StringVar(&since, "since", "", "events that happened since this `TIME`, such as 2026-11-30T08:00:00Z")
	cmd.Flags().StringVar(&until, "until", "", "and before this `TIME` (default: until now)")
	cmd.RunE = runE(e, func(ctx context.Context, args []string) error {
		if (len(events) > 0) == (since != "") || until != "" && since == "" {
			return usagef("say which events: with --event, or with --since and perhaps --until")
		}
		r := client.Replay{IDs: events}
		for _, t := range []struct {
			flag, given string
			to          *time.Time
		}{{"since", since, &r.Since}, {"until", until, &r.Until}} {
			if t.given == "" {
				continue
			}
			at, err := time.Parse(time.RFC3339, t.given)
			if err != nil {
				return usagef("--%s %q is no time such as 2026-11-30T08:00:00Z", t.flag, t.given)
			}
			*t.to = at
		}
		c, err := f.connect(ctx, e)
		if err != nil {
			return err
		}
		n, err := c.ReplayWebhookEvents(ctx, args[0], r)
		if err != nil {
			return err
		}
		return f.write(e, struct{ ReplayCount int64 }{n}, textf("%d to be sent again", n))
	})
	return cmd
}
