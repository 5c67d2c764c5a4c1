// SPDX-License-Identifier: Apache-2.0

package compat

import (
	"bytes"
	"crypto/tls"
	"database/sql"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"

	"github.com/openwaybill/waybill"
	"github.com/openwaybill/waybill/internal/agent"
	api "github.com/openwaybill/waybill/internal/client"
	"github.com/openwaybill/waybill/internal/server"
	"github.com/openwaybill/waybill/internal/testenv"
)

// Sizes of windows: a laptop and a phone.
const (
	laptopWidth, laptopHeight = 1280, 800
	phoneWidth, phoneHeight   = 390, 780
)

// consolePages are all pages that need no name of something.
var consolePages = []string{
	"", "deliveries", "send", "machines", "enrol", "explorer", "explorer/2014-05-26/SendFile", "errors", "errors/FileAuthorityInvalid",
	"admin/users", "admin/keys", "admin/policies", "admin/policies/System/AdministratorAccess", "admin/simulator", "admin/audit", "admin/server",
}

// TestConsole goes the main way through every page with a real browser, real server and real agents.
func TestConsole(t *testing.T) {
	t.Parallel()
	s := testenv.Start(t)
	web, db := s.Agent(), s.Agent()
	s.AwaitOnline(web, db)
	b := browse(t, s, laptopWidth, laptopHeight)

	// A wrong secret is refused; a page that was asked for before is shown after.
	b.run(chromedp.Navigate(b.base+"deliveries?q=x"), chromedp.WaitVisible("#secret"),
		chromedp.SetValue("#key_id", s.Key.AccessKeyID), chromedp.SetValue("#secret", "wrong"), chromedp.Submit("#secret"), chromedp.WaitVisible(".fault"))
	b.run(chromedp.SetValue("#secret", s.Key.AccessKeySecret), chromedp.Submit("#secret"), chromedp.WaitVisible("details.who"))
	if at := is[string](b, "location.pathname+location.search"); at != "/console/deliveries?q=x" {
		t.Errorf("after signing in at %s", at)
	}

	// Send: text, two machines, a look at who will be hit. What becomes of it is shown without loading the page again.
	b.open("send")
	b.run(press("button.main"), chromedp.WaitVisible("#send")) // the directory is required: nothing is sent
	b.run(chromedp.SetValue("#text", "one\ntwo 文\n"), chromedp.SetValue("#fname", "app.conf"), chromedp.SetValue("#dir", "/etc/app"),
		chromedp.SetValue("#owner", testenvOwner(t)), chromedp.SetValue("#fgroup", testenvGroup(t)),
		chromedp.Evaluate(`document.querySelectorAll("[name=machine]").forEach(e => e.click())`, nil), press("[hx-post$=preview]"))
	b.await("2 machines will receive the file.")
	b.run(press("button.main"), chromedp.WaitVisible("#targets"))
	b.await("2 Success")
	for _, a := range []*testenv.Agent{web, db} {
		if got, err := os.ReadFile(a.Path("/etc/app", "app.conf")); err != nil || string(got) != "one\ntwo 文\n" {
			t.Errorf("on the machine is %q, %v", got, err)
		}
	}
	b.shot("delivery")

	// A rehearsal of another text shows which lines would change, and changes none.
	b.open("send")
	b.run(chromedp.SetValue("#text", "one\nthree\n"), chromedp.SetValue("#fname", "app.conf"), chromedp.SetValue("#dir", "/etc/app"),
		chromedp.SetValue("#owner", testenvOwner(t)), chromedp.SetValue("#fgroup", testenvGroup(t)),
		chromedp.Evaluate(`document.querySelectorAll("[name=machine],[name=overwrite],[name=diff]").forEach(e => e.click())`, nil), press("[hx-post$=preview]"))
	b.await("2 machines will receive the file.")
	b.shot("send")
	b.run(press("button[name=rehearse]"), chromedp.WaitVisible("#targets"))
	b.await("This is a rehearsal")
	b.await("+three")
	b.await("Would replace what is there.")
	if got, err := os.ReadFile(web.Path("/etc/app", "app.conf")); err != nil || string(got) != "one\ntwo 文\n" {
		t.Errorf("after the rehearsal is %q, %v", got, err)
	}
	b.shot("rehearsal")

	// A page that is open follows a delivery of somebody else's, without being loaded again.
	b.open("")
	b.run(chromedp.Evaluate(`window.same = true`, nil))
	r := testenv.File(web, db)
	r.File.Name, r.File.Group = "failing.conf", "no-such-group"
	failing := s.Send(r)
	b.await("failing.conf")
	b.await("Group not exists")
	if !is[bool](b, "window.same === true") {
		t.Error("the page was loaded again")
	}
	b.shot("overview")

	// Its failures are grouped, explained, exported, and sent again to those that failed.
	b.open("deliveries/" + string(failing))
	b.await("2 machines: Group not exists")
	b.run(chromedp.Click(`.failures code`), chromedp.WaitReady("h1 code"))
	b.await("getent group")
	b.open("deliveries/" + string(failing) + "?status=Success")
	b.await("No machine matches.")
	b.run(chromedp.Navigate(b.base+"send?from="+string(failing)+"&failed=1"), chromedp.WaitVisible("#ids"))
	if ids := is[string](b, `document.querySelector("#ids").value`); len(strings.Fields(ids)) != 2 {
		t.Errorf("to send again to: %q", ids)
	}
	b.run(chromedp.SetValue("#fgroup", testenvGroup(t)), press("[hx-post$=preview]"))
	b.await("2 machines will receive the file.")
	b.run(press("button.main"), chromedp.WaitVisible("#targets"))
	b.await("2 Success")

	// A file from the reader's disk, whose name is taken over.
	upload := filepath.Join(t.TempDir(), "from-disk.bin")
	if err := os.WriteFile(upload, []byte("\x00\xff\r\n binary"), 0o600); err != nil {
		t.Fatal(err)
	}
	b.open("send?machine=" + string(web.ID))
	b.run(chromedp.SetUploadFiles("#file", []string{upload}), chromedp.SetValue("#dir", "/etc/app"),
		chromedp.SetValue("#owner", testenvOwner(t)), chromedp.SetValue("#fgroup", testenvGroup(t)), press("[hx-post$=preview]"))
	b.await("1 machine will receive the file.")
	b.run(press("button.main"), chromedp.WaitVisible("#targets"))
	b.await("1 Success")
	if got, err := os.ReadFile(web.Path("/etc/app", "from-disk.bin")); err != nil || string(got) != "\x00\xff\r\n binary" {
		t.Errorf("on the machine is %q, %v", got, err)
	}

	// What the API refuses is told.
	b.open("send?machine=" + string(web.ID))
	b.run(chromedp.SetValue("#text", "x"), chromedp.SetValue("#fname", "a/b"), chromedp.SetValue("#dir", "/etc/app"), press("[hx-post$=preview]"))
	b.await("1 machine will receive the file.")
	b.run(press("button.main"))
	b.await("InvalidParameter")

	// A file that is dropped, and machines by name, tag and resource group.
	group, err := s.Client.CreateResourceGroup(t.Context(), "tills", "the tills")
	if err == nil {
		err = s.Client.JoinResourceGroup(t.Context(), group.ID, api.InstanceType, string(db.ID))
	}
	if err == nil {
		err = s.Client.TagResources(t.Context(), api.InstanceType, []string{string(db.ID)}, []waybill.Tag{{Key: "site", Value: "7"}})
	}
	if err != nil {
		t.Fatal(err)
	}
	b.open("send")
	b.run(chromedp.Evaluate(`{
		const data = new DataTransfer();
		data.items.add(new File(["dropped"], "dropped.txt"));
		document.querySelector("[data-drop]").dispatchEvent(new DragEvent("drop", {dataTransfer: data, bubbles: true, cancelable: true}));
	}`, nil), chromedp.SetValue("#dir", "/etc/app"), chromedp.SetValue("#owner", testenvOwner(t)), chromedp.SetValue("#fgroup", testenvGroup(t)))
	for _, by := range []struct{ by, input, value, want string }{
		{"name", "#pattern", "test-*", "2 machines will receive the file."},
		{"tag", "#tags", "site=7", "1 machine will receive the file."},
		{"all", "", "", "2 machines will receive the file."},
		{"group", "#rg", group.ID, "1 machine will receive the file."},
	} {
		b.run(chromedp.Click("[data-by][value=" + by.by + "]"))
		if by.input != "" {
			b.run(chromedp.SetValue(by.input, by.value))
		}
		b.run(press("[hx-post$=preview]"))
		b.await(by.want)
	}
	b.run(press("button.main"), chromedp.WaitVisible("#targets"))
	b.await("1 Success")
	if got, err := os.ReadFile(db.Path("/etc/app", "dropped.txt")); err != nil || string(got) != "dropped" {
		t.Errorf("of the file that was dropped, on the machine is %q, %v", got, err)
	}

	// An error of a form is shown inside the page.
	b.open("send")
	b.run(chromedp.Click(`[data-by][value=tag]`), chromedp.SetValue("#tags", "no=such"), press("[hx-post$=preview]"))
	b.await("No machine is chosen by this.")

	// A machine: tags, name, history.
	b.open("machines/" + string(web.ID))
	b.run(chromedp.SetValue("#mtags", "env=prod, role=web"), chromedp.Submit("#mtags"), chromedp.WaitVisible("#mname"))
	b.await("failing.conf")
	b.run(chromedp.SetValue("#mname", "web-renamed"), chromedp.Submit("#mname"), chromedp.WaitVisible("#mname"))
	b.open("machines?q=renam")
	b.await("web-renamed")
	b.await("env=prod")
	b.shot("machines")
	b.open("machines/" + string(db.ID))
	b.run(chromedp.SetValue("#confirm", "something else"), chromedp.Submit("#confirm"), chromedp.WaitVisible(".fault"))

	// Enrol: the commands that are shown enrol a machine.
	b.open("enrol")
	b.run(chromedp.SetValue("#name", "fresh"), chromedp.Submit("#name"), chromedp.WaitVisible(".good"))
	b.await("waybill-agent enroll --server")
	b.await("aliyun-service --register")
	b.shot("enrol")
	commands := is[[]string](b, `[...document.querySelectorAll(".good .code code")].map(e => e.textContent)`)
	enrolled := enrolAs(t, commands)
	b.open("machines?q=fresh")
	b.await("fresh-001")
	b.open("machines/" + enrolled)
	b.run(chromedp.SetValue("#confirm", enrolled), chromedp.Submit("#confirm"), chromedp.WaitVisible("#q"))
	b.open("machines?q=fresh")
	b.await("No machine matches.")

	// The explorer makes the call, and shows what it was.
	b.open("explorer/2014-05-26/DescribeManagedInstances")
	b.run(chromedp.SetValue("#p-InstanceName", "web-renamed"), chromedp.Click(`[name=do][value=run]`), chromedp.WaitVisible("#result .badge"))
	b.await("200 OK")
	b.await(string(web.ID))
	for _, text := range []string{"StringToSign", "String to sign", "aliyun ecs DescribeManagedInstances", "RPCClient"} {
		if !strings.Contains(is[string](b, `document.querySelector("#result").textContent`), text) && text != "StringToSign" {
			t.Errorf("the explorer does not show %q", text)
		}
	}
	b.shot("explorer")
	b.run(chromedp.SetValue("#p-RegionId", "nowhere"), chromedp.Click(`[name=format][value=XML]`), chromedp.Click(`[name=do][value=run]`))
	b.await("<Code>InvalidRegionId.NotFound</Code>")

	// Administration: a user with a key that may look at machines only. The secret is shown once.
	b.open("admin/users")
	b.run(chromedp.SetValue("#name", "alice"), chromedp.Submit("#name"), chromedp.WaitVisible("#policy"))
	b.run(chromedp.Click(`form[action$="/key"] button`), chromedp.WaitVisible(".good"))
	secret := is[string](b, `document.querySelector(".good code").textContent`)
	b.run(chromedp.Navigate(b.base+"admin/users/alice"), chromedp.WaitVisible("#policy"))
	if is[bool](b, `!!document.querySelector(".good")`) {
		t.Error("the secret is shown again")
	}
	b.open("admin/policies")
	b.run(chromedp.SetValue("#name", "look"), chromedp.SetValue("#document",
		`{"Version":"1","Statement":[{"Effect":"Allow","Action":"ecs:DescribeManagedInstances","Resource":"*"}]}`),
		chromedp.Submit("#name"), chromedp.WaitVisible("h1 .badge"))
	b.open("admin/users/alice")
	b.run(chromedp.SetValue("#policy", "Custom/look"), chromedp.Submit("#policy"), chromedp.WaitVisible(`a[href$="Custom/look"]`))
	b.open("admin/simulator?user=alice&action=ecs:SendFile&resource=" + string(web.ID))
	b.await("Deny")
	b.open("admin/audit?verify=1")
	b.await("The trail is whole")
	b.await("waybill:SignIn")
	b.shot("audit")
	b.open("admin/server")
	b.await("database")

	// What an error of the API recommends is a page, for whoever reads it.
	_, err = s.Client.DescribeManagedInstances(t.Context(), api.InstanceFilter{}, api.Paging{MaxResults: 1000})
	refused, ok := errors.AsType[*api.Error](err)
	if !ok || !strings.HasPrefix(refused.Recommend, b.base+"errors/") {
		t.Fatalf("%v recommends %q", err, refused.Recommend)
	}
	stranger := newVisitor(t, s)
	if status, body := stranger.do("GET", strings.TrimPrefix(refused.Recommend, b.base), nil); status != http.StatusOK || !strings.Contains(body, refused.Code) {
		t.Errorf("%s: %d", refused.Recommend, status)
	}

	for _, path := range consolePages {
		b.open(path)
		if is[bool](b, `!!document.querySelector(".fault")`) {
			t.Errorf("%s: %s", path, is[string](b, `document.querySelector(".fault").innerText`))
		}
	}
	b.quiet()

	// What alice sees is what her policy allows.
	key := regexp.MustCompile(`ID=(\S+)\s+export ALIBABA_CLOUD_ACCESS_KEY_SECRET=(\S+)`).FindStringSubmatch(secret)
	if key == nil {
		t.Fatalf("no key in %q", secret)
	}
	u := browse(t, s, laptopWidth, laptopHeight)
	u.signIn(key[1], key[2])
	u.await("2 online")
	u.await("Forbidden.RAM")
	nav := is[string](u, `document.querySelector("nav").innerText`)
	if !strings.Contains(nav, "Machines") || strings.Contains(nav, "Users") || strings.Contains(nav, "Audit") || strings.Contains(nav, "Deliveries") {
		t.Errorf("alice's menu: %q", nav)
	}
	u.open("admin/users")
	u.await("alice may not ram:ListUsers")

	// Signed out everywhere, neither window is good for anything.
	second := browse(t, s, laptopWidth, laptopHeight)
	second.signIn(key[1], key[2])
	u.run(chromedp.Click("details.who summary"), chromedp.Click("[name=everywhere]"), chromedp.WaitVisible("#secret"))
	second.run(chromedp.Navigate(second.base+"machines"), chromedp.WaitVisible("#secret"))
}

