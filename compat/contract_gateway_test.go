// SPDX-License-Identifier: Apache-2.0

package compat

import (
	"errors"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/openwaybill/waybill/internal/api"
	"github.com/openwaybill/waybill/internal/server"
	"github.com/openwaybill/waybill/internal/testenv"
)

// gatewayFaults are the answers to what is wrong with a request before it reaches an operation.
var gatewayFaults = []api.Fault{
	{Status: 400, Code: "MissingParameter", Message: `The input parameter "%s" that is mandatory for processing this request is not supplied`},
	{Status: 404, Code: "InvalidAccessKeyId.NotFound", Message: "Specified access key is not found."},
	{Status: 400, Code: "InvalidAccessKeyId.Inactive", Message: "Specified access key is disabled."},
	{Status: 400, Code: "InvalidTimeStamp.Format", Message: "Specified time stamp or date value is not well formatted."},
	{Status: 400, Code: "InvalidTimeStamp.Expired", Message: "Specified time stamp or date value is expired."},
	{Status: 400, Code: "SignatureNonceUsed", Message: "Specified signature nonce was used already."},
	{Status: 400, Code: "SignatureDoesNotMatch", Message: "Specified signature is not matched with our calculation.%s"},
	{Status: 400, Code: "IncompleteSignature", Message: "The request signature does not conform to Aliyun standards."},
	{Status: 400, Code: "InvalidSignatureMethod", Message: "Specified signature method is not valid."},
	{Status: 400, Code: "InvalidParamater", Message: `The specified parameter "SignatureVersion" is not valid.`},
	{Status: 400, Code: "InvalidVersion", Message: "Specified parameter Version is not valid."},
	{Status: 404, Code: "InvalidAction.NotFound", Message: "Specified api is not found, please check your url and method."},
	{Status: 400, Code: "InvalidParameter", Message: "The specified parameter is not valid."},
	{Status: 400, Code: "InvalidParameter.Format", Message: "Specified parameter format is not valid."},
	{Status: 403, Code: "UnsupportedHTTPMethod", Message: "This HTTP method is not supported."},
	{Status: 413, Code: "RequestBody.TooLarge", Message: "The request body is longer than %s bytes."},
	{Status: 400, Code: "MissingSecurityToken", Message: "SecurityToken is mandatory for this action."},
	{Status: 400, Code: "InvalidSecurityToken.Expired", Message: "Specified SecurityToken is expired."},
	{Status: 400, Code: "InvalidSecurityToken.Malformed", Message: "Specified SecurityToken is malformed."},
	{Status: 400, Code: "InvalidSecurityToken.MismatchWithAccessKey", Message: "Specified SecurityToken mismatch with the AccessKey."},
	{Status: 400, Code: "Throttling.User", Message: "Request was denied due to user flow control."},
	{Status: 400, Code: "Throttling.Api", Message: "Request was denied due to api flow control."},
	{
		Status: 403, Code: "Forbidden.RAM",
		Message: "User not authorized to operate on the specified resource, or this API doesn't support RAM.",
	},
	{Status: 500, Code: "InternalError", Message: "The request processing has failed due to some unknown error, exception or failure."},
	{Status: 503, Code: "ServiceUnavailable", Message: "The request has failed due to a temporary failure of the server."},
}

func gatewayFault(t *testing.T, code string) api.Fault {
	t.Helper()
	i := slices.IndexFunc(gatewayFaults, func(f api.Fault) bool { return f.Code == code })
	if i < 0 {
		t.Fatalf("the gateway has no code %s", code)
	}
	return gatewayFaults[i]
}

// refuseGateway is a case that is refused before the operation counts, by the client whose turn it is.
func (k *caller) refuseGateway(code, how, op string, p params) *refusal {
	k.t.Helper()
	return k.gatewayCase(code, how, "", func(*testing.T) error {
		_, c := k.next()
		_, err := c.call(op, complete(op, p))
		return err
	})
}

