// SPDX-License-Identifier: Apache-2.0

// Package guide explains every error of the API and every reason why a machine did not take a file: what it means, what usually
// causes it, what to check and what to type. Its texts are data (guide.yaml), in English and Simplified Chinese.
package guide

import (
	"bytes"
	"cmp"
	_ "embed"
	"fmt"
	"slices"
	"sync"

	"go.yaml.in/yaml/v3"

	"github.com/openwaybill/waybill"
)

// Languages of the texts.
const (
	English = "en"
	Chinese = "zh"
)

// Kind says what an entry is about.
type Kind string

// The kinds.
const (
	Request Kind = "request" // a call of the API was refused
	Target  Kind = "target"  // a machine did not take the file
)

// Entry explains one code, or one of the causes that share it.
type Entry struct {
	Code     string        // of the API, such as InvalidParameter or FileAuthorityInvalid
	Kind     Kind          //
	Cause    waybill.Cause // of a Target: the one of those that share the code
	Meaning  string        // one sentence
	Causes   []string      // usual ones
	Check    []string      // in order
	Commands []string      // to type; what stands in capitals is to be replaced
}

//go:embed guide.yaml
var source []byte

// row is an entry as guide.yaml has it: for one code or several that are explained alike.
type row struct {
	Codes    []string      `yaml:"codes"`
	Cause    waybill.Cause `yaml:"cause"`
	Commands []string      `yaml:"commands"`
	EN       words         `yaml:"en"`
	ZH       words         `yaml:"zh"`
}

type words struct {
	Meaning string   `yaml:"meaning"`
	Causes  []string `yaml:"causes"`
	Check   []string `yaml:"check"`
}

// parse reads guide.yaml: entries by language, sorted by code and cause.
func parse(source []byte) (map[string][]Entry, error) {
	var rows []row
	d := yaml.NewDecoder(bytes.NewReader(source))
	d.KnownFields(true)
	if err := d.Decode(&rows); err != nil {
		return nil, err
	}
	all := map[string][]Entry{}
	for _, r := range rows {
		kind := Request
		if r.Cause != "" {
			kind = Target
		}
		for _, code := range r.Codes {
			for lang, w := range map[string]words{English: r.EN, Chinese: r.ZH} {
				if w.Meaning == "" {
					return nil, fmt.Errorf("%s has no meaning in %s", code, lang)
				}
				e := Entry{code, kind, r.Cause, w.Meaning, w.Causes, w.Check, r.Commands}
				if slices.ContainsFunc(all[lang], func(o Entry) bool { return o.Code == code && o.Cause == r.Cause }) {
					return nil, fmt.Errorf("%s %s is explained twice", code, r.Cause)
				}
				all[lang] = append(all[lang], e)
			}
		}
	}
	for lang := range all {
		slices.SortFunc(all[lang], func(a, b Entry) int { return cmp.Or(cmp.Compare(a.Code, b.Code), cmp.Compare(a.Cause, b.Cause)) })
	}
	return all, nil
}

var parsed = sync.OnceValue(func() map[string][]Entry {
	all, err := parse(source)
	if err != nil {
		panic("guide.yaml: " + err.Error()) // it is part of the program, and a test reads it
	}
	return all
})

// All returns every entry, sorted by code. Languages without texts get the English ones. The caller may not change it.
func All(lang string) []Entry {
	if list, ok := parsed()[lang]; ok {
		return list
	}
	return parsed()[English]
}

// Lookup returns what there is about a code: several entries where machines mean several things by it; none if it is unknown.
func Lookup(lang, code string) (found []Entry) {
	for _, e := range All(lang) {
		if e.Code == code {
			found = append(found, e)
		}
	}
	return found
}

// ForCause returns the entry about why a machine did not take a file.
func ForCause(lang string, c waybill.Cause) (Entry, bool) {
	for _, e := range All(lang) {
		if e.Cause == c && c != "" {
			return e, true
		}
	}
	return Entry{}, false
}
