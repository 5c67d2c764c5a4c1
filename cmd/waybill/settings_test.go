// SPDX-License-Identifier: Apache-2.0

package main

import "testing"

func TestSettingsHoldNoSecret(t *testing.T) {
	t.Parallel()
	for value, want := range map[string]string{
		"":                                          "",
		"10m0s":                                     "10m0s",
		"postgres://u:p@h/d?sslmode=disable":        "postgres://u:xxxxx@h/d?sslmode=disable",
		"postgres://h/d?password=p":                 "postgres://h/d?password=xxxxx",
		"tls://a:4222,tls://u:p@b:4222":             "tls://a:4222,tls://u:xxxxx@b:4222",
		"host=h password='a b' dbname=d":            "host=h password=xxxxx dbname=d",
		"postgres://u:p%zz@h/d":                     "postgres://u:xxxxx@h/d",
		"postgres://u:pa,ss@h/d":                    "postgres://u:xxxxx@h/d",
		"postgres://u:12,s@s/w@h/d?x=y":             "postgres://u:xxxxx@h/d?x=y",
		"postgres://h/d?password=p&sslmode=disable": "postgres://h/d?password=xxxxx&sslmode=disable",
		"sqlite:/var/lib/waybill/waybill.db":        "sqlite:/var/lib/waybill/waybill.db",
	} {
		if got := withoutSecret(value); got != want {
			t.Errorf("%q is shown as %q, want %q", value, got, want)
		}
	}
}