// enrolAs types what the console shows for our agent, as on a machine of its own, and returns the ID of the instance.
func enrolAs(t *testing.T, commands []string) string {
	t.Helper()
	dir := t.TempDir()
	build := exec.CommandContext(t.Context(), "go", "build", "-o", filepath.Join(dir, "waybill-agent"), "./cmd/waybill-agent")
	build.Dir = ".."
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, out)
	}
	if len(commands) != 3 {
		t.Fatalf("commands are %q", commands)
	}
	enroll, _, _ := strings.Cut(commands[1], "\n") // the next line starts the service
	cmd := exec.CommandContext(t.Context(), "bash", "-ec", commands[0]+"\n"+enroll+" --state-dir state\nwaybill-agent status --state-dir state")
	cmd.Dir, cmd.Env = dir, append(os.Environ(), "PATH="+dir+":"+os.Getenv("PATH"))
	out, err := cmd.CombinedOutput()
	id := regexp.MustCompile(`mi-[a-z0-9]+`).Find(out)
	if err != nil || id == nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return string(id)
}

// press presses a button wherever on the page it is: while parts come and go, it moves from under a pointer.
func press(selector string) chromedp.Action {
	return chromedp.Evaluate(fmt.Sprintf(`document.querySelector(%q).click()`, selector), nil)
}

