// SPDX-License-Identifier: Apache-2.0

package term

import (
	"encoding/json"
	"fmt"
	"io"
)

// Format says for whom results are written. It is a flag value.
type Format string

// The formats.
const (
	FormatTable Format = "table"
	FormatJSON  Format = "json"
)

// String returns the word of the format.
func (f *Format) String() string { return string(*f) }

// Set accepts the word of a format.
func (f *Format) Set(s string) error {
	switch Format(s) {
	case FormatTable, FormatJSON:
		*f = Format(s)
		return nil
	}
	return fmt.Errorf("%q is neither %s nor %s", s, FormatTable, FormatJSON)
}

// Type is what help shows for the value.
func (f *Format) Type() string { return "table|json" }

// WriteJSON writes v indented, with text as it is, and a newline.
func WriteJSON(w io.Writer, v any) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	e.SetEscapeHTML(false)
	return e.Encode(v)
}
