// SPDX-License-Identifier: Apache-2.0

package api

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"

	"github.com/openwaybill/waybill"
	"github.com/openwaybill/waybill/internal/control"
)

// defaultPageSize is the size of a page that nobody asked for.
const defaultPageSize = 10

// maxPageNumber keeps page number times page size within an int on every system. No listing is that long.
const maxPageNumber = 1 << 24

// paging is how every listing is paged: by number, or by token if MaxResults or NextToken is given.
type paging struct {
	MaxResults *int64 `limits:"1 to 50, default 10" fault:"InvalidParameter.MaxResults" doc:"rows of a page, by token"`
	NextToken  string `doc:"token that the previous page returned; it carries the filters and the page size"`
	PageNumber *int64 `limits:"from 1, default 1" fault:"InvalidParam.PageNumber" doc:"no effect with MaxResults"`
	PageSize   *int64 `limits:"1 to 50, default 10" fault:"InvalidParam.PageSize" doc:"rows of a page, by number"`
}

// paged is how every listing says which part of it a response holds.
type paged struct {
	TotalCount int64  `doc:"rows of all pages"`
	PageNumber int64  `doc:"1 when paging by token"`
	PageSize   int64  `doc:"rows asked for"`
	NextToken  string `doc:"where the next page starts; empty on the last"`
}

// page is one page of a listing as it was asked for.
type page struct {
	control.Page
	number int
	seal   func(cursor string) string
}

// marked is how the listings of RAM are paged.
type marked struct {
	MaxItems *int64 `limits:"1 to 1000, default 100" fault:"InvalidParameter.MaxItems" doc:"rows of a page"`
	Marker   string `fault:"InvalidParameter.Marker" doc:"marker that the previous page returned"`
}

// truncated is how they say that there is more.
type truncated struct {
	IsTruncated bool   `doc:"whether there are more rows"`
	Marker      string `json:",omitempty" xml:",omitempty" doc:"where the next page starts; only with IsTruncated"`
}

// Sizes of such a page.
const (
	defaultItems = 100
	maxItems     = 1000
)

// openMarker reads the paging parameters of a listing of RAM. of is what selects the rows.
func (c *call) openMarker(m marked, of string) (page, error) {
	pg := page{Page: control.Page{Size: defaultItems}}
	if n := m.MaxItems; n != nil {
		if *n < 1 || *n > maxItems {
			return page{}, refuse("InvalidParameter.MaxItems")
		}
		pg.Size = int(*n)
	}
	selected, err := json.Marshal(of)
	if err != nil {
		return page{}, err
	}
	if m.Marker != "" {
		t, err := openToken(c.TokenKey(), m.Marker)
		if err != nil || t.Operation != c.op.Name || t.Account != c.who.Account || !bytes.Equal(t.Query, selected) {
			return page{}, refuse("InvalidParameter.Marker")
		}
		pg.Cursor = t.Cursor
	}
	pg.seal = func(cursor string) string {
		return sealToken(c.TokenKey(), pageToken{c.op.Name, c.who.Account, "", selected, pg.Size, cursor})
	}
	return pg, nil
}

func (pg *page) truncated(next string) truncated {
	if next == "" {
		return truncated{}
	}
	return truncated{IsTruncated: true, Marker: pg.seal(next)}
}

// pageToken is what a NextToken holds: the next page of one account's listing, with all that selects it.
type pageToken struct {
	Operation string            `json:"o"`
	Account   waybill.AccountID `json:"a"`
	Region    string            `json:"r"`
	Query     json.RawMessage   `json:"q"`
	Size      int               `json:"s"`
	Cursor    string            `json:"c"`
}

