// SPDX-License-Identifier: Apache-2.0

package compat

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"

	openapi "github.com/alibabacloud-go/darabonba-openapi/v2/client"
	"github.com/alibabacloud-go/darabonba-openapi/v2/models"
	openapiutil "github.com/alibabacloud-go/darabonba-openapi/v2/utils"
	rpc "github.com/alibabacloud-go/tea-rpc/client"
	util "github.com/alibabacloud-go/tea-utils/service"
	"github.com/alibabacloud-go/tea/dara"
	"github.com/alibabacloud-go/tea/tea"
)

const apiVersion = "2014-05-26" // of ECS

// darabonbaClient is the generic client that every newer Go SDK is made of; it models no operation.
type darabonbaClient struct{ *openapi.Client }

// darabonba signs with ACS3, or with V1 if the algorithm is "v2".
func darabonba(algorithm string) func(*testing.T, access) client {
	return func(t *testing.T, a access) client {
		ca, err := os.ReadFile(a.CA)
		if err != nil {
			t.Fatal(err)
		}
		config := &models.Config{
			AccessKeyId: &a.ID, AccessKeySecret: &a.Secret, Endpoint: &a.Addr, Protocol: tea.String(strings.ToUpper(a.Scheme)),
			Ca: tea.String(string(ca)),
		}
		if a.Token != "" {
			config.SecurityToken = &a.Token
		}
		if algorithm != "" {
			config.SignatureAlgorithm = &algorithm
		}
		c, err := openapi.NewClient(config)
		if err != nil {
			t.Fatal(err)
		}
		return darabonbaClient{c}
	}
}

func (c darabonbaClient) call(action string, params map[string]any) ([]byte, error) {
	how := &models.Params{
		Action: &action, Version: tea.String(versionOf(action)), Protocol: c.Protocol, Pathname: tea.String("/"),
		Method: tea.String("POST"), AuthType: tea.String("AK"), Style: tea.String("RPC"), ReqBodyType: tea.String("formData"),
		BodyType: tea.String("json"),
	}
	out, err := c.CallApi(how, &models.OpenApiRequest{Query: openapiutil.Query(params)}, &dara.RuntimeOptions{})
	if err != nil {
		return nil, teaRefusal(err)
	}
	return json.Marshal(out["body"])
}

// teaRPCClient is the transport of the Terraform provider.
type teaRPCClient struct{ *rpc.Client }

func teaRPC(t *testing.T, a access) client {
	config := &rpc.Config{
		AccessKeyId: &a.ID, AccessKeySecret: &a.Secret, Endpoint: &a.Addr, Protocol: tea.String(strings.ToUpper(a.Scheme)),
	}
	if a.Token != "" {
		config.SecurityToken = &a.Token
	}
	c, err := rpc.NewClient(config)
	if err != nil {
		t.Fatal(err)
	}
	return teaRPCClient{c}
}

func (c teaRPCClient) call(action string, params map[string]any) ([]byte, error) {
	out, err := c.DoRequest(&action, c.Protocol, tea.String("POST"), tea.String(versionOf(action)), tea.String("AK"), nil, params,
		&util.RuntimeOptions{IgnoreSSL: tea.Bool(true)}) // it has no way to be given a CA
	if err != nil {
		return nil, teaRefusal(err)
	}
	return json.Marshal(out)
}

// teaRefusal reads the error that both have in common.
func teaRefusal(err error) error {
	e, ok := errors.AsType[*tea.SDKError](err)
	if !ok {
		return err
	}
	var body struct {
		RequestId          string
		AccessDeniedDetail map[string]any
	}
	if err := json.Unmarshal([]byte(tea.StringValue(e.Data)), &body); err != nil {
		return err
	}
	message, ok := strings.CutPrefix(tea.StringValue(e.Message), fmt.Sprintf("code: %d, ", tea.IntValue(e.StatusCode)))
	if !ok {
		return err
	}
	return &refusal{
		Status: tea.IntValue(e.StatusCode), Code: tea.StringValue(e.Code), RequestID: body.RequestId,
		Message: strings.TrimSuffix(message, " request id: "+body.RequestId), Denied: body.AccessDeniedDetail,
	}
}
