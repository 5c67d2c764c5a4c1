// SPDX-License-Identifier: Apache-2.0

// Package console serves the web pages of Waybill at /console/.
//
// It has no power of its own. Everything a page shows or does is a signed call of the API, made inside the process with the
// access key that its user signed in with (see local); so permissions, audit records, limits and errors are those of the API,
// and there is no second place for any of them. What is the console's alone is in this package: sessions in the browser, pages,
// and telling them at once when something has changed.
//
// Pages work without scripts where they can; htmx and server-sent events, served from here, make them live. Nothing is loaded
// from elsewhere, and the content security policy says so.
package console

import (
	"bytes"
	"context"
	"embed"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"time"

	"github.com/openwaybill/waybill"
	"github.com/openwaybill/waybill/internal/attempts"
	"github.com/openwaybill/waybill/internal/client"
	"github.com/openwaybill/waybill/internal/control"
)

// Path is where the console is. It ends with a slash.
const Path = "/console/"

// Operation is one operation of the API, as the explorer shows it.
type Operation struct {
	Name, Version, Service string
	Writes                 bool
	Summary, Action        string
	Resources              []string // ARNs with {RegionId}, {AccountId} and names of parameters in braces
	Extension              bool
	Parameters             []Parameter
	Errors                 []Refusal
}

// Parameter is a parameter of an Operation. A list is named with an N for its index, as in Tag.N.Key.
type Parameter struct {
	Name, Type  string
	Required    bool
	Values      []string // the only ones accepted; nil: any
	Limits      string
	Description string
}

// Refusal is an error that an operation answers.
type Refusal struct {
	Status        int
	Code, Message string
}

// Config is what a Console shows.
type Config struct {
	Version    string
	Operations []Operation
	Attempts   *attempts.Limiter // bounds how often somebody may try to sign in
	CA         string            // PEM of the CA that machines must know to enrol; empty: the certificate is publicly trusted
}

// service is what the console needs of control.Service beside the API.
type service interface {
	Now() time.Time
	Regions() []string
	MaxTargets() int
	SignIn(ctx context.Context, who waybill.Principal, keyID, secret string) (token string, s control.Session, err error)
	Session(ctx context.Context, token string) (control.Session, error)
	SignOut(ctx context.Context, who waybill.Principal, s control.Session, everywhere bool) error
	Authorize(ctx context.Context, act *waybill.Act, requestTags []waybill.Tag) error
	Watch(id waybill.DeliveryID) (changed <-chan struct{}, stop func())
}

var _ service = (*control.Service)(nil)

// Console serves the pages. It may be used by any number of goroutines.
type Console struct {
	cfg       Config
	service   service
	api       http.Handler
	mux       *http.ServeMux
	pages     map[string]*pages // by language
	assets    assets
	streams   streams
	operation map[string]*Operation // by version/name
	log       *slog.Logger
}

//go:embed templates assets
var files embed.FS

// New returns a console over the API that rpc serves.
func New(cfg Config, svc *control.Service, rpc http.Handler, log *slog.Logger) (*Console, error) {
	c := &Console{cfg: cfg, service: svc, api: rpc, mux: http.NewServeMux(), operation: map[string]*Operation{}, log: log}
	c.streams.end = make(chan struct{})
	for i := range cfg.Operations {
		op := &cfg.Operations[i]
		c.operation[op.Version+"/"+op.Name] = op
	}
	var err error
	if c.pages, err = parsePages(); err != nil {
		return nil, fmt.Errorf("templates of the console: %w", err)
	}
	if c.assets, err = loadAssets(); err != nil {
		return nil, fmt.Errorf("assets of the console: %w", err)
	}
	c.routes()
	return c, nil
}

// Close ends what would keep a server that stops waiting: the streams of events. Browsers come back by themselves.
func (c *Console) Close() { c.streams.close() }

// maxForm bounds what a form brings beside a file.
const maxForm = 4 << 20

// policy lets a page use what comes from here only, and nothing else use the page.
const policy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; " +
	"form-action 'self'; base-uri 'none'; frame-ancestors 'none'"

// ServeHTTP implements http.Handler.
func (c *Console) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h.Set("Content-Security-Policy", policy)
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("X-Frame-Options", "DENY")
	h.Set("Referrer-Policy", "same-origin")
	h.Set("Cross-Origin-Opener-Policy", "same-origin")
	h.Set("Cache-Control", "no-store") // assets say otherwise
	c.mux.ServeHTTP(w, r)
}

