// SPDX-License-Identifier: Apache-2.0

package assist

import (
	"crypto/md5"
	"encoding/hex"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/openwaybill/waybill"
	"github.com/openwaybill/waybill/internal/wire"
)

// deliver returns a usual delivery, changed.
func deliver(change func(*wire.Deliver)) *wire.Deliver {
	d := &wire.Deliver{
		Delivery: "f-1", Sent: 1_000_000, Deadline: 1_060_000, Name: "app.conf", TargetDir: "/etc/app", Content: []byte("hello\n"),
		Owner: "app", Group: "www", Mode: 0o640, Overwrite: true,
	}
	if change != nil {
		change(d)
	}
	return d
}

func TestTaskOf(t *testing.T) {
	t.Parallel()
	usual := fileTask{
		TaskID: "f-1", Name: "app.conf", Destination: "/etc/app", Content: "aGVsbG8K", ContentType: "Base64",
		Signature: "eadf6d3ec7a0d0dc4f5a5a23f9e8c9c7", Owner: "app", Group: "www", Mode: "0640", Overwrite: true, Timeout: 60,
	}
	sum := md5.Sum([]byte(usual.Content))
	usual.Signature = hex.EncodeToString(sum[:])
	for _, tc := range []struct {
		name   string
		system string
		change func(*wire.Deliver)
		want   func(*fileTask)
	}{
		{"usual", "linux", nil, func(*fileTask) {}},
		{
			"empty file", "linux", func(d *wire.Deliver) { d.Content = nil },
			func(w *fileTask) { w.Content, w.Signature = "\n", "68b329da9893e34099c7d8ad5cb9c940" },
		},
		{
			"root and root", "linux", func(d *wire.Deliver) { d.Owner, d.Group = "root", "root" },
			func(w *fileTask) { w.Owner, w.Group = "root", "" },
		},
		{
			"root and root by number", "linux", func(d *wire.Deliver) { d.Owner, d.Group = "0", "0" },
			func(w *fileTask) { w.Owner, w.Group = "root", "" },
		},
		{
			"root and another group", "linux", func(d *wire.Deliver) { d.Owner = "0" },
			func(w *fileTask) { w.Owner = "root" },
		},
		{
			"another owner and root", "linux", func(d *wire.Deliver) { d.Group = "0" },
			func(w *fileTask) { w.Group = "root" },
		},
		{
			"root on Windows", "windows", func(d *wire.Deliver) { d.Owner, d.Group = "root", "root" },
			func(w *fileTask) { w.Owner, w.Group = "", "" },
		},
		{"no mode at all", "linux", func(d *wire.Deliver) { d.Mode = 0 }, func(w *fileTask) { w.Mode = "0000" }},
		{"every mode", "linux", func(d *wire.Deliver) { d.Mode = 0o777 }, func(w *fileTask) { w.Mode = "0777" }},
		{"late", "linux", func(d *wire.Deliver) { d.Sent = d.Deadline + 5 }, func(w *fileTask) { w.Timeout = 1 }},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			want := usual
			tc.want(&want)
			if diff := cmp.Diff(want, taskOf(deliver(tc.change), &waybill.Facts{OSType: tc.system})); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestUnsuitable(t *testing.T) {
	t.Parallel()
	const most = maxList / 4 * 3 // bytes that make maxList in Base64
	for _, tc := range []struct {
		name   string
		system string
		change func(*wire.Deliver)
		want   waybill.Cause
	}{
		{"usual", "linux", nil, waybill.NoCause},
		{"setuid", "linux", func(d *wire.Deliver) { d.Mode = 0o4755 }, waybill.CauseModeUnapplied},
		{"setgid", "linux", func(d *wire.Deliver) { d.Mode = 0o2755 }, waybill.CauseModeUnapplied},
		{"sticky", "linux", func(d *wire.Deliver) { d.Mode = 0o1777 }, waybill.CauseModeUnapplied},
		{"owner by number", "linux", func(d *wire.Deliver) { d.Owner = "1000" }, waybill.CauseOwnerMissing},
		{"group by number", "linux", func(d *wire.Deliver) { d.Group = "1000" }, waybill.CauseGroupMissing},
		{"root by number", "linux", func(d *wire.Deliver) { d.Owner, d.Group = "0", "0" }, waybill.NoCause},
		{"name of digits and more", "linux", func(d *wire.Deliver) { d.Owner = "1a" }, waybill.NoCause},
		{"name of 255 bytes", "linux", func(d *wire.Deliver) { d.Name = strings.Repeat("n", 255) }, waybill.NoCause},
		{"name of 256 bytes", "linux", func(d *wire.Deliver) { d.Name = strings.Repeat("é", 128) }, waybill.CauseName},
		{"relative", "linux", func(d *wire.Deliver) { d.TargetDir = "srv" }, waybill.CausePath},
		{"Windows path on Linux", "linux", func(d *wire.Deliver) { d.TargetDir = `C:\srv` }, waybill.CausePath},
		{"Linux path on Windows", "windows", nil, waybill.CausePath},
		{"Windows path", "windows", func(d *wire.Deliver) { d.TargetDir = `C:\srv` }, waybill.NoCause},
		{"empty", "linux", func(d *wire.Deliver) { d.Content = nil }, waybill.NoCause},
		{"as much as there may be", "linux", func(d *wire.Deliver) { d.Content = make([]byte, most) }, waybill.NoCause},
		{"more", "linux", func(d *wire.Deliver) { d.Content = make([]byte, most+1) }, waybill.CauseWriteFailed},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			cause, why := unsuitable(deliver(tc.change), &waybill.Facts{OSType: tc.system})
			if cause != tc.want || (why == "") != (cause == waybill.NoCause) {
				t.Errorf("%q: %s", cause, why)
			}
		})
	}
}

func TestFetchOf(t *testing.T) {
	t.Parallel()
	ids := map[string]bool{}
	for _, raw := range []string{
		"reason=startup&cold_start=true&currentTime=1", "reason=kickoff&currentTime=1", "reason=kickoff&taskId=f-1&currentTime=1",
		"reason=kickoff&taskId=f-2&currentTime=1", "reason=kickoff&currentTime=2",
	} {
		f := fetchOf(parseQuery(raw))
		if f.id == "" || ids[f.id] || f.startup != strings.HasPrefix(raw, "reason=startup") {
			t.Errorf("%s: %+v", raw, f)
		}
		ids[f.id] = true
		if again := fetchOf(parseQuery(raw + "&offset=0")); again != f {
			t.Errorf("%s: a repetition is %+v", raw, again)
		}
	}
	if f := fetchOf(parseQuery("reason=kickoff")); f.id != "" {
		t.Errorf("%+v", f)
	}
}
