// SPDX-License-Identifier: Apache-2.0

// Package compat proves that the official clients of Alibaba Cloud ECS work against Waybill as they are: each of them
// lives through the same story, with a real server and a real agent. It is a module of its own so that whoever uses
// Waybill does not download them, and it holds nothing but tests.
//
// The clients for Node.js come from package-lock.json: npm ci. Without them, or without node, their tests are skipped.
package compat

import (
	"fmt"
	"testing"

	"github.com/openwaybill/waybill/internal/testenv"
)

// client is an official client behind what all of them have in common.
type client interface {
	// call calls an operation and returns what the client made of the answer, as JSON. Parameters are in the API's own
	// shape, and what they hold is what JSON knows: strings, numbers, booleans, lists and objects. When the server
	// refused, the error is a *refusal.
	call(action string, params map[string]any) ([]byte, error)
}

// refusal is a refused call as the client's own error object tells it.
type refusal struct {
	Status    int // of HTTP
	Code      string
	Message   string
	RequestID string
	Advice    string // what the client itself recommends, where it does

	Denied     map[string]any // AccessDeniedDetail, where the client tells it
	RetryAfter string         // milliseconds, likewise
}

func (r *refusal) Error() string {
	return fmt.Sprintf("%d %s: %s (request %s)", r.Status, r.Code, r.Message, r.RequestID)
}

// access is what a client is configured with.
type access struct {
	Scheme string // http or https
	Addr   string // host:port
	ID     string
	Secret string
	Token  string // of a temporary key
	CA     string // file
}

func accessTo(s *testenv.Server, scheme string) access {
	return access{
		Scheme: scheme, Addr: s.Addr(scheme), ID: s.Key.AccessKeyID, Secret: s.Key.AccessKeySecret, CA: s.Key.CA,
	}
}

// variants are the official clients in each way they are used that looks different on the wire.
var variants = []struct {
	name   string
	scheme string
	open   func(t *testing.T, a access) client
}{
	{"alibaba-cloud-sdk-go JSON by POST, HTTPS", "https", classic("POST", "JSON")},
	{"alibaba-cloud-sdk-go JSON by GET, HTTP", "http", classic("GET", "JSON")},
	{"alibaba-cloud-sdk-go XML by GET, HTTPS", "https", classic("GET", "XML")},
	{"alibaba-cloud-sdk-go XML by POST, HTTP", "http", classic("POST", "XML")},
	{"darabonba-openapi ACS3, HTTPS", "https", darabonba("")},
	{"darabonba-openapi ACS3, HTTP", "http", darabonba("")},
	{"darabonba-openapi V1, HTTPS", "https", darabonba("v2")},
	{"tea-rpc, HTTPS", "https", teaRPC},
	{"tea-rpc, HTTP", "http", teaRPC},
	{"pop-core by GET, HTTPS", "https", node("pop-core", "GET")},
	{"pop-core by POST, HTTP", "http", node("pop-core", "POST")},
	{"ecs20140526 for Node.js, HTTPS", "https", node("ecs20140526", "")},
	{"ecs20140526 for Node.js, HTTP", "http", node("ecs20140526", "")},
}

func TestOfficialClients(t *testing.T) {
	t.Parallel()
	for _, v := range variants {
		t.Run(v.name, func(t *testing.T) {
			t.Parallel()
			s := testenv.Start(t)
			tell(t, s, accessTo(s, v.scheme), v.open)
		})
	}
}