// visit is one request of a browser, and who makes it.
type visit struct {
	c       *Console
	w       http.ResponseWriter
	r       *http.Request
	lang    string
	session control.Session // the zero Session: nobody is signed in
	token   string          // of the session
	region  string
	api     *client.Client // nil: nobody is signed in
	status  int            // of the answer; zero: 200
}

func (v *visit) ctx() context.Context { return v.r.Context() }

// signedIn reports whether somebody is.
func (v *visit) signedIn() bool { return v.api != nil }

// user is the name that a page shows.
func (v *visit) user() string {
	if u := v.session.Credential.Key.User; u != "" {
		return u
	}
	return string(v.session.Credential.Key.Account)
}

// fromHTMX reports whether the request asks for a part of a page.
func (v *visit) fromHTMX() bool { return v.r.Header.Get("HX-Request") == "true" }

// page is what every template gets.
type page struct {
	V     *visit
	Title string
	Nav   string // the entry of the menu that is current
	Data  any
}

// Accessors for templates, which see methods only.

// Lang returns the language of the page.
func (p page) Lang() string { return p.V.lang }

// SignedIn reports whether somebody is signed in.
func (p page) SignedIn() bool { return p.V.signedIn() }

// User returns who is signed in.
func (p page) User() string { return p.V.user() }

// KeyID returns the ID of the access key that was signed in with.
func (p page) KeyID() string { return p.V.session.Credential.Key.ID }

// CSRF returns the token that every form must bring back.
func (p page) CSRF() string { return csrfOf(p.V.token) }

// Region returns the region that the page is about.
func (p page) Region() string { return p.V.region }

// Regions returns all there are.
func (p page) Regions() []string { return p.V.c.service.Regions() }

// Version returns that of the server.
func (p page) Version() string { return p.V.c.cfg.Version }

// Here returns the path and query of the page.
func (p page) Here() string { return p.V.r.URL.RequestURI() }

// Asset returns the address of an asset, which changes with it.
func (p page) Asset(name string) string { return p.V.c.assets.url(name) }

// menuNeeds says which operation an entry of the menu is of no use without. Entries that are not named here need none, or are
// of use to whoever may do part of it.
var menuNeeds = map[string]string{
	"deliveries": "2014-05-26/DescribeSendFileInvocations", "machines": "2014-05-26/DescribeManagedInstances",
	"enrol": "2014-05-26/DescribeActivations", "users": "2015-05-01/ListUsers", "policies": "2015-05-01/ListPolicies",
	"simulator": "2015-05-01/SimulatePolicy", "audit": "2014-05-26/ListAuditRecords", "server": "2014-05-26/DescribeServer",
}

// Allowed says which entries of the menu the user's policies leave of use. What a page then does is decided by the API.
func (p page) Allowed() map[string]bool {
	all := map[string]bool{"overview": true, "send": true, "explorer": true, "errors": true}
	for entry, operation := range menuNeeds {
		all[entry] = p.V.may(operation)
	}
	return all
}

var placeholder = regexp.MustCompile(`\{\w+\}`)

// may reports whether whoever is signed in may call an operation on everything.
func (v *visit) may(operation string) bool {
	op := v.c.operation[operation]
	if op == nil || op.Action == "" {
		return op != nil
	}
	who := v.who()
	key := v.session.Credential.Key
	who.Account, who.AccessKey, who.Kind = key.Account, key.ID, waybill.AccountActor
	if key.User != "" {
		who.Kind, who.Name = waybill.UserActor, key.User
	}
	act := &waybill.Act{Principal: who, Action: op.Action, Region: v.region}
	for _, arn := range op.Resources {
		arn = strings.NewReplacer("{RegionId}", v.region, "{AccountId}", string(key.Account)).Replace(arn)
		act.Resources = append(act.Resources, placeholder.ReplaceAllString(arn, "*"))
	}
	return v.c.service.Authorize(v.ctx(), act, nil) == nil
}

// show renders the template of that name as a whole page.
func (v *visit) show(name, title, nav string, data any) error {
	return v.render(name, "layout", page{V: v, Title: title, Nav: nav, Data: data})
}

// part renders a block of a template alone, for htmx.
func (v *visit) part(name, block string, data any) error {
	return v.render(name, block, page{V: v, Data: data})
}

