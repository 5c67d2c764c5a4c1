// SPDX-License-Identifier: Apache-2.0

package api

import (
	"errors"
	"reflect"

	"github.com/openwaybill/waybill"
	"github.com/openwaybill/waybill/internal/control"
)

// accessDenied is the AccessDeniedDetail of Forbidden.RAM. All of it is text: the classic Go SDK insists.
type accessDenied struct {
	PolicyType               string
	AuthPrincipalOwnerId     string
	AuthPrincipalType        string
	AuthPrincipalDisplayName string
	NoPermissionType         string
	AuthAction               string
	AuthResource             string // ours: the first resource that is not allowed
}

// deniedDetail returns what is told of a denial, and nil for any other error. Which policy denies is not told: who asks
// may not be meant to know the policies. SimulatePolicy tells those who may.
func deniedDetail(err error) *accessDenied {
	d, ok := errors.AsType[*control.Denial](err)
	if !ok {
		return nil
	}
	detail := &accessDenied{
		PolicyType:               "AccountLevelIdentityBasedPolicy",
		AuthPrincipalOwnerId:     string(d.Who.Account),
		AuthPrincipalType:        "SubUser",
		AuthPrincipalDisplayName: d.Who.Name,
		NoPermissionType:         "ImplicitDeny",
		AuthAction:               d.Action,
		AuthResource:             d.Resource,
	}
	if d.Who.Temporary() {
		detail.AuthPrincipalType = "AssumedRoleUser"
	}
	if d.Session {
		detail.PolicyType = "SessionPolicy"
	}
	if d.Who.Kind == waybill.AccountActor {
		detail.AuthPrincipalDisplayName = string(d.Who.Account)
	}
	if d.Explicit {
		detail.NoPermissionType = "ExplicitDeny"
	}
	return detail
}

// deniedFields describes AccessDeniedDetail.
func deniedFields() []Field { return fields(reflect.TypeFor[accessDenied]()) }
