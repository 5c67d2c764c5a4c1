// SPDX-License-Identifier: Apache-2.0

package client

import (
	"context"
	"net/url"
	"time"

	"github.com/openwaybill/waybill"
)

// Identity is whose key signs the calls.
type Identity struct {
	Account     waybill.AccountID `json:"AccountId"`
	UserID      string            `json:"UserId"` // of an account, its own ID
	ARN         string            `json:"Arn"`
	Type        string            `json:"IdentityType"` // Account or RAMUser
	PrincipalID string            `json:"PrincipalId"`  // the same as UserID
}

// AccessKey is a key pair of the account or of one of its users.
type AccessKey struct {
	ID       string    `json:"AccessKeyId"`
	Secret   string    `json:"AccessKeySecret,omitempty"` // only in the answer of CreateAccessKey
	Status   KeyStatus `json:"Status"`
	Created  string    `json:"CreateDate"`
	LastUsed string    `json:"LastUsedDate"` // up to a minute late; empty if never
}

// KeyStatus is whether an access key may be used.
type KeyStatus string

// The statuses of an access key.
const (
	KeyActive   KeyStatus = "Active"
	KeyInactive KeyStatus = "Inactive"
)

// AccessKeys is how the API nests access keys.
type AccessKeys struct {
	Items []AccessKey `json:"AccessKey"`
}

// TemporaryKey is a key pair that ends by itself. It is never shown again.
type TemporaryKey struct {
	ID      string `json:"AccessKeyId"`
	Secret  string `json:"AccessKeySecret"`
	Token   string `json:"SecurityToken"` // see Config.SecurityToken
	Expires string `json:"Expiration"`
}

// GetCallerIdentity returns whose key signs the calls of c.
func (c *Client) GetCallerIdentity(ctx context.Context) (Identity, error) {
	var out Identity
	err := c.call(ctx, versionSTS, "GetCallerIdentity", nil, &out)
	return out, err
}

// GetSessionToken issues a temporary key that may what the caller may and, with a policy document, no more than that
// allows. Zero and the empty text take the server's defaults: an hour, no policy.
func (c *Client) GetSessionToken(ctx context.Context, life time.Duration, document string) (TemporaryKey, error) {
	p := params{}
	p.setInt("DurationSeconds", int64((life+time.Second-1)/time.Second))
	p.set("Policy", document)
	var out struct{ Credentials TemporaryKey }
	err := c.call(ctx, versionSTS, "GetSessionToken", url.Values(p), &out)
	return out.Credentials, err
}

// ListAccessKeys returns the caller's keys, without their secrets.
func (c *Client) ListAccessKeys(ctx context.Context) ([]AccessKey, error) {
	return c.ListUserAccessKeys(ctx, "")
}

// ListUserAccessKeys returns the keys of a user, without their secrets; without a name, the caller's.
func (c *Client) ListUserAccessKeys(ctx context.Context, user string) ([]AccessKey, error) {
	p := params{}
	p.set("UserName", user)
	var out struct{ AccessKeys AccessKeys }
	err := c.call(ctx, versionRAM, "ListAccessKeys", url.Values(p), &out)
	return out.AccessKeys.Items, err
}

// CreateAccessKey returns a new key of a user with its secret, which cannot be asked for again; without a name, the key
// is the caller's.
func (c *Client) CreateAccessKey(ctx context.Context, user string) (AccessKey, error) {
	p := params{}
	p.set("UserName", user)
	var out struct{ AccessKey AccessKey }
	err := c.call(ctx, versionRAM, "CreateAccessKey", url.Values(p), &out)
	return out.AccessKey, err
}

// UpdateAccessKey makes a key of a user usable or not; without a name, one of the caller's.
func (c *Client) UpdateAccessKey(ctx context.Context, user, id string, status KeyStatus) error {
	p := params{}
	p.set("UserName", user)
	p.set("UserAccessKeyId", id)
	p.set("Status", string(status))
	return c.call(ctx, versionRAM, "UpdateAccessKey", url.Values(p), nil)
}

// DeleteAccessKey removes a key of a user for good; without a name, one of the caller's.
func (c *Client) DeleteAccessKey(ctx context.Context, user, id string) error {
	p := params{}
	p.set("UserName", user)
	p.set("UserAccessKeyId", id)
	return c.call(ctx, versionRAM, "DeleteAccessKey", url.Values(p), nil)
}

// GetAccessKeyLastUsed returns when a key of a user was last used, empty if never; without a name, one of the caller's.
func (c *Client) GetAccessKeyLastUsed(ctx context.Context, user, id string) (string, error) {
	p := params{}
	p.set("UserName", user)
	p.set("UserAccessKeyId", id)
	var out struct {
		AccessKeyLastUsed struct {
			LastUsed string `json:"LastUsedDate"`
		}
	}
	err := c.call(ctx, versionRAM, "GetAccessKeyLastUsed", url.Values(p), &out)
	return out.AccessKeyLastUsed.LastUsed, err
}
