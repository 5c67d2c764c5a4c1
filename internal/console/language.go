// SPDX-License-Identifier: Apache-2.0

package console

import (
	"encoding/hex"
	"encoding/json"
	"fmt"
	"html/template"
	"io"
	"io/fs"
	"net/http"
	"net/url"
	"path"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"golang.org/x/text/language"

	"github.com/openwaybill/waybill"
)

// Languages of the console. Texts in templates are English, and the key of what they are in another language.
const (
	english = "en"
	chinese = "zh"
)

var languages = []string{english, chinese}

var languageMatcher = language.NewMatcher([]language.Tag{language.English, language.SimplifiedChinese})

// languageOf returns the language of a page: the one chosen, or what the browser prefers.
func languageOf(r *http.Request) string {
	if c, err := r.Cookie(langCookie); err == nil {
		for _, l := range languages {
			if c.Value == l {
				return l
			}
		}
	}
	tags, _, err := language.ParseAcceptLanguage(r.Header.Get("Accept-Language"))
	if err != nil || len(tags) == 0 {
		return english
	}
	_, i, confidence := languageMatcher.Match(tags...)
	if confidence == language.No {
		return english
	}
	return languages[i]
}

// pages are the templates in one language.
type pages struct {
	texts map[string]string // what English texts are in it; nil: it is English
	named map[string]*template.Template
}

// singular are the English texts for one of what is counted. Chinese has no such forms.
var singular = map[string]string{
	"%d machines":                        "1 machine",
	"%d deliveries":                      "1 delivery",
	"%d machines will receive the file.": "1 machine will receive the file.",
	"%d IDs belong to no machine and will end as InstanceNotExists:":                "1 ID belongs to no machine and will end as InstanceNotExists:",
	"%d of them are offline: they receive it if they come back before the timeout.": "1 of them is offline: it receives it if it comes back before the timeout.",
	"The trail is whole: %d records were checked.":                                  "The trail is whole: 1 record was checked.",
}

// translate returns a text in the language of p, formatted with args if there are any. One that is not known stays as it is.
func (p *pages) translate(text string, args ...any) string {
	if t, ok := p.texts[text]; ok {
		text = t
	} else if one, ok := singular[text]; ok && len(args) == 1 && fmt.Sprint(args[0]) == "1" {
		return one
	}
	if len(args) > 0 {
		return fmt.Sprintf(text, args...)
	}
	return text
}

// execute renders a block of the template of that name.
func (p *pages) execute(w io.Writer, name, block string, data any) error {
	t := p.named[name]
	if t == nil {
		return fmt.Errorf("no template %q", name)
	}
	return t.ExecuteTemplate(w, block, data)
}

// parsePages parses every template once for each language.
func parsePages() (map[string]*pages, error) {
	all := map[string]*pages{}
	for _, lang := range languages {
		p := &pages{named: map[string]*template.Template{}}
		if lang != english {
			b, err := files.ReadFile("templates/" + lang + ".json")
			if err != nil {
				return nil, err
			}
			if err := json.Unmarshal(b, &p.texts); err != nil {
				return nil, fmt.Errorf("%s.json: %w", lang, err)
			}
		}
		shared, err := template.New("").Funcs(p.funcs()).ParseFS(files, "templates/layout.html", "templates/parts.html")
		if err != nil {
			return nil, err
		}
		names, err := fs.Glob(files, "templates/*.html")
		if err != nil {
			return nil, err
		}
		for _, file := range names {
			name := strings.TrimSuffix(path.Base(file), ".html")
			if name == "layout" || name == "parts" {
				continue
			}
			t, err := shared.Clone()
			if err != nil {
				return nil, err
			}
			if p.named[name], err = t.ParseFS(files, file); err != nil {
				return nil, err
			}
		}
		all[lang] = p
	}
	return all, nil
}

func (p *pages) funcs() template.FuncMap {
	return template.FuncMap{
		"t":     p.translate,
		"link":  func(elements ...string) string { return link(nil, elements...) },
		"query": func(pairs ...any) (string, error) { return query(pairs...) },
		"bytes": sizeOf,
		"time":  stamp,
		"took":  took,
		"hex":   func(b []byte) string { return hex.EncodeToString(b) },
		"share": share,
		"map":   pairs,
		"text":  previewText,
		"final": func(s waybill.Overall) bool { return s.Final() },
		"add":   func(a, b int) int { return a + b },
		"join":  strings.Join,
		"lines": func(s string) int { return min(strings.Count(s, "\n")+2, 24) },
	}
}

// query encodes pairs of names and values; empty values are left out.
func query(pairs ...any) (string, error) {
	if len(pairs)%2 != 0 {
		return "", fmt.Errorf("query of %d", len(pairs))
	}
	v := url.Values{}
	for i := 0; i < len(pairs); i += 2 {
		if text := fmt.Sprint(pairs[i+1]); text != "" && text != "0" {
			v.Set(fmt.Sprint(pairs[i]), text)
		}
	}
	return "?" + v.Encode(), nil
}

// pairs makes a map of names and values, to give a template more than one thing.
func pairs(list ...any) (map[string]any, error) {
	if len(list)%2 != 0 {
		return nil, fmt.Errorf("map of %d", len(list))
	}
	m := map[string]any{}
	for i := 0; i < len(list); i += 2 {
		m[fmt.Sprint(list[i])] = list[i+1]
	}
	return m, nil
}

// sizeOf writes a number of bytes for people.
func sizeOf(n int64) string {
	const step = 1024
	if n < step {
		return strconv.FormatInt(n, 10) + " B"
	}
	v, unit := float64(n)/step, 0
	for v >= step && unit < 3 {
		v, unit = v/step, unit+1
	}
	return strconv.FormatFloat(v, 'f', 1, 64) + " " + []string{"KiB", "MiB", "GiB", "TiB"}[unit]
}

// stamp is a time of the API as an element that scripts show in the reader's zone.
func stamp(s string) template.HTML {
	t, err := time.Parse(time.RFC3339, s)
	if err != nil {
		return "–"
	}
	iso := t.UTC().Format("2006-01-02T15:04:05.000Z")
	return template.HTML(`<time datetime="` + iso + `">` + t.UTC().Format("2006-01-02 15:04:05") + ` UTC</time>`)
}

// took is how long it was from one time of the API to another.
func took(from, to string) string {
	a, err := time.Parse(time.RFC3339, from)
	b, err2 := time.Parse(time.RFC3339, to)
	if err != nil || err2 != nil {
		return "–"
	}
	return b.Sub(a).Round(time.Millisecond).String()
}

// share is part of all in hundredths, for the width of a bar.
func share(part, all int) int {
	if all == 0 {
		return 0
	}
	return part * 100 / all
}

// previewText returns the beginning of a content if it is text.
func previewText(b []byte) string {
	for cut := 0; cut < utf8.UTFMax && cut <= len(b); cut++ { // the last character may be cut
		if head := b[:len(b)-cut]; utf8.Valid(head) {
			for _, c := range head {
				if c < ' ' && c != '\n' && c != '\t' && c != '\r' {
					return ""
				}
			}
			return string(head)
		}
	}
	return ""
}
