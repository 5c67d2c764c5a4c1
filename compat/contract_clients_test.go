// SPDX-License-Identifier: Apache-2.0

package compat

import (
	"bufio"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aliyun/alibaba-cloud-sdk-go/sdk"
	"github.com/aliyun/alibaba-cloud-sdk-go/sdk/auth"
	"github.com/aliyun/alibaba-cloud-sdk-go/sdk/auth/credentials"
	sdkerrors "github.com/aliyun/alibaba-cloud-sdk-go/sdk/errors"
	"github.com/aliyun/alibaba-cloud-sdk-go/sdk/requests"

	"github.com/openwaybill/waybill/internal/api"
	"github.com/openwaybill/waybill/internal/testenv"
)

// table is the operation table by name.
var table = sync.OnceValue(func() map[string]api.Operation {
	all := map[string]api.Operation{}
	for _, o := range api.Operations() {
		all[o.Name] = o
	}
	return all
})

// versionOf is the API version of an operation; that of ECS for what is none.
func versionOf(action string) string {
	if o, ok := table()[action]; ok {
		return o.Version
	}
	return apiVersion
}

// commonClient is the classic Go SDK with the request it has for operations that it does not model.
type commonClient struct {
	sdk            *sdk.Client
	scheme, addr   string
	method, format string
	version        string // empty: that of the operation
}

func common(method, format string) func(*testing.T, access) client {
	return func(t *testing.T, a access) client { return openCommon(t, a, method, format) }
}

func openCommon(t *testing.T, a access, method, format string) *commonClient {
	pem, err := os.ReadFile(a.CA)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(pem)
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}}
	t.Cleanup(transport.CloseIdleConnections)
	var key auth.Credential = credentials.NewAccessKeyCredential(a.ID, a.Secret)
	if a.Token != "" {
		key = credentials.NewStsTokenCredential(a.ID, a.Secret, a.Token)
	}
	c, err := sdk.NewClientWithOptions(testenv.Region, sdk.NewConfig().WithHttpTransport(transport), key)
	if err != nil {
		t.Fatal(err)
	}
	return &commonClient{sdk: c, scheme: a.Scheme, addr: a.Addr, method: method, format: format}
}

func (c *commonClient) call(action string, p map[string]any) ([]byte, error) {
	r := requests.NewCommonRequest()
	r.Method, r.Scheme, r.Domain, r.AcceptFormat = c.method, c.scheme, c.addr, c.format
	r.ApiName, r.Version = action, c.version
	if r.Version == "" {
		r.Version = versionOf(action)
	}
	if _, ok := p["RegionId"]; !ok {
		r.QueryParams["RegionId"] = "" // or the SDK sends its own
	}
	for name, value := range flatten(p) {
		if c.method == http.MethodPost {
			r.FormParams[name] = value
		} else {
			r.QueryParams[name] = value
		}
	}
	response, err := c.sdk.ProcessCommonRequest(r)
	if err != nil {
		return nil, commonRefusal(err)
	}
	if c.format == "XML" {
		return xmlToJSON(action, response.GetHttpContentBytes())
	}
	return response.GetHttpContentBytes(), nil
}

func commonRefusal(err error) error {
	e, ok := errors.AsType[*sdkerrors.ServerError](err)
	if !ok {
		return err
	}
	r := &refusal{
		Status: e.HttpStatus(), Code: e.ErrorCode(), Message: e.Message(), RequestID: e.RequestId(), Advice: e.Recommend(),
		Denied: e.AccessDeniedDetail(),
	}
	if after := http.Header(e.RespHeaders).Get("x-acs-retry-after"); after != "" {
		r.RetryAfter = after
	}
	if strings.HasPrefix(e.Message(), "<?xml") { // the SDK hands on errors in XML as it got them
		var body struct {
			XMLName                  xml.Name `xml:"Error"`
			RequestId, Code, Message string
			AccessDeniedDetail       element
		}
		if err := xml.Unmarshal([]byte(e.Message()), &body); err != nil {
			return err
		}
		r.Code, r.Message, r.RequestID = body.Code, body.Message, body.RequestId
		for _, detail := range body.AccessDeniedDetail.Elements {
			if r.Denied == nil {
				r.Denied = map[string]any{}
			}
			r.Denied[detail.XMLName.Local] = detail.Text
		}
	}
	return r
}

