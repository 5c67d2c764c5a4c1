// SPDX-License-Identifier: Apache-2.0

package compat

import (
	"io"
	"net/http"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"

	"github.com/openwaybill/waybill/internal/testenv"
)

// TestOpenAPI reads the description of the API from a server, without a key, with a library that checks it against the
// specification.
func TestOpenAPI(t *testing.T) {
	t.Parallel()
	s := testenv.Start(t)
	resp, err := http.Get("http://" + s.Addr("http") + "/openapi.json")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	doc, err := openapi3.NewLoader().LoadFromData(text)
	if err != nil {
		t.Fatal(err)
	}
	if err := doc.Validate(t.Context()); err != nil {
		t.Error(err)
	}
	send := doc.Paths.Find("/#Action=SendFile")
	if send == nil || send.Post.RequestBody.Value.Content["application/x-www-form-urlencoded"].Schema.Value.Properties["Name"] == nil {
		t.Error("SendFile is not described with its form")
	}
}
