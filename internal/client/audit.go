// SPDX-License-Identifier: Apache-2.0

package client

import (
	"context"
	"encoding/hex"
	"fmt"
	"iter"
	"net/url"
	"time"

	"github.com/openwaybill/waybill"
)

// maxAuditPage is the most audit records that one page holds.
const maxAuditPage = 1000

// AuditRecord says who did what, when, to what, and how it ended.
type AuditRecord struct {
	Sequence  int64             `json:"Sequence"`
	Time      string            `json:"Time"` // with milliseconds
	Account   waybill.AccountID `json:"AccountId"`
	RequestID string            `json:"RequestId"`
	ActorType waybill.ActorKind `json:"ActorType"`
	Actor     string            `json:"Actor"`
	AccessKey string            `json:"AccessKeyId"`
	SourceIP  string            `json:"SourceIp"`
	Action    string            `json:"Action"`
	Region    string            `json:"RegionId"`
	Resources []string          `json:"Resources"`
	Subject   string            `json:"Subject"`
	Result    string            `json:"Result"`
	Previous  string            `json:"PreviousHash"` // hexadecimal
	Hash      string            `json:"Hash"`         // hexadecimal
}

// Decode returns the record as it can be checked.
func (r *AuditRecord) Decode() (waybill.AuditRecord, error) {
	out := waybill.AuditRecord{
		Sequence: r.Sequence, Account: r.Account, RequestID: r.RequestID, ActorType: r.ActorType, Actor: r.Actor,
		AccessKey: r.AccessKey, SourceIP: r.SourceIP, Action: r.Action, Region: r.Region, Resources: r.Resources,
		Subject: r.Subject, Result: r.Result,
	}
	var err error
	if out.Time, err = time.Parse(time.RFC3339, r.Time); err != nil {
		return out, fmt.Errorf("audit record %d: its time %q is malformed", r.Sequence, r.Time)
	}
	for _, hash := range []struct {
		into *[32]byte
		text string
	}{{&out.Previous, r.Previous}, {&out.Hash, r.Hash}} {
		b, err := hex.DecodeString(hash.text)
		if err != nil || len(b) != len(hash.into) {
			return out, fmt.Errorf("audit record %d: its hash %q is malformed", r.Sequence, hash.text)
		}
		copy(hash.into[:], b)
	}
	return out, nil
}

// AuditRecords is how the API nests audit records.
type AuditRecords struct {
	Items []AuditRecord `json:"AuditRecord"`
}

// AuditVerdict is what the server found when it checked its audit records.
type AuditVerdict struct {
	Valid    bool   `json:"Valid"`
	Problem  string `json:"Problem"` // what is wrong first; empty if nothing is
	Records  int64  `json:"RecordCount"`
	First    int64  `json:"FirstSequence"` // of the oldest that is kept
	Last     int64  `json:"LastSequence"`
	LastHash string `json:"LastHash"` // hexadecimal
}

// ListAuditRecords returns a page of audit records, newest first unless the filter says otherwise. It has no total.
func (c *Client) ListAuditRecords(
	ctx context.Context, f waybill.AuditFilter, page Paging,
) (Page[AuditRecord], error) {
	p := params{}
	p.setTime("StartTime", f.From)
	p.setTime("EndTime", f.To)
	p.set("EventAction", f.Action)
	p.set("Actor", f.Actor)
	p.set("UserAccessKeyId", f.AccessKey)
	p.set("EventRequestId", f.RequestID)
	p.set("Result", f.Result)
	if f.OldFirst {
		p.set("OldestFirst", "true")
	}
	p.setPaging(page)
	var out struct {
		NextToken    string
		AuditRecords AuditRecords
	}
	err := c.call(ctx, versionECS, "ListAuditRecords", url.Values(p), &out)
	return Page[AuditRecord]{Items: out.AuditRecords.Items, NextToken: out.NextToken}, err
}

// AuditRecords goes through all pages of ListAuditRecords. An error ends it.
func (c *Client) AuditRecords(ctx context.Context, f waybill.AuditFilter) iter.Seq2[AuditRecord, error] {
	return pagesOf(maxAuditPage, func(page Paging) (Page[AuditRecord], error) {
		return c.ListAuditRecords(ctx, f, page)
	})
}

// VerifyAuditRecords lets the server check the whole audit trail of the account.
func (c *Client) VerifyAuditRecords(ctx context.Context) (AuditVerdict, error) {
	var out AuditVerdict
	err := c.call(ctx, versionECS, "VerifyAuditRecords", nil, &out)
	return out, err
}
