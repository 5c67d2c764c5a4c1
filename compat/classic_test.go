// SPDX-License-Identifier: Apache-2.0

package compat

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"net/http"
	"os"
	"testing"

	"github.com/aliyun/alibaba-cloud-sdk-go/sdk"
	"github.com/aliyun/alibaba-cloud-sdk-go/sdk/auth/credentials"
	sdkerrors "github.com/aliyun/alibaba-cloud-sdk-go/sdk/errors"
	"github.com/aliyun/alibaba-cloud-sdk-go/sdk/requests"
	"github.com/aliyun/alibaba-cloud-sdk-go/sdk/responses"
	"github.com/aliyun/alibaba-cloud-sdk-go/services/ecs"

	"github.com/openwaybill/waybill/internal/testenv"
)

// classicClient is the classic Go SDK with its typed requests and responses.
type classicClient struct {
	ecs            *ecs.Client
	method, format string
}

func classic(method, format string) func(*testing.T, access) client {
	return func(t *testing.T, a access) client {
		pem, err := os.ReadFile(a.CA)
		if err != nil {
			t.Fatal(err)
		}
		pool := x509.NewCertPool()
		pool.AppendCertsFromPEM(pem)
		transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}}
		t.Cleanup(transport.CloseIdleConnections)
		c, err := ecs.NewClientWithOptions(testenv.Region, sdk.NewConfig().WithScheme(a.Scheme).WithHttpTransport(transport),
			credentials.NewAccessKeyCredential(a.ID, a.Secret))
		if err != nil {
			t.Fatal(err)
		}
		c.Domain = a.Addr
		return &classicClient{ecs: c, method: method, format: format}
	}
}

func (c *classicClient) call(action string, params map[string]any) ([]byte, error) {
	request, response := classicOperation(action)
	in, err := json.Marshal(c.params(params))
	if err != nil {
		return nil, err
	}
	d := json.NewDecoder(bytes.NewReader(in))
	d.DisallowUnknownFields() // the SDK knows every parameter of the story
	if err := d.Decode(request); err != nil {
		return nil, err
	}
	if err := c.ecs.DoAction(request, response); err != nil {
		return nil, c.refusal(err)
	}
	return json.Marshal(response)
}

// params turns numbers and booleans into strings, which is what requests.Integer and requests.Boolean are, and
// adds how the request is to be made.
func (c *classicClient) params(params map[string]any) map[string]any {
	out := map[string]any{"Method": c.method, "AcceptFormat": c.format}
	for name, value := range params {
		switch value.(type) {
		case int, bool:
			value = fmt.Sprint(value)
		}
		out[name] = value
	}
	return out
}

func (c *classicClient) refusal(err error) error {
	e, ok := errors.AsType[*sdkerrors.ServerError](err)
	if !ok {
		return err
	}
	r := &refusal{
		Status: e.HttpStatus(), Code: e.ErrorCode(), Message: e.Message(), RequestID: e.RequestId(), Advice: e.Recommend(),
	}
	if c.format == "XML" { // the SDK hands on errors in XML as it got them
		var body struct {
			XMLName                  xml.Name `xml:"Error"`
			RequestId, Code, Message string
		}
		if err := xml.Unmarshal([]byte(e.Message()), &body); err != nil {
			return err
		}
		r.Code, r.Message, r.RequestID = body.Code, body.Message, body.RequestId
	}
	return r
}

func classicOperation(action string) (requests.AcsRequest, responses.AcsResponse) {
	switch action {
	case "CreateActivation":
		return ecs.CreateCreateActivationRequest(), ecs.CreateCreateActivationResponse()
	case "DeleteActivation":
		return ecs.CreateDeleteActivationRequest(), ecs.CreateDeleteActivationResponse()
	case "DeregisterManagedInstance":
		return ecs.CreateDeregisterManagedInstanceRequest(), ecs.CreateDeregisterManagedInstanceResponse()
	case "DescribeActivations":
		return ecs.CreateDescribeActivationsRequest(), ecs.CreateDescribeActivationsResponse()
	case "DescribeCloudAssistantStatus":
		return ecs.CreateDescribeCloudAssistantStatusRequest(), ecs.CreateDescribeCloudAssistantStatusResponse()
	case "DescribeManagedInstances":
		return ecs.CreateDescribeManagedInstancesRequest(), ecs.CreateDescribeManagedInstancesResponse()
	case "DescribeRegions":
		return ecs.CreateDescribeRegionsRequest(), ecs.CreateDescribeRegionsResponse()
	case "DescribeSendFileResults":
		return ecs.CreateDescribeSendFileResultsRequest(), ecs.CreateDescribeSendFileResultsResponse()
	case "DisableActivation":
		return ecs.CreateDisableActivationRequest(), ecs.CreateDisableActivationResponse()
	case "ModifyManagedInstance":
		return ecs.CreateModifyManagedInstanceRequest(), ecs.CreateModifyManagedInstanceResponse()
	case "SendFile":
		return ecs.CreateSendFileRequest(), ecs.CreateSendFileResponse()
	}
	panic("no such operation in the story: " + action)
}