// gatewayCase is the same by a client of its own. arg is as in refuse.
func (c *contract) gatewayCase(code, how, arg string, call func(t *testing.T) error) *refusal {
	c.t.Helper()
	name := "gateway/" + code
	if how != "" {
		name += "/" + how
	}
	r := &refusal{}
	c.run(name, func(t *testing.T) {
		err := call(t)
		got, ok := errors.AsType[*refusal](err)
		if !ok {
			t.Fatalf("%v; want it refused", err)
		}
		*r = *got
		checkRefusal(t, "its client", r, gatewayFault(t, code), arg)
		if !t.Failed() {
			c.seen.refusal(t, "", code)
		}
	})
	return r
}

// describe is a call that works with any key.
func describe(c client) error {
	_, err := c.call("DescribeRegions", nil)
	return err
}

func (c *contract) gateway(f *fleet) {
	k := f.root
	http1 := k.access

	// No official client leaves out what it has to send, or spoils it: these are their requests but for one parameter or
	// header, which is changed on the way to the server.
	v1 := func(code, how, arg string, change func(*http.Request)) {
		c.gatewayCase(code, how, arg, func(t *testing.T) error {
			return describe(openCommon(t, between(t, http1, change, nil), "GET", "JSON"))
		})
	}
	acs3 := func(code, how, arg string, change func(*http.Request)) {
		c.gatewayCase(code, how, arg, func(t *testing.T) error {
			return describe(darabonba("")(t, between(t, http1, change, nil)))
		})
	}
	for _, name := range []string{
		"Action", "AccessKeyId", "Signature", "Timestamp", "Version", "SignatureMethod", "SignatureVersion", "SignatureNonce",
	} {
		v1("MissingParameter", name, strings.Replace(name, "Timestamp", "TimeStamp", 1), setParam(name))
	}
	for _, header := range []struct{ name, parameter string }{
		{"x-acs-action", "Action"},
		{"x-acs-date", "TimeStamp"},
		{"x-acs-version", "Version"},
		{"x-acs-signature-nonce", "SignatureNonce"},
		{"x-acs-content-sha256", "x-acs-content-sha256"},
	} {
		acs3("MissingParameter", header.name, header.parameter, setHeader(header.name))
	}
	v1("InvalidTimeStamp.Format", "V1", "", setParam("Timestamp", "2026-08-01 12:00:00"))
	acs3("InvalidTimeStamp.Format", "ACS3", "", setHeader("x-acs-date", "yesterday"))
	v1("InvalidTimeStamp.Expired", "V1", "", setParam("Timestamp", "2021-07-01T00:00:00Z"))
	acs3("InvalidTimeStamp.Expired", "ACS3", "", setHeader("x-acs-date", "2121-07-01T00:00:00Z"))
	v1("InvalidSignatureMethod", "V1", "", setParam("SignatureMethod", "HMAC-SHA256"))
	v1("InvalidParamater", "", "", setParam("SignatureVersion", "2.0"))
	v1("SignatureDoesNotMatch", "a changed parameter", "", setParam("AcceptLanguage", "ja"))
	v1("InvalidParameter", "a parameter twice", "", setParam("AcceptLanguage", "ja", "en-US"))
	acs3("SignatureDoesNotMatch", "a changed header", "", setHeader("x-acs-version", "2015-05-01"))
	acs3("IncompleteSignature", "", "", setHeader("Authorization", "ACS3-HMAC-SHA256 Credential=x,Signature=y"))
	v1("InvalidAction.NotFound", "another path", "", func(r *http.Request) { r.URL.Path = "/v2" })
	c.gatewayCase("SignatureNonceUsed", "V1", "", func(t *testing.T) error {
		return describe(openCommon(t, between(t, http1, nil, twice{}), "GET", "XML"))
	})
	c.gatewayCase("SignatureNonceUsed", "ACS3", "", func(t *testing.T) error {
		return describe(darabonba("")(t, between(t, http1, nil, twice{})))
	})

	// These they do themselves.
	c.gatewayCase("InvalidSignatureMethod", "ACS3 with SM3", "", func(t *testing.T) error {
		return describe(darabonba("ACS3-HMAC-SM3")(t, http1))
	})
	c.gatewayCase("InvalidVersion", "", "", func(t *testing.T) error {
		cl := openCommon(t, http1, "POST", "JSON")
		cl.version = "2013-01-10"
		return describe(cl)
	})
	c.gatewayCase("InvalidAction.NotFound", "another version", "", func(t *testing.T) error {
		cl := openCommon(t, http1, "POST", "XML")
		cl.version = "2015-05-01"
		return describe(cl)
	})
	c.gatewayCase("InvalidParameter.Format", "", "", func(t *testing.T) error {
		return describe(openCommon(t, http1, "GET", "YAML"))
	})
	c.gatewayCase("UnsupportedHTTPMethod", "", "", func(t *testing.T) error {
		return describe(openCommon(t, http1, "PUT", "JSON"))
	})
	c.gatewayCase("RequestBody.TooLarge", "", strconv.Itoa(2<<20), func(t *testing.T) error {
		_, err := openCommon(t, http1, "POST", "JSON").call("SendFile", spoil("SendFile", "Content", longText(2<<20)))
		return err
	})
	k.refuseGateway("InvalidAction.NotFound", "an operation not offered", "RunInstances", params{"RegionId": testenv.Region})
	wrong := k.with(k.access.ID, k.access.Secret+"x", "")
	for i := range ways { // each in turn
		wrong.refuseGateway("SignatureDoesNotMatch", "a wrong secret "+strconv.Itoa(i+1), "DescribeRegions", nil)
	}
	k.with("WBnobody", "x", "").refuseGateway("InvalidAccessKeyId.NotFound", "", "DescribeRegions", nil)
	id, off := k.newKey("kim")
	k.must("UpdateAccessKey", params{"UserName": "kim", "UserAccessKeyId": id, "Status": "Inactive"})
	off.refuseGateway("InvalidAccessKeyId.Inactive", "", "DescribeRegions", nil)

	c.tokens(f)
	c.denials(f)
	c.throttling()
}

