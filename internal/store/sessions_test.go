// SPDX-License-Identifier: Apache-2.0

package store

import (
	"fmt"
	"testing"
	"time"
)

func TestSessions(t *testing.T) {
	onEach(t, func(t *testing.T, open opener) {
		f, ctx := open(t), t.Context()
		add := func(token, key string, used time.Duration) {
			t.Helper()
			v := Session{Account: "a", AccessKey: key, Created: epoch, Used: epoch.Add(used), Expires: epoch.Add(12 * time.Hour)}
			expect(t, "add "+token, f.AddSession(ctx, token, v, 3), nil)
		}
		there := func(want string) {
			t.Helper()
			got := ""
			for i := range 6 {
				if _, err := f.Session(ctx, fmt.Sprint("t", i)); err == nil {
					got += fmt.Sprint(i)
				}
			}
			if got != want {
				t.Errorf("sessions %q are there, want %q", got, want)
			}
		}
		for i := range 4 {
			add(fmt.Sprint("t", i), "k", time.Duration(i)*time.Minute)
		}
		add("t4", "other", 0)
		there("1234") // of a key, the one least recently used has gone

		expect(t, "use", f.UseSession(ctx, "t1", epoch.Add(time.Hour)), nil)
		expect(t, "use earlier", f.UseSession(ctx, "t1", epoch), nil)
		v, err := f.Session(ctx, "t1")
		expect(t, "session", err, nil)
		if !v.Used.Equal(epoch.Add(time.Hour)) || v.AccessKey != "k" || v.Account != "a" || !v.Expires.Equal(epoch.Add(12*time.Hour)) {
			t.Errorf("session is %+v", v)
		}
		expect(t, "end", f.EndSession(ctx, "t2"), nil)
		expect(t, "end again", f.EndSession(ctx, "t2"), nil)
		there("134")
		if n, err := f.ForgetSessions(ctx, epoch.Add(2*time.Minute), 100); n != 1 || err != nil {
			t.Errorf("forgot %d, %v; want the one of the other key", n, err)
		}
		there("13")
		if n, err := f.EndSessions(ctx, "k"); n != 2 || err != nil {
			t.Errorf("ended %d, %v", n, err)
		}
		there("")
	})
}
