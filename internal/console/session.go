// SPDX-License-Identifier: Apache-2.0

package console

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"errors"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/openwaybill/waybill"
	"github.com/openwaybill/waybill/internal/identity"
)

// Cookies. The browser holds a random token and nothing else; the secret of a key is in a form once, and never kept.
const (
	sessionCookie       = "waybill_console"        // on a plain loopback listener
	secureSessionCookie = "__Host-waybill_console" // over TLS: from this host, for all of it, and never in the clear
	langCookie          = "waybill_lang"
	regionCookie        = "waybill_region"
	preferenceLife      = 365 * 24 * time.Hour
)

func cookieName(r *http.Request) string {
	if r.TLS != nil {
		return secureSessionCookie
	}
	return sessionCookie
}

func setCookie(w http.ResponseWriter, r *http.Request, name, value string, life time.Duration) {
	http.SetCookie(w, &http.Cookie{
		Name: name, Value: value, Path: "/", MaxAge: int(life / time.Second), HttpOnly: true, Secure: r.TLS != nil,
		SameSite: http.SameSiteLaxMode, // a link to a delivery works; forms are guarded by csrfOf as well
	})
}

// csrfOf returns the token that forms of a session bring back. It tells nothing of the session's own.
func csrfOf(token string) string {
	if token == "" {
		return ""
	}
	d := sha256.Sum256([]byte("waybill console form 1\n" + token))
	return hex.EncodeToString(d[:])
}

// handler is a page. An error it returns is shown, so it must not have written anything.
type handler func(v *visit) error

// guest serves a page that needs nobody signed in, but knows who is.
func (c *Console) guest(h handler) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		v := &visit{c: c, w: w, r: r, lang: languageOf(r), region: c.regionOf(r)}
		if err := v.identify(); err != nil {
			v.fail(err)
			return
		}
		if err := h(v); err != nil {
			v.fail(err)
		}
	}
}

// identify finds out whose request it is.
func (v *visit) identify() error {
	cookie, err := v.r.Cookie(cookieName(v.r))
	if err != nil || cookie.Value == "" {
		return nil
	}
	s, err := v.c.service.Session(v.ctx(), cookie.Value)
	if waybill.CodeOf(err) == waybill.TokenInvalid {
		return nil
	}
	if err != nil {
		return err
	}
	v.session, v.token = s, cookie.Value
	v.api, err = v.c.clientFor(v.r, s, v.region)
	return err
}

// user serves a page to whoever is signed in. Whoever is not is sent to sign in first.
func (c *Console) user(h handler) http.HandlerFunc {
	return c.guest(func(v *visit) error {
		if !v.signedIn() {
			return v.redirect(link(url.Values{"next": {v.next()}}, "sign-in"))
		}
		return h(v)
	})
}

// next is where to come back to after signing in: the page, or the page that a part of was asked for.
func (v *visit) next() string {
	if v.fromHTMX() {
		if u, err := url.Parse(v.r.Header.Get("HX-Current-URL")); err == nil {
			return u.RequestURI()
		}
	}
	if v.r.Method != http.MethodGet {
		return Path
	}
	return v.r.URL.RequestURI()
}

// form serves what a form of whoever is signed in asks to be done. One that does not bring the session's token, or comes from
// another site, is refused before anything is looked at.
func (c *Console) form(h handler) http.HandlerFunc {
	return c.user(func(v *visit) error {
		if err := v.readForm(); err != nil {
			return err
		}
		if subtle.ConstantTimeCompare([]byte(v.r.PostFormValue("csrf")), []byte(csrfOf(v.token))) != 1 {
			return forged{}
		}
		return h(v)
	})
}

// forged is the error of a form that did not come from a page of this session.
type forged struct{}

func (forged) Error() string { return "the form does not belong to this session" }

// readForm reads a form whole. A file in it is bounded by what a delivery may carry.
func (v *visit) readForm() error {
	v.r.Body = http.MaxBytesReader(v.w, v.r.Body, maxForm+maxUpload)
	var err error
	if strings.HasPrefix(v.r.Header.Get("Content-Type"), "multipart/form-data") {
		err = v.r.ParseMultipartForm(maxForm + maxUpload)
	} else {
		err = v.r.ParseForm()
	}
	if _, ok := errors.AsType[*http.MaxBytesError](err); ok {
		return complain("This is larger than a form can carry.")
	}
	if err != nil {
		return complain("The form cannot be read. Load the page again.")
	}
	return nil
}

