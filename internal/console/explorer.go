// SPDX-License-Identifier: Apache-2.0

package console

import (
	"bytes"
	"crypto/rand"
	"encoding/json"
	"encoding/xml"
	"errors"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/openwaybill/waybill/internal/samples"
)

// explorerData is the list of operations.
type explorerData struct {
	Services []serviceOperations
}

type serviceOperations struct {
	Name, Version string
	Operations    []*Operation
}

func (c *Console) explorer(v *visit) error {
	var d explorerData
	for i := range c.cfg.Operations {
		op := &c.cfg.Operations[i]
		at := slices.IndexFunc(d.Services, func(s serviceOperations) bool { return s.Version == op.Version })
		if at < 0 {
			at, d.Services = len(d.Services), append(d.Services, serviceOperations{Name: op.Service, Version: op.Version})
		}
		d.Services[at].Operations = append(d.Services[at].Operations, op)
	}
	return v.show("explorer", "API Explorer", "explorer", d)
}

// field is one input of the form of an operation: a parameter, or a list of them.
type field struct {
	Parameter
	Label string // the parameter's name, without indexes
	List  bool   // one value a line
	Pairs bool   // key=value a line
	Value string
}

// fieldsOf returns the inputs of an operation, filled with what was sent before.
func fieldsOf(op *Operation, sent url.Values, region string) []field {
	var list []field
	for _, p := range op.Parameters {
		f := field{Parameter: p, Label: p.Name}
		switch prefix, rest, found := strings.Cut(p.Name, ".N"); {
		case found && rest == ".Value":
			continue // beside its key
		case found && rest == ".Key":
			f.Label, f.Pairs = prefix, true
		case found:
			f.Label, f.List = prefix, true
		}
		if f.Value = sent.Get(f.Label); f.Value == "" && p.Name == "RegionId" && sent == nil {
			f.Value = region
		}
		list = append(list, f)
	}
	return list
}

// parametersOf turns a form into parameters of a call. Empty inputs are not sent.
func parametersOf(fields []field) (list []samples.Param, err error) {
	for _, f := range fields {
		value := strings.ReplaceAll(f.Value, "\r\n", "\n")
		switch {
		case value == "":
		case f.List:
			for i, line := range lines(value) {
				list = append(list, samples.Param{Name: f.Label + "." + strconv.Itoa(i+1), Value: line})
			}
		case f.Pairs:
			for i, line := range lines(value) {
				key, val, _ := strings.Cut(line, "=")
				prefix := f.Label + "." + strconv.Itoa(i+1)
				list = append(list, samples.Param{Name: prefix + ".Key", Value: key})
				if val != "" {
					list = append(list, samples.Param{Name: prefix + ".Value", Value: val})
				}
			}
		default:
			list = append(list, samples.Param{Name: f.Label, Value: value})
		}
	}
	if len(list) > maxExplored {
		return nil, complain("These are %d parameters; %d at most can be tried here.", len(list), maxExplored)
	}
	return list, nil
}

const maxExplored = 500

func lines(s string) (list []string) {
	for line := range strings.SplitSeq(s, "\n") {
		if line = strings.TrimSpace(line); line != "" {
			list = append(list, line)
		}
	}
	return list
}

// operationData is one operation, its form and, after a run, what went over the wire and came back.
type operationData struct {
	Op       *Operation
	Fields   []field
	Format   string
	Samples  []sample
	Ran      bool
	Status   int
	Response string
	V1, ACS3 samples.Signed
	SignErr  string
}

type sample struct {
	samples.Language
	Code, Problem string
}

func (c *Console) operationOf(v *visit) (*Operation, error) {
	op := c.operation[v.r.PathValue("version")+"/"+v.r.PathValue("name")]
	if op == nil {
		return nil, errNotFound
	}
	return op, nil
}

func (c *Console) operationPage(v *visit) error {
	op, err := c.operationOf(v)
	if err != nil {
		return err
	}
	d := operationData{Op: op, Fields: fieldsOf(op, nil, v.region), Format: "JSON"}
	return v.show("operation", op.Name, "explorer", d)
}

// runOperation calls an operation, or only shows how it would be called, as the button says.
func (c *Console) runOperation(v *visit) error {
	op, err := c.operationOf(v)
	if err != nil {
		return err
	}
	d := operationData{Op: op, Fields: fieldsOf(op, v.r.PostForm, v.region), Format: "JSON"}
	if v.r.PostForm.Get("format") == "XML" {
		d.Format = "XML"
	}
	params, err := parametersOf(d.Fields)
	if err != nil {
		return err
	}
	call := samples.Call{Endpoint: endpointOf(v.r), Version: op.Version, Action: op.Name, Params: params, KeyID: v.session.Credential.Key.ID}
	if c.cfg.CA != "" && v.r.TLS != nil {
		call.CA = "ca.pem"
	}
	for _, l := range samples.Languages() {
		code, err := samples.Generate(l.ID, call)
		s := sample{Language: l, Code: code}
		if err != nil {
			s.Problem = err.Error()
		}
		d.Samples = append(d.Samples, s)
	}
	if d.V1, d.ACS3, err = samples.Sign(call, v.session.Credential.Secret, c.service.Now(), rand.Text()); err != nil {
		d.SignErr = err.Error()
	}
	if v.r.PostForm.Get("do") == "run" {
		values := url.Values{"Format": {d.Format}}
		for _, p := range params {
			values.Set(p.Name, p.Value)
		}
		status, body, err := v.api.Do(v.ctx(), op.Version, op.Name, values)
		if err != nil {
			return err
		}
		d.Ran, d.Status, d.Response = true, status, indented(d.Format, body)
	}
	if v.fromHTMX() {
		return v.part("operation", "result", d)
	}
	return v.show("operation", op.Name, "explorer", d)
}

// maxShownAnswer bounds how much of an answer a page shows.
const maxShownAnswer = 256 << 10

// indented lays an answer out for people. One that is not what it says stays as it is.
func indented(format string, body []byte) string {
	if len(body) > maxShownAnswer {
		return string(body[:maxShownAnswer]) + " …"
	}
	var b bytes.Buffer
	if format == "JSON" {
		if json.Indent(&b, body, "", "  ") != nil {
			return string(body)
		}
		return b.String()
	}
	dec, enc := xml.NewDecoder(bytes.NewReader(body)), xml.NewEncoder(&b)
	enc.Indent("", "  ")
	for {
		token, err := dec.Token()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil || enc.EncodeToken(token) != nil {
			return string(body)
		}
	}
	if enc.Flush() != nil {
		return string(body)
	}
	return b.String()
}

// StatusText names an HTTP status.
func (d operationData) StatusText() string { return http.StatusText(d.Status) }
