// SPDX-License-Identifier: Apache-2.0

package waybill

import "time"

// ResourceGroup is a part of an account's instances, activations and deliveries.
type ResourceGroup struct {
	ID          string // rg- and 15 characters
	Name        string // unique in the account
	DisplayName string
	Created     time.Time
}

// ResourceKind is a kind of things that have tags and belong to resource groups.
type ResourceKind string

// The kinds. The values are stored.
const (
	DeliveryResource   ResourceKind = "delivery"
	InstanceResource   ResourceKind = "instance"
	ActivationResource ResourceKind = "activation"
)

// ResourceTag is a tag and what it is on.
type ResourceTag struct {
	Kind ResourceKind
	ID   string
	Tag
}

// TagFilter selects tags of one kind of things in one region: those of IDs, if there are any, and of things that have
// all of Tags, an empty value matching any.
type TagFilter struct {
	Region string
	Kind   ResourceKind
	IDs    []string
	Tags   []Tag
}