// who says where a request came from.
func (v *visit) who() waybill.Principal {
	p := waybill.Principal{Secure: v.r.TLS != nil, RequestID: identity.NewRequestID()}
	if ap, err := netip.ParseAddrPort(v.r.RemoteAddr); err == nil {
		p.SourceIP = ap.Addr().Unmap()
	}
	return p
}

// signIn is the data of the page of that name.
type signIn struct {
	Next, KeyID, Problem string
}

// home returns next if it is a page of the console, and its first page otherwise.
func home(next string) string {
	u, err := url.Parse(next)
	if err != nil || u.Host != "" || u.Scheme != "" || !strings.HasPrefix(u.Path, Path) || strings.Contains(next, "\\") {
		return Path
	}
	return next
}

func (c *Console) signInPage(v *visit) error {
	next := home(v.r.URL.Query().Get("next"))
	if v.signedIn() {
		return v.redirect(next)
	}
	return v.show("sign-in", "Sign in", "", signIn{Next: next})
}

// signIn takes an access key and begins a session. There is no session yet that a token of its form could belong to: a page of
// another site is kept away by what browsers say of where a request comes from (see routes).
func (c *Console) signIn(v *visit) error {
	if err := v.readForm(); err != nil {
		return err
	}
	keyID, secret := strings.TrimSpace(v.r.PostFormValue("key_id")), strings.TrimSpace(v.r.PostFormValue("secret"))
	again := func(status int, problem string) error {
		v.status = status
		return v.show("sign-in", "Sign in", "", signIn{home(v.r.PostFormValue("next")), keyID, problem})
	}
	if strings.HasPrefix(keyID, identity.TemporaryPrefix) {
		return again(http.StatusForbidden, "Temporary keys cannot sign in; use a key of a user or of the account.")
	}
	end, wait := c.cfg.Attempts.Begin(v.ctx(), v.who().SourceIP, c.service.Now())
	if end == nil {
		return again(http.StatusTooManyRequests, c.pages[v.lang].translate("Too many wrong tries from this address. Try again in %d seconds.", int(wait.Seconds())+1))
	}
	token, s, err := c.service.SignIn(v.ctx(), v.who(), keyID, secret)
	wrong := waybill.CodeOf(err) == waybill.AccessKeyNotFound
	end(err != nil && wrong)
	if err != nil && wrong {
		return again(http.StatusForbidden, "There is no active access key with this ID and secret.")
	}
	if err != nil {
		return err
	}
	setCookie(v.w, v.r, cookieName(v.r), token, time.Until(s.Expires))
	return v.redirect(home(v.r.PostFormValue("next")))
}

func (c *Console) signOut(v *visit) error {
	if err := c.service.SignOut(v.ctx(), v.who(), v.session, v.r.PostFormValue("everywhere") == "true"); err != nil {
		return err
	}
	setCookie(v.w, v.r, cookieName(v.r), "", -time.Second)
	return v.redirect(link(nil, "sign-in"))
}

// preference keeps the language or the region that a page is to have.
func (c *Console) preference(v *visit) error {
	if err := v.readForm(); err != nil {
		return err
	}
	if lang := v.r.PostFormValue("lang"); slices.Contains(languages, lang) {
		setCookie(v.w, v.r, langCookie, lang, preferenceLife)
	}
	if region := v.r.PostFormValue("region"); slices.Contains(c.service.Regions(), region) {
		setCookie(v.w, v.r, regionCookie, region, preferenceLife)
	}
	return v.redirect(home(v.r.PostFormValue("next")))
}

func (c *Console) regionOf(r *http.Request) string {
	regions := c.service.Regions()
	if cookie, err := r.Cookie(regionCookie); err == nil && slices.Contains(regions, cookie.Value) {
		return cookie.Value
	}
	return regions[0]
}

// still reports whether the session of a visit has not ended meanwhile.
func (v *visit) still(ctx context.Context) bool {
	_, err := v.c.service.Session(ctx, v.token)
	return err == nil
}