// flatten writes parameters as they are on the wire: lists as Name.1, Name.2 …, objects as Name.Member.
func flatten(p params) map[string]string {
	flat := map[string]string{}
	var add func(name string, value any)
	add = func(name string, value any) {
		switch v := value.(type) {
		case []any:
			for i, item := range v {
				add(fmt.Sprintf("%s.%d", name, i+1), item)
			}
		case params:
			for member, item := range v {
				add(name+"."+member, item)
			}
		default:
			flat[name] = fmt.Sprint(v)
		}
	}
	for name, value := range p {
		add(name, value)
	}
	return flat
}

// element is any element of an answer in XML.
type element struct {
	XMLName  xml.Name
	Text     string    `xml:",chardata"`
	Elements []element `xml:",any"`
}

// xmlToJSON writes an answer in XML as the same answer in JSON. XML cannot tell a list of one from an object, nor a
// number from a text, so the operation table says which is which; and an empty list is not there at all.
func xmlToJSON(action string, body []byte) ([]byte, error) {
	var root element
	if err := xml.Unmarshal(body, &root); err != nil {
		return nil, err
	}
	if want := action + "Response"; root.XMLName.Local != want {
		return nil, fmt.Errorf("the root is %s; want %s", root.XMLName.Local, want)
	}
	return json.Marshal(root.object(table()[action].Response))
}

func (e *element) object(fields []api.Field) map[string]any {
	byName := map[string]api.Field{}
	for _, f := range fields {
		byName[f.Name] = f
	}
	out := map[string]any{}
	for i := range e.Elements {
		child := &e.Elements[i]
		name := child.XMLName.Local
		switch f := byName[name]; f.Type {
		case "Array":
			list, _ := out[name].([]any)
			out[name] = append(list, child.value(f))
		default:
			out[name] = child.value(f)
		}
	}
	return out
}

func (e *element) value(f api.Field) any {
	switch {
	case len(f.Fields) > 0:
		return e.object(f.Fields)
	case f.Type == "Boolean" && (e.Text == "true" || e.Text == "false"):
		return e.Text == "true"
	case f.Type == "Integer" || f.Type == "Long":
		return json.Number(e.Text)
	}
	return e.Text
}

// between returns access to a server through something that changes the requests of official clients, because they
// cannot be made to send such requests themselves. What the server answers is handed on as it is. transport may be nil.
func between(t *testing.T, a access, change func(*http.Request), transport http.RoundTripper) access {
	t.Helper()
	if change == nil {
		change = func(*http.Request) {}
	}
	to := a.Addr
	p := httptest.NewServer(&httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			r.Out.URL.Scheme, r.Out.URL.Host, r.Out.Host = "http", to, r.In.Host // signed by ACS3
			change(r.Out)
		},
		Transport: transport,
	})
	t.Cleanup(p.Close)
	a.Scheme, a.Addr = "http", strings.TrimPrefix(p.URL, "http://")
	return a
}

// setParam changes one parameter of a request made with GET; without values it is taken out.
func setParam(name string, values ...string) func(*http.Request) {
	return func(r *http.Request) {
		q := r.URL.Query()
		q.Del(name)
		for _, v := range values {
			q.Add(name, v)
		}
		r.URL.RawQuery = q.Encode()
	}
}

// setHeader is setParam for a header.
func setHeader(name string, values ...string) func(*http.Request) {
	return func(r *http.Request) {
		r.Header.Del(name)
		for _, v := range values {
			r.Header.Add(name, v)
		}
	}
}

// twice sends every request two times and returns the second answer.
type twice struct{}

func (twice) RoundTrip(r *http.Request) (*http.Response, error) {
	first, err := http.DefaultTransport.RoundTrip(r)
	if err != nil {
		return nil, err
	}
	first.Body.Close()
	return http.DefaultTransport.RoundTrip(r)
}

// hangUp ends its half of the connection some time after it has sent a request, and reads the answer on the other half.
// To the server that is a client that gave up: the context of the request ends.
type hangUp struct{ after time.Duration }

func (h hangUp) RoundTrip(r *http.Request) (*http.Response, error) {
	conn, err := net.Dial("tcp", r.URL.Host)
	if err != nil {
		return nil, err
	}
	if err := r.Write(conn); err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	<-time.After(h.after)
	if err := conn.(*net.TCPConn).CloseWrite(); err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	answer, err := http.ReadResponse(bufio.NewReader(conn), r)
	if err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	answer.Body = &bodyOf{answer.Body, conn}
	return answer, nil
}

// bodyOf closes the connection with the body.
type bodyOf struct {
	readCloser
	conn net.Conn
}

type readCloser interface {
	Read(b []byte) (int, error)
	Close() error
}

func (b *bodyOf) Close() error { return errors.Join(b.readCloser.Close(), b.conn.Close()) }