func (c *contract) tokens(f *fleet) {
	k := f.root
	a := f.temporary.access
	k.with(a.ID, a.Secret, "").refuseGateway("MissingSecurityToken", "", "DescribeRegions", nil)
	k.with(a.ID, a.Secret, "x"+a.Token).refuseGateway("InvalidSecurityToken.Malformed", "", "DescribeRegions", nil)
	other := k.must("GetSessionToken", nil)
	k.with(a.ID, a.Secret, other.text("Credentials.SecurityToken")).refuseGateway(
		"InvalidSecurityToken.MismatchWithAccessKey", "of another temporary key", "DescribeRegions", nil)
	k.with(k.access.ID, k.access.Secret, a.Token).refuseGateway(
		"InvalidSecurityToken.MismatchWithAccessKey", "with a key that takes none", "DescribeRegions", nil)

	short := k.must("GetSessionToken", params{"DurationSeconds": 1})
	at := func(field string) string { return short.text("Credentials." + field) }
	brief := k.with(at("AccessKeyId"), at("AccessKeySecret"), at("SecurityToken"))
	c.gatewayCase("InvalidSecurityToken.Expired", "", "", func(t *testing.T) error {
		_, cl := brief.next()
		var err error
		testenv.Eventually(t, "the token expires", func() bool {
			err = describe(cl)
			return err != nil
		})
		return err
	})
}

