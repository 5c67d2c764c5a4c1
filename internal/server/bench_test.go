// SPDX-License-Identifier: Apache-2.0

//go:build unix

package server_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/openwaybill/waybill"
	"github.com/openwaybill/waybill/internal/agent"
	"github.com/openwaybill/waybill/internal/client"
	"github.com/openwaybill/waybill/internal/server"
)

// callers is how many clients these benchmarks have, each with a connection of its own.
const callers = 64

// BenchmarkAPI calls a whole server over HTTPS. cpu-µs/op is the CPU time of server and callers together: unlike ns/op it
// hardly depends on what else the machine does.
func BenchmarkAPI(b *testing.B) {
	key := benchServer(b)
	clients := make([]*client.Client, callers)
	for i := range clients {
		var err error
		if clients[i], err = client.New(client.Config{
			Endpoint: key.Endpoint, AccessKeyID: key.AccessKeyID, AccessKeySecret: key.AccessKeySecret, Region: key.Region, CAFile: key.CA,
		}); err != nil {
			b.Fatal(err)
		}
	}
	to := enrol(b, clients[0], key)
	request := client.SendFileRequest{
		Instances: []waybill.InstanceID{to}, Content: make([]byte, 1024), Timeout: time.Hour,
		File: waybill.FileSpec{Name: "bench", TargetDir: "/srv", Owner: "0", Group: "0", Overwrite: true},
	}
	sent, err := clients[0].SendFile(b.Context(), request)
	if err != nil {
		b.Fatal(err)
	}
	for name, call := range map[string]func(context.Context, *client.Client) error{
		"SendFile": func(ctx context.Context, c *client.Client) error {
			_, err := c.SendFile(ctx, request)
			return err
		},
		"DescribeSendFileResults": func(ctx context.Context, c *client.Client) error {
			l, err := c.DescribeSendFileResults(ctx, client.DeliveryFilter{ID: sent}, client.Paging{})
			if err == nil && len(l.Items) != 1 {
				err = fmt.Errorf("%d deliveries", len(l.Items))
			}
			return err
		},
	} {
		b.Run(name, func(b *testing.B) {
			var next atomic.Int64
			b.ReportAllocs()
			b.SetParallelism(callers)
			before := cpuTime(b)
			b.RunParallel(func(pb *testing.PB) {
				c := clients[next.Add(1)%callers]
				for pb.Next() {
					if err := call(b.Context(), c); err != nil {
						b.Error(err)
						return
					}
				}
			})
			b.ReportMetric(float64((cpuTime(b)-before).Microseconds())/float64(b.N), "cpu-µs/op")
		})
	}
}

// benchServer runs a server that logs nothing and has no limits of pace, and returns its first key.
func benchServer(b *testing.B) *server.Credentials {
	b.Helper()
	cfg := server.DefaultConfig()
	cfg.DataDir = filepath.Join(b.TempDir(), "server")
	cfg.Listen, cfg.AgentListen, cfg.AdminListen = "127.0.0.1:0", "127.0.0.1:0", ""
	cfg.AccountRate, cfg.ActionRate, cfg.PerAddress = 0, 0, 0
	srv, err := server.Open(b.Context(), cfg, slog.New(slog.DiscardHandler))
	if err != nil {
		b.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(b.Context()))
	ended := make(chan error, 1)
	go func() { ended <- srv.Run(ctx) }()
	b.Cleanup(func() {
		cancel()
		if err := errors.Join(<-ended, srv.Close()); err != nil {
			b.Error(err)
		}
	})
	return srv.First()
}

// enrol makes a machine whose agent does not run.
func enrol(b *testing.B, c *client.Client, key *server.Credentials) waybill.InstanceID {
	b.Helper()
	ca, err := os.ReadFile(key.CA)
	if err != nil {
		b.Fatal(err)
	}
	a, err := c.CreateActivation(b.Context(), client.CreateActivationRequest{InstanceName: "bench", InstanceCount: 1})
	if err != nil {
		b.Fatal(err)
	}
	st, err := agent.Enroll(b.Context(), agent.EnrollOptions{
		StateDir: b.TempDir(), Server: key.Endpoint, CA: string(ca), Version: "bench", ActivationID: string(a.ID), ActivationCode: a.Code,
	})
	if err != nil {
		b.Fatal(err)
	}
	return waybill.InstanceID(st.Instance)
}

// cpuTime is what this process has used.
func cpuTime(b *testing.B) time.Duration {
	b.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
