// SPDX-License-Identifier: Apache-2.0

package api

import (
	"testing"

	"github.com/openwaybill/waybill"
	"github.com/openwaybill/waybill/internal/control"
)

// Long contents are read one by one, and no page has too much of them.
func TestLongContents(t *testing.T) {
	t.Parallel()
	const size = 12 << 20 // bytes; as Base64, two of them fit on a page
	yes, two := true, int64(10)
	listing := func() control.Listing[control.DeliveryResult] {
		var l control.Listing[control.DeliveryResult]
		for _, id := range []waybill.DeliveryID{"f-3", "f-2", "f-1"} {
			l.Items = append(l.Items, control.DeliveryResult{
				Delivery: waybill.Delivery{ID: id, ContentType: waybill.Base64}, Left: &waybill.ContentRef{Size: size, Base64: true},
			})
		}
		l.Items[2].Content, l.Items[2].Left = "short", nil
		l.Total = 3
		return l
	}
	for _, tt := range []struct {
		name     string
		in       describeSendFileResultsInput
		contents []int // their lengths, -1 where it is omitted
		more     bool
		read     int
	}{
		{"by number", describeSendFileResultsInput{}, []int{16 << 20, 16 << 20, -1}, false, 2},
		{"by token", describeSendFileResultsInput{paging: paging{MaxResults: &two}}, []int{16 << 20, 16 << 20}, true, 2},
		{"omitted", describeSendFileResultsInput{paging: paging{MaxResults: &two}, OmitContent: &yes}, []int{-1, -1, -1}, false, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			f := newFake()
			f.deliveries = listing()
			rooms := newAnswers(0)
			room, err := rooms.take(t.Context(), "a")
			if err != nil {
				t.Fatal(err)
			}
			c := &call{service: f, op: &Operation{Name: "DescribeSendFileResults"}, maxPage: 50, maxText: 61 << 20, place: room}
			out, err := c.describeSendFileResults(t.Context(), &tt.in)
			if err != nil {
				t.Fatal(err)
			}
			rows := out.Invocations.Invocation
			if len(rows) != len(tt.contents) || (out.NextToken != "") != tt.more || len(f.read) != tt.read {
				t.Fatalf("%d rows, next %q, %d read", len(rows), out.NextToken, len(f.read))
			}
			for i, want := range tt.contents {
				if omitted := want < 0; rows[i].ContentOmitted != omitted || len(rows[i].Content) != max(want, 0) {
					t.Errorf("row %d has %d bytes, omitted %t; want %d", i, len(rows[i].Content), rows[i].ContentOmitted, want)
				}
			}
			if want := int64(likelyMost + tt.read*16<<20); room.bytes != want {
				t.Errorf("it takes %d bytes of the room, want %d", room.bytes, want)
			}
		})
	}

	f := newFake()
	f.deliveries = listing()
	for i := range f.deliveries.Items {
		f.deliveries.Items[i].Left = &waybill.ContentRef{Size: 60 << 20}
	}
	rooms := newAnswers(61 << 20)
	c := &call{service: f, op: &Operation{Name: "DescribeSendFileResults"}, maxPage: 50, maxText: 61 << 20}
	for want := range 2 { // an account has a share of the room for one answer like that
		room, err := rooms.take(t.Context(), "a")
		if err != nil {
			t.Fatal(err)
		}
		c.place = room
		_, err = c.describeSendFileResults(t.Context(), &describeSendFileResultsInput{})
		if refused := waybill.CodeOf(err) == waybill.Unavailable; refused != (want > 0) || err != nil && !refused {
			t.Errorf("answer %d: %v", want, err)
		}
	}
}

// The bound of a body follows from that of a content.
func TestBoundOfBodies(t *testing.T) {
	t.Parallel()
	for content, want := range map[int]int64{0: commonBody, 32 << 10: commonBody, 512 << 10: commonBody, waybill.MaxContent: 3*waybill.MaxContent + 512<<10} {
		if got := newBodies(content).most; got != want {
			t.Errorf("for a content of %d bytes: %d, want %d", content, got, want)
		}
	}
}
