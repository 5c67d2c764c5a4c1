// SPDX-License-Identifier: Apache-2.0

package api

import (
	"context"
	"time"

	"github.com/openwaybill/waybill"
)

// keyService is what the operations on access keys need.
type keyService interface {
	AccessKeys(ctx context.Context, who waybill.Principal, user string) ([]waybill.AccessKey, error)
	CreateAccessKey(ctx context.Context, act *waybill.Act, user string) (key waybill.AccessKey, secret string, err error)
	SetAccessKey(ctx context.Context, act *waybill.Act, user, id string, active bool) error
	DeleteAccessKey(ctx context.Context, act *waybill.Act, user, id string) error
	IssueTemporaryKey(
		ctx context.Context, act *waybill.Act, life time.Duration, document string,
	) (waybill.TemporaryKey, error)
}

// keyOwner is whose keys are meant: a user's, or without a name those of whoever asks.
type keyOwner struct {
	UserName string `doc:"whose keys; the caller's own if it is not given"`
}

func (o keyOwner) name(c *call) string {
	if o.UserName == "" {
		return c.who.Name // empty for an account
	}
	return o.UserName
}

type listAccessKeysInput struct{ keyOwner }

type listAccessKeysOutput struct {
	envelope
	AccessKeys struct {
		AccessKey list[accessKey]
	}
}

type accessKey struct {
	AccessKeyId  string
	Status       string `doc:"Active or Inactive"`
	CreateDate   string
	LastUsedDate string `doc:"up to a minute late; empty if never. Not in RAM, which has GetAccessKeyLastUsed for it"`
}

func accessKeyOf(k waybill.AccessKey) accessKey {
	status := "Inactive"
	if k.Active {
		status = "Active"
	}
	return accessKey{AccessKeyId: k.ID, Status: status, CreateDate: stamp(k.Created), LastUsedDate: stamp(k.LastUsed)}
}

func (c *call) listAccessKeys(ctx context.Context, in *listAccessKeysInput) (*listAccessKeysOutput, error) {
	keys, err := c.AccessKeys(ctx, c.who, in.name(c))
	if err != nil {
		return nil, err
	}
	out := new(listAccessKeysOutput)
	out.AccessKeys.AccessKey = collect(keys, accessKeyOf)
	return out, nil
}

type createAccessKeyInput struct{ keyOwner }

type createAccessKeyOutput struct {
	envelope
	AccessKey struct {
		accessKey
		AccessKeySecret string `doc:"shown only here, never again"`
	}
}

func (c *call) createAccessKey(ctx context.Context, in *createAccessKeyInput) (*createAccessKeyOutput, error) {
	key, secret, err := c.CreateAccessKey(ctx, c.act, in.name(c))
	if err != nil {
		return nil, err
	}
	out := new(createAccessKeyOutput)
	out.AccessKey.accessKey = accessKeyOf(key)
	out.AccessKey.AccessKeySecret = secret
	return out, nil
}

type userAccessKey struct {
	keyOwner
	UserAccessKeyId string `required:"true" doc:"the key"`
}

type updateAccessKeyInput struct {
	userAccessKey
	Status string `required:"true" enum:"Active|Inactive" doc:"what it becomes"`
}

type nothingOutput struct{ envelope }

func (c *call) updateAccessKey(ctx context.Context, in *updateAccessKeyInput) (*nothingOutput, error) {
	return done(c.SetAccessKey(ctx, c.act, in.name(c), in.UserAccessKeyId, in.Status == "Active"))
}

// done is the answer of an operation that has nothing to tell.
func done(err error) (*nothingOutput, error) {
	if err != nil {
		return nil, err
	}
	return new(nothingOutput), nil
}

type deleteAccessKeyInput struct{ userAccessKey }

func (c *call) deleteAccessKey(ctx context.Context, in *deleteAccessKeyInput) (*nothingOutput, error) {
	return done(c.DeleteAccessKey(ctx, c.act, in.name(c), in.UserAccessKeyId))
}

type getAccessKeyLastUsedInput struct{ userAccessKey }

type getAccessKeyLastUsedOutput struct {
	envelope
	AccessKeyLastUsed struct {
		LastUsedDate string `doc:"up to a minute late; empty if never"`
	}
}

func (c *call) getAccessKeyLastUsed(
	ctx context.Context, in *getAccessKeyLastUsedInput,
) (*getAccessKeyLastUsedOutput, error) {
	keys, err := c.AccessKeys(ctx, c.who, in.name(c))
	if err != nil {
		return nil, err
	}
	for _, k := range keys {
		if k.ID == in.UserAccessKeyId {
			out := new(getAccessKeyLastUsedOutput)
			out.AccessKeyLastUsed.LastUsedDate = stamp(k.LastUsed)
			return out, nil
		}
	}
	return nil, waybill.Errorf(waybill.AccessKeyNotFound, "no access key %s", in.UserAccessKeyId)
}

type getCallerIdentityInput struct{}

type getCallerIdentityOutput struct {
	envelope
	AccountId    waybill.AccountID
	UserId       string `doc:"of the user; of an account, its own ID"`
	Arn          string
	IdentityType string `doc:"Account or RAMUser"`
	PrincipalId  string `doc:"the same as UserId"`
}

func (c *call) getCallerIdentity(ctx context.Context, _ *getCallerIdentityInput) (*getCallerIdentityOutput, error) {
	account := string(c.who.Account)
	if c.who.Kind == waybill.AccountActor {
		return &getCallerIdentityOutput{
			AccountId: c.who.Account, UserId: account, PrincipalId: account, IdentityType: "Account",
			Arn: "acs:ram::" + account + ":root",
		}, nil
	}
	u, err := c.User(ctx, c.who, c.who.Name)
	if err != nil {
		return nil, err
	}
	return &getCallerIdentityOutput{
		AccountId: c.who.Account, UserId: u.ID, PrincipalId: u.ID, IdentityType: "RAMUser",
		Arn: "acs:ram::" + account + ":user/" + u.Name,
	}, nil
}

type getSessionTokenInput struct {
	DurationSeconds *int64 `limits:"1 to 43200, default 3600" doc:"how long the key is good"`
	Policy          string `limits:"at most 2048 characters" doc:"a policy document; the key may no more than it allows"`
}

type getSessionTokenOutput struct {
	envelope
	Credentials struct {
		AccessKeyId     string
		AccessKeySecret string
		SecurityToken   string `doc:"to be sent with every request"`
		Expiration      string
	}
}

func (c *call) getSessionToken(ctx context.Context, in *getSessionTokenInput) (*getSessionTokenOutput, error) {
	if in.DurationSeconds != nil && *in.DurationSeconds == 0 {
		return nil, refuse("InvalidParameter.DurationSeconds", "0 seconds are no life")
	}
	k, err := c.IssueTemporaryKey(ctx, c.act, duration(in.DurationSeconds, time.Second), in.Policy)
	if err != nil {
		return nil, err
	}
	out := new(getSessionTokenOutput)
	out.Credentials.AccessKeyId, out.Credentials.AccessKeySecret = k.ID, k.Secret
	out.Credentials.SecurityToken, out.Credentials.Expiration = k.Token, stamp(k.Expires)
	return out, nil
}
