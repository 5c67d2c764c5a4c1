// SPDX-License-Identifier: Apache-2.0

package console

import (
	"slices"
	"strings"

	"github.com/openwaybill/waybill/internal/guide"
)

// ErrorPath, followed by an error code, is the page that explains it. It asks nobody to sign in: it says no more than the
// documents do, and is what the Recommend of an error points to.
const ErrorPath = Path + "errors/"

// errorsData is the list of errors that a search finds.
type errorsData struct {
	Search  string
	Targets []guide.Entry // why machines did not take a file
	Refused []guide.Entry // why calls were refused
}

func (c *Console) errorCenter(v *visit) error {
	d := errorsData{Search: strings.TrimSpace(v.r.URL.Query().Get("q"))}
	for _, e := range guide.All(v.lang) {
		text := strings.ToLower(e.Code + " " + string(e.Cause) + " " + e.Meaning + " " + strings.Join(e.Causes, " "))
		if !strings.Contains(text, strings.ToLower(d.Search)) {
			continue
		}
		if e.Kind == guide.Target {
			d.Targets = append(d.Targets, e)
		} else {
			d.Refused = append(d.Refused, e)
		}
	}
	if v.fromHTMX() {
		return v.part("errors", "found", d)
	}
	return v.show("errors", "Error center", "errors", d)
}

// errorData is all there is to know of one code.
type errorData struct {
	Code       string
	Entries    []guide.Entry
	Operations []*Operation // that answer it
	Status     int          // of HTTP; zero: it is of a machine
	Message    string
}

func (c *Console) errorPage(v *visit) error {
	d := errorData{Code: v.r.PathValue("code")}
	d.Entries = guide.Lookup(v.lang, d.Code)
	for i := range c.cfg.Operations {
		op := &c.cfg.Operations[i]
		at := slices.IndexFunc(op.Errors, func(r Refusal) bool { return r.Code == d.Code })
		if at >= 0 {
			d.Operations, d.Status, d.Message = append(d.Operations, op), op.Errors[at].Status, op.Errors[at].Message
		}
	}
	if len(d.Entries) == 0 && len(d.Operations) == 0 {
		return errNotFound
	}
	return v.show("error-code", d.Code, "errors", d)
}