// testenvOwner and testenvGroup are who the tests run as, whom a file can always belong to.
func testenvOwner(*testing.T) string { return testenv.File().File.Owner }
func testenvGroup(*testing.T) string { return testenv.File().File.Group }

// TestConsoleSessionEnds lets a session expire while a page is open.
func TestConsoleSessionEnds(t *testing.T) {
	t.Parallel()
	s := testenv.Start(t)
	b := browse(t, s, laptopWidth, laptopHeight)
	b.signIn(s.Key.AccessKeyID, s.Key.AccessKeySecret)
	b.open("send")
	s.Later(2 * time.Hour) // nobody has used it for an hour
	b.run(chromedp.Click(`[data-by][value=all]`), press("[hx-post$=preview]"), chromedp.WaitVisible("#secret"))
	if at := is[string](b, "location.search"); !strings.Contains(at, url.QueryEscape("/console/send")) {
		t.Errorf("signing in does not lead back: %s", at)
	}
	b.run(chromedp.SetValue("#key_id", s.Key.AccessKeyID), chromedp.SetValue("#secret", s.Key.AccessKeySecret), chromedp.Submit("#secret"), chromedp.WaitVisible("#send"))
	if err := s.Client.UpdateAccessKey(t.Context(), "", s.Key.AccessKeyID, api.KeyInactive); err == nil { // with the key goes its session
		b.run(chromedp.Navigate(b.base+"machines"), chromedp.WaitVisible("#secret"))
	}
}