func (v *visit) render(name, block string, p page) error {
	var b bytes.Buffer // first, so that an error does not leave half a page
	if err := v.c.pages[v.lang].execute(&b, name, block, p); err != nil {
		return fmt.Errorf("render %s: %w", name, err)
	}
	v.w.Header().Set("Content-Type", "text/html; charset=utf-8")
	if v.status != 0 {
		v.w.WriteHeader(v.status)
	}
	_, _ = v.w.Write(b.Bytes()) // a browser that is gone cannot be told
	return nil
}

// redirect sends the browser to another page of the console.
func (v *visit) redirect(to string) error {
	if v.fromHTMX() {
		v.w.Header().Set("HX-Redirect", to)
		return nil
	}
	http.Redirect(v.w, v.r, to, http.StatusSeeOther)
	return nil
}

// errNotFound is the error of a page that is not there.
var errNotFound = errors.New("no such page")

// fault is an error as a page shows it.
type fault struct {
	Status  int
	Code    string // to look up; empty: none
	Message string
	Hint    string
	Request string // ID
}

// faultOf turns an error into what a page shows of it. What is not for users is for the log.
func (v *visit) faultOf(err error) fault {
	if e, ok := errors.AsType[*client.Error](err); ok {
		f := fault{Status: e.Status, Code: e.Code, Message: e.Message, Request: e.RequestID}
		if e.Denied != nil {
			f.Hint = e.Denied.String()
		}
		return f
	}
	if e, ok := errors.AsType[*complaint](err); ok {
		return fault{Status: http.StatusBadRequest, Message: v.c.pages[v.lang].translate(e.text, e.args...)}
	}
	if _, ok := errors.AsType[forged](err); ok {
		return fault{Status: http.StatusForbidden, Message: v.c.pages[v.lang].translate("This form does not belong to your session. Load the page again and repeat what you did.")}
	}
	if errors.Is(err, errNotFound) {
		return fault{Status: http.StatusNotFound, Message: v.c.pages[v.lang].translate("There is no such page or thing.")}
	}
	if waybill.CodeOf(err) == waybill.Unavailable {
		return fault{Status: http.StatusServiceUnavailable, Code: "ServiceUnavailable", Message: v.c.pages[v.lang].translate("The server cannot do this right now. Try again soon.")}
	}
	if v.ctx().Err() == nil {
		v.c.log.Error("console", "path", v.r.URL.Path, "err", err)
	}
	return fault{Status: http.StatusInternalServerError, Code: "InternalError", Message: v.c.pages[v.lang].translate("Something went wrong on the server. Its log tells more.")}
}

// complaint is about what a user entered: text is translated, then formatted.
type complaint struct {
	text string
	args []any
}

func (e *complaint) Error() string { return fmt.Sprintf(e.text, e.args...) }

func complain(text string, args ...any) error { return &complaint{text, args} }

// fail shows an error: as a page, or inside the page to htmx.
func (v *visit) fail(err error) {
	f := v.faultOf(err)
	v.status = f.Status
	if v.fromHTMX() {
		v.w.Header().Set("HX-Retarget", "#flash")
		v.w.Header().Set("HX-Reswap", "innerHTML")
		v.status = http.StatusOK // htmx swaps nothing else
		err = v.part("error", "fault", f)
	} else {
		err = v.show("error", "Error", "", f)
	}
	if err != nil {
		v.c.log.Error("console", "path", v.r.URL.Path, "err", err)
		http.Error(v.w, "Internal Server Error", http.StatusInternalServerError)
	}
}

// panel is a part of a page that its user may not be allowed to see.
type panel[T any] struct {
	Data  T
	Fault *fault
}

// panelOf keeps an error within its part of the page.
func panelOf[T any](v *visit, data T, err error) panel[T] {
	if err != nil {
		f := v.faultOf(err)
		return panel[T]{Fault: &f}
	}
	return panel[T]{Data: data}
}

// link builds an address below Path from elements and a query.
func link(query url.Values, elements ...string) string {
	var b strings.Builder
	b.WriteString(strings.TrimSuffix(Path, "/"))
	for _, e := range elements {
		b.WriteByte('/')
		b.WriteString(url.PathEscape(e))
	}
	if len(query) > 0 {
		b.WriteByte('?')
		b.WriteString(query.Encode())
	}
	return b.String()
}