// denials are refused by policies. kim has none.
func (c *contract) denials(f *fleet) {
	for i := range ways {
		r := f.kim.refuseGateway("Forbidden.RAM", "by way "+strconv.Itoa(i+1), "ListAuditRecords", nil)
		for name, value := range map[string]string{
			"AuthAction": "waybill:ListAuditRecords", "AuthPrincipalType": "SubUser", "AuthPrincipalDisplayName": "kim",
			"NoPermissionType": "ImplicitDeny", "PolicyType": "AccountLevelIdentityBasedPolicy",
		} {
			if r.Denied[name] != value {
				c.t.Errorf("AccessDeniedDetail has %s %v; want %s: %v", name, r.Denied[name], value, r.Denied)
			}
		}
	}
	issued := f.root.must("GetSessionToken", params{
		"Policy": `{"Version":"1","Statement":[{"Effect":"Allow","Action":"ecs:Describe*","Resource":"*"}]}`,
	})
	at := func(field string) string { return issued.text("Credentials." + field) }
	reader := f.root.with(at("AccessKeyId"), at("AccessKeySecret"), at("SecurityToken"))
	reader.must("DescribeManagedInstances", nil)
	r := reader.refuseGateway("Forbidden.RAM", "by the policy of a temporary key", "SendFile", plain("SendFile"))
	if r.Denied["PolicyType"] != "SessionPolicy" {
		c.t.Errorf("AccessDeniedDetail: %v", r.Denied)
	}

	// Names are exact: what is denied of one cannot be had by writing it in another case.
	k := f.root
	k.must("CreatePolicy", params{"PolicyName": "guard", "PolicyDocument": `{"Version":"1","Statement":[` +
		`{"Effect":"Allow","Action":"*","Resource":"*"},{"Effect":"Deny","Action":"ram:*","Resource":` +
		`["acs:ram:*:*:user/ann","acs:ram:*:*:policy/guard","acs:ram:*:*:group/staff"]}]}`})
	k.must("CreateUser", params{"UserName": "bob"})
	k.must("AttachPolicyToUser", params{"PolicyType": "Custom", "PolicyName": "guard", "UserName": "bob"})
	_, bob := k.newKey("bob")
	bob.refuseGateway("Forbidden.RAM", "a user", "CreateAccessKey", params{"UserName": "ann"})
	bob.refuse("CreateAccessKey", "EntityNotExist.User", "in another case", params{"UserName": "ANN"}, "")
	bob.refuseGateway("Forbidden.RAM", "a group", "GetGroup", params{"GroupName": "staff"})
	bob.refuse("GetGroup", "EntityNotExist.Group", "in another case", params{"GroupName": "Staff"}, "")
	detach := params{"PolicyType": "Custom", "PolicyName": "guard", "UserName": "bob"}
	bob.refuseGateway("Forbidden.RAM", "a policy", "DetachPolicyFromUser", detach)
	detach["PolicyName"] = "GUARD"
	bob.refuse("DetachPolicyFromUser", "EntityNotExist.Policy", "in another case", detach, "")
}

func (c *contract) throttling() {
	for _, limit := range []struct {
		code string
		set  func(*server.Config)
	}{
		{"Throttling.User", func(cfg *server.Config) { cfg.AccountRate = 0.01 }}, // one, and another after 100 seconds
		{"Throttling.Api", func(cfg *server.Config) { cfg.ActionRate = 0.01 }},
	} {
		s := testenv.Start(c.t, limit.set)
		k := c.root(s)
		k.must("DescribeRegions", nil)
		r := c.gatewayCase(limit.code, "classic", "", func(t *testing.T) error {
			return describe(openCommon(t, k.access, "GET", "JSON"))
		})
		// The one client that hands on headers; the new one reads the same into its ThrottlingError.
		if ms, err := strconv.Atoi(r.RetryAfter); err != nil || ms < 1000 || ms > 101_000 {
			c.t.Errorf("%s: x-acs-retry-after is %q; want milliseconds, up to 100 seconds", limit.code, r.RetryAfter)
		}
		c.gatewayCase(limit.code, "darabonba ACS3", "", func(t *testing.T) error { return describe(darabonba("")(t, k.access)) })
		c.gatewayCase(limit.code, "tea-rpc", "", func(t *testing.T) error { return describe(teaRPC(t, k.access)) })
	}
}
