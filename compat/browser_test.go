// SPDX-License-Identifier: Apache-2.0

package compat

import (
	"context"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/cdproto/page"
	cdpruntime "github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"

	"github.com/openwaybill/waybill/internal/testenv"
)

// browserPatience bounds every wait of a test for its browser.
const browserPatience = 60 * time.Second

// browser is a window of a real Chromium, at a server.
type browser struct {
	t    *testing.T
	ctx  context.Context
	base string

	mu       sync.Mutex
	requests []string // addresses that were asked for
	received float64  // bytes over the wire
	trouble  []string // what the console of the browser complains of
}

// chromium returns the program; a test is skipped without it, unless the environment says that it must be there.
func chromium(t *testing.T) string {
	t.Helper()
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome"} {
		if path, err := exec.LookPath(name); err == nil {
			return path
		}
	}
	const missing = "no Chromium is installed (Debian: apt install chromium); the console is not tried"
	if strings.Contains(os.Getenv("WAYBILL_TEST_REQUIRE"), "chromium") {
		t.Fatal(missing)
	}
	t.Skip(missing)
	return ""
}

// browse opens a window of the given size with a profile of its own.
func browse(t *testing.T, s *testenv.Server, width, height int64, how ...chromedp.ExecAllocatorOption) *browser {
	t.Helper()
	opts := append(chromedp.DefaultExecAllocatorOptions[:],
		chromedp.ExecPath(chromium(t)), chromedp.UserDataDir(t.TempDir()), chromedp.NoSandbox,
		chromedp.Flag("ignore-certificate-errors", true), chromedp.Flag("disable-dev-shm-usage", true))
	ctx, cancel := chromedp.NewExecAllocator(context.Background(), append(opts, how...)...)
	t.Cleanup(cancel)
	ctx, cancel = chromedp.NewContext(ctx)
	t.Cleanup(cancel)
	b := &browser{t: t, ctx: ctx, base: "https://" + s.Addr("https") + "/console/"}
	chromedp.ListenTarget(ctx, b.note)
	if err := chromedp.Run(ctx); err != nil { // starts the browser, which lives as long as this context
		t.Fatalf("start Chromium: %v", err)
	}
	b.run(network.Enable(), cdpruntime.Enable(), chromedp.EmulateViewport(width, height))
	return b
}

func (b *browser) note(event any) {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch e := event.(type) {
	case *network.EventRequestWillBeSent:
		b.requests = append(b.requests, e.Request.URL)
	case *network.EventLoadingFinished:
		b.received += e.EncodedDataLength
	case *cdpruntime.EventExceptionThrown:
		b.trouble = append(b.trouble, e.ExceptionDetails.Error())
	case *cdpruntime.EventConsoleAPICalled:
		if e.Type == cdpruntime.APITypeError {
			b.trouble = append(b.trouble, fmt.Sprintf("%s", e.Args[0].Value))
		}
	case *page.EventJavascriptDialogOpening:
		go func() { _ = chromedp.Run(b.ctx, page.HandleJavaScriptDialog(true)) }()
	}
}

func (b *browser) run(actions ...chromedp.Action) {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, browserPatience)
	defer cancel()
	if err := chromedp.Run(ctx, actions...); err != nil {
		b.shot("failed")
		var where, text string
		_ = chromedp.Run(b.ctx, chromedp.Location(&where), chromedp.Evaluate(`document.body.innerText.slice(0, 1500)`, &text))
		b.t.Fatalf("at %s: %v\n%s", where, err, text)
	}
}

// shot writes a picture where WAYBILL_SHOTS says, if it says so.
func (b *browser) shot(name string) {
	dir := os.Getenv("WAYBILL_SHOTS")
	if dir == "" {
		return
	}
	var picture []byte
	if err := chromedp.Run(b.ctx, chromedp.FullScreenshot(&picture, 100)); err == nil {
		_ = os.WriteFile(filepath.Join(dir, strings.ReplaceAll(b.t.Name(), "/", "_")+"-"+name+".png"), picture, 0o644)
	}
}

// open goes to a page of the console.
func (b *browser) open(path string) {
	b.t.Helper()
	b.run(chromedp.Navigate(b.base+path), chromedp.WaitReady("main h1"))
}

// signIn signs in with a key.
func (b *browser) signIn(id, secret string) {
	b.t.Helper()
	b.run(
		chromedp.Navigate(b.base), chromedp.WaitVisible("#secret"), chromedp.SetValue("#key_id", id), chromedp.SetValue("#secret", secret),
		chromedp.Submit("#secret"), chromedp.WaitVisible("details.who"))
}

// await waits until a text is on the page, be it loaded again meanwhile or not.
func (b *browser) await(text string) {
	b.t.Helper()
	testenv.Eventually(b.t, fmt.Sprintf("%q on the page", text), func() bool {
		there := false // while a page is loaded there is nothing to look at
		err := chromedp.Run(b.ctx, chromedp.Evaluate(fmt.Sprintf(`document.body?.innerText.includes(%q)`, text), &there))
		return err == nil && there
	})
}

// is evaluates an expression.
func is[T any](b *browser, expression string) (v T) {
	b.t.Helper()
	b.run(chromedp.Evaluate(expression, &v))
	return v
}

// quiet fails the test if the browser complained, or asked anybody but the server.
func (b *browser) quiet() {
	b.t.Helper()
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, text := range b.trouble {
		b.t.Errorf("the browser complains: %s", text)
	}
	for _, r := range b.requests {
		if u, err := url.Parse(r); err != nil || u.Scheme != "data" && !strings.HasPrefix(r, b.base) {
			b.t.Errorf("something is asked of %s", r)
		}
	}
}