// visitor is a program in place of a browser, with cookies.
type visitor struct {
	t    *testing.T
	http http.Client
	base string
}

func newVisitor(t *testing.T, s *testenv.Server) *visitor {
	t.Helper()
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	return &visitor{t: t, base: "https://" + s.Addr("https") + "/console/", http: http.Client{
		Jar: jar, Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}, // as the browser of these tests
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
}

func (c *visitor) do(method, path string, form url.Values, header ...string) (status int, body string) {
	c.t.Helper()
	r, err := http.NewRequestWithContext(c.t.Context(), method, c.base+path, strings.NewReader(form.Encode()))
	if err != nil {
		c.t.Fatal(err)
	}
	if method == http.MethodPost {
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	answer, err := c.http.Do(r)
	if err != nil {
		c.t.Fatal(err)
	}
	defer answer.Body.Close()
	b, err := io.ReadAll(answer.Body)
	if err != nil {
		c.t.Fatal(err)
	}
	return answer.StatusCode, string(b)
}

func (c *visitor) signIn(id, secret string) (csrf string) {
	c.t.Helper()
	if status, body := c.do("POST", "sign-in", url.Values{"key_id": {id}, "secret": {secret}}); status != http.StatusSeeOther {
		c.t.Fatalf("sign in: %d %s", status, body)
	}
	_, body := c.do("GET", "admin/keys", nil)
	m := regexp.MustCompile(`name="csrf" value="([0-9a-f]{64})"`).FindStringSubmatch(body)
	if m == nil {
		c.t.Fatal("no token in the page")
	}
	return m[1]
}

// TestConsoleRefusesForgeries sends what a page of another site, or somebody without a session, could send.
func TestConsoleRefusesForgeries(t *testing.T) {
	t.Parallel()
	s := testenv.Start(t)
	c := newVisitor(t, s)
	csrf := c.signIn(s.Key.AccessKeyID, s.Key.AccessKeySecret)
	create := func(token string, header ...string) int {
		status, _ := c.do("POST", "admin/users", url.Values{"csrf": {token}, "name": {"mallory"}}, header...)
		return status
	}
	for name, status := range map[string]int{
		"no token":                   create(""),
		"another token":              create(strings.Repeat("0", 64)),
		"from another site":          create(csrf, "Sec-Fetch-Site", "cross-site"),
		"from another site's origin": create(csrf, "Origin", "https://elsewhere.example"),
	} {
		if status != http.StatusForbidden {
			t.Errorf("%s: %d", name, status)
		}
	}
	if status, _ := c.do("POST", "sign-in", url.Values{"key_id": {s.Key.AccessKeyID}, "secret": {s.Key.AccessKeySecret}}, "Sec-Fetch-Site", "cross-site"); status != http.StatusForbidden {
		t.Errorf("signed in from another site: %d", status)
	}
	for u, err := range s.Client.Users(t.Context()) {
		t.Errorf("there is a user %v, %v", u, err)
	}
	if status := create(csrf); status != http.StatusSeeOther {
		t.Errorf("the right token: %d", status)
	}

	// A token of one session is no token of another, and nobody is sent elsewhere after signing in.
	other := newVisitor(t, s)
	other.signIn(s.Key.AccessKeyID, s.Key.AccessKeySecret)
	if status, _ := other.do("POST", "admin/users", url.Values{"csrf": {csrf}, "name": {"mallory2"}}); status != http.StatusForbidden {
		t.Errorf("the token of another session: %d", status)
	}
	for _, next := range []string{"https://elsewhere.example/", "//elsewhere.example/", "/console/../x", `/console/\elsewhere`, "javascript:alert(1)"} {
		status, _ := newVisitor(t, s).do("POST", "sign-in", url.Values{"key_id": {s.Key.AccessKeyID}, "secret": {s.Key.AccessKeySecret}, "next": {next}})
		if status != http.StatusSeeOther {
			t.Errorf("next %q: %d", next, status)
		}
	}

	// Guessing is slowed down, also for whoever guesses many keys.
	guesser := newVisitor(t, s)
	slowed := false
	for i := range 20 {
		status, _ := guesser.do("POST", "sign-in", url.Values{"key_id": {fmt.Sprint("key", i)}, "secret": {"x"}})
		slowed = slowed || status == http.StatusTooManyRequests
	}
	if !slowed {
		t.Error("twenty guesses were taken")
	}
	for _, path := range consolePages {
		if path = strings.TrimSuffix(path, "/"); strings.HasPrefix(path, "errors") {
			continue
		}
		if status, _ := newVisitor(t, s).do("GET", path, nil); status != http.StatusSeeOther {
			t.Errorf("%s without a session: %d", path, status)
		}
	}
}

// evil is what somebody writes wherever a text is taken.
const evil = `<img src=x onerror="window.pwned=1"><script>window.pwned=1</script>'"{{.}}`

// TestConsoleShowsTextsAsTexts puts markup into every text that users and machines choose, and looks at every page.
func TestConsoleShowsTextsAsTexts(t *testing.T) {
	t.Parallel()
	s := testenv.Start(t)
	a := s.Agent(func(cfg *agent.Config) { cfg.Version = evil[:60] })
	s.AwaitOnline(a)
	ctx := t.Context()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	r := testenv.File(a)
	r.File.Name, r.Content, r.Description = strings.ReplaceAll(evil, "/", ""), []byte(evil), evil
	r.Tags = []waybill.Tag{{Key: evil[:40], Value: evil}}
	id := s.Send(r)
	s.Await(id)
	r.File.TargetDir = "/" + strings.ReplaceAll(evil, "/", "")
	r.File.Group = "<b onmouseover=x>"
	failed := s.Send(r)
	s.Await(failed)
	must(s.Client.TagResources(ctx, api.InstanceType, []string{string(a.ID)}, []waybill.Tag{{Key: evil[:40], Value: evil}}))
	_, err := s.Client.CreateActivation(ctx, api.CreateActivationRequest{Description: evil})
	must(err)
	_, err = s.Client.CreateUser(ctx, api.CreateUserRequest{Name: "bob", DisplayName: evil, Comments: evil})
	must(err)
	_, err = s.Client.CreateGroup(ctx, "ops", evil)
	must(err)
	_, err = s.Client.CreatePolicy(ctx, "evil", `{"Version":"1","Statement":[{"Effect":"Deny","Action":"ecs:SendFile","Resource":"acs:ecs:*:*:instance/<img src=x>"}]}`, evil)
	must(err)

	// What a machine says of itself at enrolment, as a machine of theirs could.
	db, err := sql.Open("sqlite", strings.TrimPrefix(s.Database(), "sqlite:"))
	must(err)
	_, err = db.ExecContext(ctx, `UPDATE instances SET hostname = ?, os_version = ?, os_type = ?, intranet_ip = ?, machine_id = ?`, evil, evil, evil, evil, evil)
	must(errors.Join(err, db.Close()))

	b := browse(t, s, laptopWidth, laptopHeight)
	b.signIn(s.Key.AccessKeyID, s.Key.AccessKeySecret)
	query := url.QueryEscape(evil)
	for _, path := range append(slices.Clone(consolePages),
		"deliveries/"+string(id), "deliveries/"+string(failed), "machines/"+string(a.ID), "admin/users/bob", "admin/policies/Custom/evil",
		"send?from="+string(failed)+"&failed=1", "deliveries?q="+query, "machines?q="+query, "errors?q="+query, "admin/simulator?user=bob&action="+query+"&resource="+query,
		"admin/audit?actor="+query, "errors/"+url.PathEscape(evil), "deliveries/"+url.PathEscape(evil)) {
		b.open(path)
		if is[bool](b, `!!window.pwned || !!document.querySelector("img[onerror], main script, [onmouseover]")`) {
			t.Errorf("%s: markup of a user's is in the page", path)
		}
	}
	b.open("explorer/2014-05-26/SendFile")
	b.run(chromedp.SetValue("#p-Description", evil), chromedp.SetValue("#p-Name", evil), chromedp.Click(`[name=do][value=show]`), chromedp.WaitVisible("#result section"))
	if is[bool](b, `!!window.pwned || !!document.querySelector("#result img, #result script")`) {
		t.Error("the explorer shows markup of a user's")
	}
	b.quiet()

	// In a spreadsheet nothing is a formula.
	c := newVisitor(t, s)
	c.signIn(s.Key.AccessKeyID, s.Key.AccessKeySecret)
	must(s.Client.ModifyManagedInstance(ctx, a.ID, "plain"))
	_, body := c.do("GET", "deliveries/"+string(failed)+"/targets.csv", nil)
	rows, err := csv.NewReader(strings.NewReader(body)).ReadAll()
	must(err)
	if len(rows) != 2 || rows[1][1] != "plain" || rows[1][3] != "FileAuthorityInvalid" {
		t.Errorf("the export has %v", rows)
	}
	_, body = c.do("GET", "deliveries/"+string(failed)+"/targets.json", nil)
	var targets []api.NamedTarget
	if must(json.Unmarshal([]byte(body), &targets)); len(targets) != 1 || targets[0].Instance != a.ID {
		t.Errorf("the export has %+v", targets)
	}
	if _, body = c.do("GET", "deliveries/"+string(id)+"/content", nil); body != evil {
		t.Errorf("the content comes back as %q", body)
	}
}

// TestConsoleManyMachines looks at one delivery to 10,000 machines: a page has as many rows as it always has, wherever in the list.
func TestConsoleManyMachines(t *testing.T) {
	t.Parallel()
	const many = 10_000
	s := testenv.Start(t, func(cfg *server.Config) { cfg.Control.Limits.Instances = many })
	a := s.Agent()
	s.AwaitOnline(a)
	r := testenv.File(a)
	for i := range many - 1 {
		r.Instances = append(r.Instances, waybill.InstanceID(fmt.Sprintf("mi-hz%020d", i)))
	}
	id := s.Send(r)
	s.Await(id)
	b := browse(t, s, laptopWidth, laptopHeight)
	b.signIn(s.Key.AccessKeyID, s.Key.AccessKeySecret)
	b.open("deliveries/" + string(id))
	b.await("9999 machines: the specified instance does not exists")
	b.await("/ 100")
	rows := func() int { return is[int](b, `document.querySelectorAll("#targets tbody tr").length`) }
	if n := rows(); n != 100 {
		t.Errorf("%d rows on a page", n)
	}
	b.run(chromedp.SetValue("#pg", "100"))
	b.await(fmt.Sprintf("mi-hz%020d", many-2))
	if n := rows(); n != 100 {
		t.Errorf("%d rows on the last page", n)
	}
	b.open("deliveries/" + string(id) + "?status=Success")
	if n := rows(); n != 1 {
		t.Errorf("%d rows of what succeeded", n)
	}
	b.shot("many")
	if nodes := is[int](b, `document.querySelectorAll("*").length`); nodes > 5000 {
		t.Errorf("the page has %d elements", nodes)
	}
	c := newVisitor(t, s)
	c.signIn(s.Key.AccessKeyID, s.Key.AccessKeySecret)
	_, body := c.do("GET", "deliveries/"+string(id)+"/targets.csv", nil)
	if n := bytes.Count([]byte(body), []byte("\n")); n != many+1 {
		t.Errorf("the export has %d lines", n)
	}
}

// TestConsoleInBothLanguages looks at every page in Chinese and on a phone: in the right language, and no wider than the screen.
func TestConsoleInBothLanguages(t *testing.T) {
	t.Parallel()
	s := testenv.Start(t)
	a := s.Agent()
	s.AwaitOnline(a)
	r := testenv.File(a)
	r.File.Group = "no-such-group"
	id := s.Send(r)
	s.Await(id)
	b := browse(t, s, phoneWidth, phoneHeight, chromedp.Flag("accept-lang", "zh-CN"))
	b.run(chromedp.Navigate(b.base), chromedp.WaitVisible("#secret"))
	b.await("登录")
	b.signIn(s.Key.AccessKeyID, s.Key.AccessKeySecret)
	if is[bool](b, `document.querySelector("nav").offsetHeight > 0`) {
		t.Error("the menu covers the phone")
	}
	b.run(chromedp.Click("[data-menu]"), chromedp.WaitVisible("nav"))
	for _, path := range append(slices.Clone(consolePages), "deliveries/"+string(id), "machines/"+string(a.ID)) {
		b.open(path)
		if wide := is[int](b, `document.scrollingElement.scrollWidth - window.innerWidth`); wide > 0 {
			t.Errorf("%s is %d pixels wider than the phone", path, wide)
		}
		if lang := is[string](b, `document.documentElement.lang`); lang != "zh-CN" {
			t.Errorf("%s is in %s", path, lang)
		}
		// Whatever can be used has a name that is read out.
		if bad := is[string](b, `[...document.querySelectorAll("input:not([type=hidden]),select,textarea")].filter(e => !e.labels?.length).map(e => e.name).join()`); bad != "" {
			t.Errorf("%s: without a label: %s", path, bad)
		}
		b.shot("phone-" + strings.ReplaceAll(path, "/", "_"))
	}
	b.open("deliveries/" + string(id))
	b.await("按原因统计的失败")
	b.run(chromedp.Click(`[name=lang][value=en]`), chromedp.WaitReady(`html[lang=en]`))
	b.await("Failures by cause")
	b.quiet()
}

// TestConsoleIsSmall loads the first page anew: it takes less than 100 KB over the wire, all of it from the server. And it is
// used with the keyboard.
func TestConsoleIsSmall(t *testing.T) {
	t.Parallel()
	s := testenv.Start(t)
	b := browse(t, s, laptopWidth, laptopHeight)
	b.run(chromedp.Navigate(b.base), chromedp.WaitVisible("#secret"))
	b.signIn(s.Key.AccessKeyID, s.Key.AccessKeySecret)
	b.open("")
	b.mu.Lock()
	received := b.received
	b.mu.Unlock()
	t.Logf("sign-in and overview: %.0f bytes", received)
	if received == 0 || received > 100_000 {
		t.Errorf("the first pages take %.0f bytes", received)
	}
	b.run(chromedp.KeyEvent("\t"))
	if first := is[string](b, `document.activeElement.className`); first != "skip" {
		t.Errorf("the first stop of the keyboard is %q", first)
	}
	b.run(chromedp.KeyEvent("gd"), chromedp.WaitVisible("#q"))
	b.run(chromedp.KeyEvent("/"))
	if id := is[string](b, `document.activeElement.id`); id != "q" {
		t.Errorf("/ leads to %q", id)
	}
	b.quiet()
}

// TestConsoleStreamsEndWithTheServer stops a server while pages are live: it does not wait for them.
func TestConsoleStreamsEndWithTheServer(t *testing.T) {
	t.Parallel()
	s := testenv.Start(t)
	c := newVisitor(t, s)
	c.signIn(s.Key.AccessKeyID, s.Key.AccessKeySecret)
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, c.base+"events", nil)
	if err != nil {
		t.Fatal(err)
	}
	answer, err := c.http.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	if kind := answer.Header.Get("Content-Type"); kind != "text/event-stream" {
		t.Errorf("events come as %s", kind)
	}
	s.Stop()
	if _, err := io.Copy(io.Discard, answer.Body); err != nil {
		t.Errorf("the stream ends with %v", err)
	}
	s.Restart()
	if status, _ := c.do("GET", "machines", nil); status != http.StatusOK {
		t.Errorf("the session is gone after a restart: %d", status)
	}
}