// openPage reads the paging parameters of a listing. query is the part of its input that selects rows: when a NextToken
// is given, it must be as it was on the first page or empty, and becomes what it was. maxSize bounds PageSize.
//
// A token is returned whenever more rows exist, even if the request paged by number: the pager of the aliyun CLI sends
// its first request without MaxResults and then follows nothing but tokens.
func openPage[Q any](c *call, region string, query *Q, p paging, maxSize int) (page, error) {
	pg := page{Page: control.Page{Size: min(defaultPageSize, c.maxPage)}, number: 1}
	var err error
	switch {
	case p.NextToken != "" || p.MaxResults != nil:
		err = pg.byToken(c, region, query, p)
	default:
		err = pg.byNumber(p, maxSize)
	}
	if err != nil {
		return page{}, err
	}
	selected, err := json.Marshal(query)
	if err != nil {
		return page{}, err
	}
	pg.seal = func(cursor string) string {
		t := pageToken{c.op.Name, c.who.Account, region, selected, pg.Size, cursor}
		return sealToken(c.TokenKey(), t)
	}
	return pg, nil
}

func (pg *page) byNumber(p paging, maxSize int) error {
	if n := p.PageSize; n != nil {
		if *n < 1 || *n > int64(maxSize) {
			return refuse("InvalidParam.PageSize")
		}
		pg.Size = int(*n)
	}
	if n := p.PageNumber; n != nil {
		if *n < 1 || *n > maxPageNumber {
			return refuse("InvalidParam.PageNumber")
		}
		pg.number = int(*n)
	}
	pg.Offset = (pg.number - 1) * pg.Size
	return nil
}

func (pg *page) byToken(c *call, region string, query any, p paging) error {
	if p.NextToken != "" {
		t, err := openToken(c.TokenKey(), p.NextToken)
		if err != nil || t.Operation != c.op.Name || t.Account != c.who.Account || t.Region != region ||
			restore(query, t.Query) != nil {
			return refuse("InvalidParameter.NextToken")
		}
		pg.Size, pg.Cursor = t.Size, t.Cursor
	}
	if n := p.MaxResults; n != nil {
		if *n < 1 || *n > int64(c.maxPage) {
			return refuse("InvalidParameter.MaxResults")
		}
		pg.Size = int(*n)
	}
	return nil
}

// restore sets query to what selected says, unless query already selects something else.
func restore(query any, selected []byte) error {
	given, err := json.Marshal(query)
	if err != nil {
		return err
	}
	empty := bytes.Equal(given, []byte("{}"))
	if !empty && !bytes.Equal(given, selected) {
		return errors.New("other filters than on the page before")
	}
	return json.Unmarshal(selected, query)
}

// of says which part of a listing with that total and next cursor the page is.
func (pg *page) of(total int64, next string) paged {
	p := paged{TotalCount: total, PageNumber: int64(pg.number), PageSize: int64(pg.Size)}
	if next != "" {
		p.NextToken = pg.seal(next)
	}
	return p
}

// sealToken writes t so that only a server with the same key can have written it.
func sealToken(key []byte, t pageToken) string {
	payload, err := json.Marshal(t)
	if err != nil {
		panic(err) // strings, numbers and what was marshalled before
	}
	return base64.RawURLEncoding.EncodeToString(append(tokenMAC(key, payload), payload...))
}

// openToken reads what sealToken wrote with the same key.
func openToken(key []byte, s string) (pageToken, error) {
	b, err := base64.RawURLEncoding.Strict().DecodeString(s)
	if err != nil {
		return pageToken{}, err
	}
	if len(b) < sha256.Size || !hmac.Equal(b[:sha256.Size], tokenMAC(key, b[sha256.Size:])) {
		return pageToken{}, errors.New("the token is not one of ours")
	}
	var t pageToken
	err = json.Unmarshal(b[sha256.Size:], &t)
	return t, err
}

func tokenMAC(key, payload []byte) []byte {
	mac := hmac.New(sha256.New, key)
	mac.Write([]byte("waybill paging token 1\n")) // the key may be used for other things too
	mac.Write(payload)
	return mac.Sum(nil)
}
