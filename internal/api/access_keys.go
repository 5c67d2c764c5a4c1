// SPDX-License-Identifier: Apache-2.0

package api

import (
	"context"

	"github.com/openwaybill/waybill"
)

// user is accepted because RAM clients send it. The keys are always those of the caller's account.
type user struct {
	UserName string `doc:"no effect"`
}

type listAccessKeysInput struct{ user }

type listAccessKeysOutput struct {
	envelope
	AccessKeys struct {
		AccessKey list[accessKey]
	}
}

type accessKey struct {
	AccessKeyId string
	Status      string `doc:"Active or Inactive"`
	CreateDate  string
}

func accessKeyOf(k waybill.AccessKey) accessKey {
	status := "Inactive"
	if k.Active {
		status = "Active"
	}
	return accessKey{AccessKeyId: k.ID, Status: status, CreateDate: stamp(k.Created)}
}

func (c *call) listAccessKeys(ctx context.Context, _ *listAccessKeysInput) (*listAccessKeysOutput, error) {
	keys, err := c.AccessKeys(ctx, c.who)
	if err != nil {
		return nil, err
	}
	out := new(listAccessKeysOutput)
	out.AccessKeys.AccessKey = collect(keys, accessKeyOf)
	return out, nil
}

type createAccessKeyInput struct{ user }

type createAccessKeyOutput struct {
	envelope
	AccessKey struct {
		accessKey
		AccessKeySecret string `doc:"shown only here, never again"`
	}
}

func (c *call) createAccessKey(ctx context.Context, _ *createAccessKeyInput) (*createAccessKeyOutput, error) {
	key, secret, err := c.CreateAccessKey(ctx, c.who)
	if err != nil {
		return nil, err
	}
	out := new(createAccessKeyOutput)
	out.AccessKey.accessKey = accessKeyOf(key)
	out.AccessKey.AccessKeySecret = secret
	return out, nil
}

type updateAccessKeyInput struct {
	user
	UserAccessKeyId string `required:"true" doc:"the key"`
	Status          string `required:"true" enum:"Active|Inactive" doc:"what it becomes"`
}

type updateAccessKeyOutput struct{ envelope }

func (c *call) updateAccessKey(ctx context.Context, in *updateAccessKeyInput) (*updateAccessKeyOutput, error) {
	if err := c.SetAccessKey(ctx, c.who, in.UserAccessKeyId, in.Status == "Active"); err != nil {
		return nil, err
	}
	return new(updateAccessKeyOutput), nil
}

type deleteAccessKeyInput struct {
	user
	UserAccessKeyId string `required:"true" doc:"the key"`
}

type deleteAccessKeyOutput struct{ envelope }

func (c *call) deleteAccessKey(ctx context.Context, in *deleteAccessKeyInput) (*deleteAccessKeyOutput, error) {
	if err := c.DeleteAccessKey(ctx, c.who, in.UserAccessKeyId); err != nil {
		return nil, err
	}
	return new(deleteAccessKeyOutput), nil
}
