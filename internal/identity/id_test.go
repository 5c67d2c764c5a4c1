// SPDX-License-Identifier: Apache-2.0

package identity_test

import (
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/openwaybill/waybill"
	"github.com/openwaybill/waybill/internal/identity"
)

func TestGeneratedForms(t *testing.T) {
	t.Parallel()
	const uuid4 = `[0-9A-F]{8}-[0-9A-F]{4}-4[0-9A-F]{3}-[89AB][0-9A-F]{3}-[0-9A-F]{12}`
	var deliveries identity.DeliveryIDs
	for _, tt := range []struct {
		name string
		make func() string
		form string
	}{
		{"access key ID", func() string { id, _ := identity.NewAccessKey(); return id }, `WB[0-9A-Za-z]{22}`},
		{"access key secret", func() string { _, s := identity.NewAccessKey(); return s }, `[0-9A-Za-z]{30}`},
		{"activation code", func() string { return identity.NewActivationCode("hz") }, `a-hz[0-9A-Za-z]{27}`},
		{"delivery", func() string { return string(deliveries.Next("hz", time.Now())) }, `f-hz[0-9a-v]{26}`},
		{"instance", func() string { return string(identity.NewInstanceID("hz")) }, `mi-hz[0-9a-z]{20}`},
		{"activation", func() string { return string(identity.NewActivationID()) }, uuid4},
		{"request", identity.NewRequestID, uuid4},
		{"account", func() string { return string(identity.NewAccountID()) }, `[1-9][0-9]{15}`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			form := regexp.MustCompile(`^` + tt.form + `$`)
			seen := map[string]bool{}
			for range 1000 {
				id := tt.make()
				if !form.MatchString(id) {
					t.Fatalf("%q does not match %s", id, form)
				}
				if seen[id] {
					t.Fatalf("%q twice", id)
				}
				seen[id] = true
			}
		})
	}
}

// Every character of the alphabet must be possible at every place, or codes are easier to guess than they look.
func TestRandomUsesWholeAlphabet(t *testing.T) {
	t.Parallel()
	var seen [27]map[byte]bool
	for range 3000 {
		for i, c := range []byte(identity.NewActivationCode("")[len("a-"):]) {
			if seen[i] == nil {
				seen[i] = map[byte]bool{}
			}
			seen[i][c] = true
		}
	}
	for i := range seen {
		if len(seen[i]) != 62 { // missing one by chance: 62 × (61/62)^3000 < 10^-19
			t.Errorf("place %d shows %d characters of 62", i, len(seen[i]))
		}
	}
}

func TestVerifyCode(t *testing.T) {
	t.Parallel()
	code := identity.NewActivationCode("hz")
	hash := identity.HashCode(code)
	for _, tt := range []struct {
		name, code string
		hash       []byte
		want       bool
	}{
		{"right", code, hash, true},
		{"wrong", code[:len(code)-1] + "!", hash, false},
		{"empty", "", hash, false},
		{"no hash", code, nil, false},
		{"hash cut short", code, hash[:31], false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			if got := identity.VerifyCode(tt.code, tt.hash); got != tt.want {
				t.Errorf("VerifyCode = %v, want %v", got, tt.want)
			}
		})
	}
	if strings.Contains(string(hash), code) {
		t.Error("the hash shows the code")
	}
}

func TestDeliveryIDsFollowTime(t *testing.T) {
	t.Parallel()
	start := time.Date(2026, 11, 23, 0, 0, 0, 0, time.UTC)
	var ids []waybill.DeliveryID
	for _, step := range []time.Duration{
		0, time.Microsecond, time.Millisecond, time.Second, time.Hour, 40 * 365 * 24 * time.Hour,
	} {
		var another identity.DeliveryIDs // another server of the same region
		ids = append(ids, another.Next("hz", start.Add(step)))
	}
	if !slices.IsSorted(ids) {
		t.Errorf("not in the order of time: %q", ids)
	}
}

func TestDeliveryIDsStrictlyIncrease(t *testing.T) {
	t.Parallel()
	var ids identity.DeliveryIDs
	now := time.Now()
	var wg sync.WaitGroup
	for worker := range 8 {
		wg.Go(func() {
			last := waybill.DeliveryID("")
			for i := range 5000 {
				// The clock stands still, and now and then is set back.
				id := ids.Next("hz", now.Add(-time.Duration(i%3*worker)*time.Second))
				if id <= last {
					t.Errorf("%q after %q", id, last)
					return
				}
				last = id
			}
		})
	}
	wg.Wait()
}

func TestRegionMark(t *testing.T) {
	t.Parallel()
	for region, want := range map[string]string{
		"cn-hangzhou": "hz", "cn-shanghai": "sh", "cn-beijing": "bj", "cn-shenzhen": "sz", "cn-qingdao": "qd",
		"cn-zhangjiakou": "zj", "cn-huhehaote": "hh", "cn-wulanchabu": "wl", "cn-heyuan": "hy", "cn-guangzhou": "gz",
		"cn-chengdu": "cd", "cn-nanjing": "nj", "cn-fuzhou": "fz", "cn-hongkong": "hk",
		"us-west-1": "w1", "ap-southeast-2": "s2", "LAB": "la", "x": "x0", "": "00", "-": "00", "Ünder-Ground": "ng",
	} {
		t.Run(region, func(t *testing.T) {
			t.Parallel()
			if got := identity.RegionMark(region); got != want {
				t.Errorf("RegionMark(%q) = %q, want %q", region, got, want)
			}
		})
	}
}
