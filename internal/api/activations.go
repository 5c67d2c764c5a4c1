// SPDX-License-Identifier: Apache-2.0

package api

import (
	"context"
	"time"

	"github.com/openwaybill/waybill"
	"github.com/openwaybill/waybill/internal/control"
)

// activationService is what the operations on activations need.
type activationService interface {
	CreateActivation(ctx context.Context, act *waybill.Act, a waybill.Activation) (control.NewActivation, error)
	Activations(
		ctx context.Context, who waybill.Principal, f control.ActivationFilter, p control.Page,
	) (control.Listing[waybill.Activation], error)
	DisableActivation(ctx context.Context, act *waybill.Act, id waybill.ActivationID) (waybill.Activation, error)
	DeleteActivation(ctx context.Context, act *waybill.Act, id waybill.ActivationID) (waybill.Activation, error)
}

type createActivationInput struct {
	regional
	InstanceName      string `limits:"2 to 50 characters" doc:"prefix of names; without it host names are used"`
	InstanceCount     *int64 `limits:"1 to 1000, default 10" doc:"how many machines may enrol"`
	TimeToLiveInHours *int64 `limits:"1 to 24, default 4" doc:"how long they may"`
	Description       string `limits:"at most 100 characters" doc:"for people"`
	IpAddressRange    string `limits:"an IPv4 or IPv6 address or CIDR" doc:"from where they may"`
	grouped
	tagged
	idempotent
}

type createActivationOutput struct {
	envelope
	ActivationId   waybill.ActivationID
	ActivationCode string `doc:"shown only here, never again"`
}

func (c *call) createActivation(ctx context.Context, in *createActivationInput) (*createActivationOutput, error) {
	// Zero means the default to control, so a zero that was sent is refused here.
	if n := in.InstanceCount; n != nil && *n == 0 {
		return nil, refuse("InvalidParameter", "InstanceCount")
	}
	if n := in.TimeToLiveInHours; n != nil && *n == 0 {
		return nil, refuse("InvalidParameter", "TimeToLiveInHours")
	}
	a := waybill.Activation{
		Region:        in.RegionId,
		InstanceName:  in.InstanceName,
		TTL:           duration(in.TimeToLiveInHours, time.Hour),
		Description:   in.Description,
		AddressRange:  in.IpAddressRange,
		ResourceGroup: in.ResourceGroupId,
		Tags:          in.Tag,
	}
	if n := in.InstanceCount; n != nil {
		a.InstanceCount = int(min(*n, 1<<31-1))
	}
	created, err := c.CreateActivation(ctx, c.act, a)
	if err != nil {
		return nil, err
	}
	return &createActivationOutput{ActivationId: created.ID, ActivationCode: created.Code}, nil
}

type describeActivationsInput struct {
	regional
	activationQuery
	paging
}

type activationQuery struct {
	ActivationId waybill.ActivationID `json:",omitempty" doc:"one activation"`
	InstanceName string               `json:",omitempty" doc:"exact name prefix"`
	grouped
	tagged
}

type describeActivationsOutput struct {
	envelope
	paged
	ActivationList list[describedActivation]
}

type describedActivation struct {
	activation
	Disabled        bool
	ResourceGroupId string
	Tags            list[tag]
}

// activation is what every operation on activations answers.
type activation struct {
	ActivationId      waybill.ActivationID
	InstanceName      string
	Description       string
	InstanceCount     int32 `doc:"machines that may enrol"`
	RegisteredCount   int32 `doc:"machines that have"`
	DeregisteredCount int32 `doc:"of those, how many have left"`
	TimeToLiveInHours int64
	IpAddressRange    string
	CreationTime      string
}

func activationOf(a waybill.Activation) activation {
	return activation{
		ActivationId:      a.ID,
		InstanceName:      a.InstanceName,
		Description:       a.Description,
		InstanceCount:     int32(a.InstanceCount),
		RegisteredCount:   int32(a.Registered),
		DeregisteredCount: int32(a.Deregistered),
		TimeToLiveInHours: int64(a.TTL / time.Hour),
		IpAddressRange:    a.AddressRange,
		CreationTime:      stamp(a.Created),
	}
}

func (c *call) describeActivations(
	ctx context.Context, in *describeActivationsInput,
) (*describeActivationsOutput, error) {
	page, err := openPage(c, in.RegionId, &in.activationQuery, in.paging, c.maxPage)
	if err != nil {
		return nil, err
	}
	if err := waybill.CheckTags(in.Tag); err != nil {
		return nil, err
	}
	found, err := c.Activations(ctx, c.who, control.ActivationFilter{
		Region:        in.RegionId,
		ID:            in.ActivationId,
		InstanceName:  in.InstanceName,
		ResourceGroup: in.ResourceGroupId,
		Tags:          in.Tag,
	}, page.Page)
	if err != nil {
		return nil, err
	}
	return &describeActivationsOutput{
		paged: page.of(found.Total, found.Next),
		ActivationList: collect(found.Items, func(a waybill.Activation) describedActivation {
			return describedActivation{
				activation:      activationOf(a),
				Disabled:        a.Disabled,
				ResourceGroupId: a.ResourceGroup,
				Tags:            collect(a.Tags, tagOf),
			}
		}),
	}, nil
}

type oneActivationInput struct {
	regional
	ActivationId waybill.ActivationID `required:"true" doc:"the activation"`
}

type disableActivationOutput struct {
	envelope
	Activation struct {
		activation
		Disabled bool
	}
}

func (c *call) disableActivation(ctx context.Context, in *oneActivationInput) (*disableActivationOutput, error) {
	a, err := c.DisableActivation(ctx, c.act, in.ActivationId)
	if err != nil {
		return nil, err
	}
	out := new(disableActivationOutput)
	out.Activation.activation = activationOf(a)
	out.Activation.Disabled = a.Disabled
	return out, nil
}

type deleteActivationOutput struct {
	envelope
	Activation activation
}

func (c *call) deleteActivation(ctx context.Context, in *oneActivationInput) (*deleteActivationOutput, error) {
	a, err := c.DeleteActivation(ctx, c.act, in.ActivationId)
	if err != nil {
		return nil, err
	}
	return &deleteActivationOutput{Activation: activationOf(a)}, nil
}
