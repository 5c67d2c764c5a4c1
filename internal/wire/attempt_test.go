// SPDX-License-Identifier: Apache-2.0

package wire

import "testing"

func TestAttemptID(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		id, delivery string
		attempt      int
	}{
		{"f-hz0jdfwd9f", "f-hz0jdfwd9f", 1},
		{"f-hz0jdfwd9f-2", "f-hz0jdfwd9f", 2},
		{"f-hz0jdfwd9f-10", "f-hz0jdfwd9f", 10},
		{"f-2", "f-2", 1}, // an ID has a dash of its own
		{"f-2-2", "f-2", 2},
		{"", "", 1},
		{"-", "-", 1},
	} {
		if got := AttemptID(tt.delivery, tt.attempt); got != tt.id {
			t.Errorf("attempt %d of %q: %q, want %q", tt.attempt, tt.delivery, got, tt.id)
		}
		if d, n := ParseAttemptID(tt.id); d != tt.delivery || n != tt.attempt {
			t.Errorf("%q: attempt %d of %q, want %d of %q", tt.id, n, d, tt.attempt, tt.delivery)
		}
	}
	// Nobody writes these, and none of them is the ID of a delivery.
	for _, id := range []string{"f-a-1", "f-a-0", "f-a-02", "f-a-+2", "f-a--2", "f-a-", "f-a-b", "f-a-99999999999999999999"} {
		if d, n := ParseAttemptID(id); d+"/" == "f-a/" || n < 1 || AttemptID(d, n) != id {
			t.Errorf("%q: attempt %d of %q", id, n, d)
		}
	}
}

func FuzzAttemptID(f *testing.F) {
	for _, id := range []string{"", "f-a", "f-a-2", "f-a-02", "-", "--2", "f-a-b-3"} {
		f.Add(id)
	}
	f.Fuzz(func(t *testing.T, id string) {
		d, n := ParseAttemptID(id)
		if n < 1 || AttemptID(d, n) != id {
			t.Errorf("%q: attempt %d of %q, which is %q", id, n, d, AttemptID(d, n))
		}
	})
}
