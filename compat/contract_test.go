// SPDX-License-Identifier: Apache-2.0

package compat

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/openwaybill/waybill/internal/api"
	"github.com/openwaybill/waybill/internal/testenv"
)

var update = flag.Bool("update", false, "write the generated parts of docs/compatibility.md again")

// TestContract calls every operation of the operation table with official clients, on real servers with real agents. At
// its end, everything that the table promises must have been seen: each operation succeeding, each parameter in a call
// that succeeded, each field of each answer, and each error code. What was seen where is in docs/compatibility.md.
//
// The cases build on each other, in the order of this function, so none can be left out.
func TestContract(t *testing.T) {
	t.Parallel()
	c := &contract{t: t, seen: newRecord()}
	f := c.fleet()
	c.groups(f)
	c.activations(f)
	c.machines(f)
	c.deliveries(f)
	c.summaries(f)
	c.targets(f)
	c.webhooks(f)
	c.tags(f)
	c.users(f)
	c.keys(f)
	c.policies(f)
	c.audit(f)
	c.faults(f)
	c.quotas()
	c.gateway(f)
	c.instanceTokens(f)
	c.departures(f)
	c.breakdowns()

	t.Run("coverage", func(t *testing.T) { c.seen.check(t) })
	t.Run("document", func(t *testing.T) {
		checkGenerated(t, "coverage", c.seen.summary())
		checkGenerated(t, "gateway", c.seen.gatewayTable())
		checkGenerated(t, "operations", c.seen.document())
	})
}

// contract is the test under way.
type contract struct {
	t     *testing.T
	seen  *record
	turns int // cases so far: each takes the next way of calling
}

// ways are the official clients for Go in each way they are used that looks different on the wire.
var ways = []struct {
	name   string
	scheme string
	open   func(*testing.T, access) client
}{
	{"classic JSON by GET", "http", common("GET", "JSON")},
	{"darabonba ACS3", "https", darabonba("")},
	{"classic XML by POST", "https", common("POST", "XML")},
	{"tea-rpc", "http", teaRPC},
	{"classic JSON by POST", "https", common("POST", "JSON")},
	{"darabonba V1", "http", darabonba("v2")},
	{"classic XML by GET", "http", common("GET", "XML")},
}

// caller is somebody with an access key. Each case is another client of theirs.
type caller struct {
	*contract
	access  access
	addrs   map[string]string // by scheme
	clients map[string]client // opened so far, by way
}

// root calls with the first key of a server's account.
func (c *contract) root(s *testenv.Server) *caller {
	return &caller{
		contract: c, access: accessTo(s, "http"), clients: map[string]client{},
		addrs: map[string]string{"http": s.Addr("http"), "https": s.Addr("https")},
	}
}

// with calls the same server with another key.
func (k *caller) with(id, secret, token string) *caller {
	a := k.access
	a.ID, a.Secret, a.Token = id, secret, token
	return &caller{contract: k.contract, access: a, addrs: k.addrs, clients: map[string]client{}}
}

// next returns the client whose turn it is.
func (k *caller) next() (name string, c client) {
	way := ways[k.turns%len(ways)]
	k.turns++
	if k.clients[way.name] == nil {
		a := k.access
		a.Scheme, a.Addr = way.scheme, k.addrs[way.scheme]
		k.clients[way.name] = way.open(k.t, a)
	}
	return way.name, k.clients[way.name]
}

// run runs one case.
func (c *contract) run(name string, f func(t *testing.T)) {
	c.t.Helper()
	ran := false
	c.t.Run(name, func(t *testing.T) {
		ran = true
		f(t)
	})
	if !ran {
		c.t.Skip("the cases build on each other: run all of TestContract")
	}
}

// complete adds the region to the parameters of an operation that has one.
func complete(op string, p params) params {
	all := params{}
	for _, known := range table()[op].Parameters {
		if known.Name == "RegionId" {
			all["RegionId"] = testenv.Region
		}
	}
	maps.Copy(all, p)
	return all
}

// answer is what a client made of an answer.
type answer map[string]any

// at returns what is at a path such as Users.User.0.UserName, nil if nothing is. # is the length of a list.
func (a answer) at(path string) any {
	var v any = map[string]any(a)
	for step := range strings.SplitSeq(path, ".") {
		switch of := v.(type) {
		case map[string]any:
			v = of[step]
		case []any:
			n, err := strconv.Atoi(step)
			switch {
			case step == "#":
				v = len(of)
			case err == nil && n < len(of):
				v = of[n]
			default:
				return nil
			}
		default:
			if step == "#" && v == nil {
				return 0 // an empty list is not there in XML
			}
			return nil
		}
	}
	return v
}

// text is at as a text; empty if nothing is there.
func (a answer) text(path string) string {
	if v := a.at(path); v != nil {
		return fmt.Sprint(v)
	}
	return ""
}

// want holds what an answer has at some paths.
type want map[string]any

func (w want) check(t *testing.T, a answer) {
	t.Helper()
	for path, value := range w {
		if got := a.at(path); got == nil || fmt.Sprint(got) != fmt.Sprint(value) {
			t.Errorf("%s is %v; want %v", path, got, value)
		}
	}
}

func (w want) holds(a answer) bool {
	for path, value := range w {
		if got := a.at(path); got == nil || fmt.Sprint(got) != fmt.Sprint(value) {
			return false
		}
	}
	return true
}

// ok is a case that succeeds.
func (k *caller) ok(op, name string, p params, w want) answer {
	k.t.Helper()
	var a answer
	k.run(op+"/"+name, func(t *testing.T) {
		way, c := k.next()
		a = tryOK(t, way, c, op, p)
		k.seen.success(t, op, p, a)
		w.check(t, a)
	})
	return a
}

// await is a case that succeeds in the end: only the answer with all that is wanted counts.
func (k *caller) await(op, name string, p params, w want) answer {
	k.t.Helper()
	var a answer
	k.run(op+"/"+name, func(t *testing.T) {
		way, c := k.next()
		testenv.Eventually(t, fmt.Sprintf("%s with %v", op, w), func() bool {
			a = tryOK(t, way, c, op, p)
			return w.holds(a)
		})
		k.seen.success(t, op, p, a)
	})
	return a
}

// must makes a call that only prepares others.
func (k *caller) must(op string, p params) answer {
	k.t.Helper()
	way, c := k.next()
	return tryOK(k.t, way, c, op, p)
}

func tryOK(t *testing.T, way string, c client, op string, p params) answer {
	t.Helper()
	b, err := c.call(op, complete(op, p))
	if err != nil {
		t.Fatalf("%s by %s: %v", op, way, err)
	}
	var a answer
	d := json.NewDecoder(bytes.NewReader(b))
	d.UseNumber()
	if err := d.Decode(&a); err != nil {
		t.Fatalf("%s by %s: answer %s: %v", op, way, b, err)
	}
	if !requestID.MatchString(a.text("RequestId")) {
		t.Errorf("%s by %s: request ID %q", op, way, a.text("RequestId"))
	}
	return a
}

// refuse is a case that is refused with a code of the operation. how tells it from others with the same code; arg is what
// stands in the place that the text has for a limit, a name or a reason, empty if that is not for this test to say.
func (k *caller) refuse(op, code, how string, p params, arg string) {
	k.t.Helper()
	name := op + "/" + code
	if how != "" {
		name += "/" + how
	}
	k.run(name, func(t *testing.T) {
		way, c := k.next()
		k.refusedOf(t, way, c, op, code, p, arg)
	})
}

func (c *contract) refusedOf(t *testing.T, way string, cl client, op, code string, p params, arg string) {
	t.Helper()
	i := slices.IndexFunc(table()[op].Errors, func(f api.Fault) bool { return f.Code == code })
	if i < 0 || table()[op].Never[code] != "" {
		t.Fatalf("%s does not list %s", op, code)
	}
	b, err := cl.call(op, complete(op, p))
	r, ok := errors.AsType[*refusal](err)
	if !ok {
		t.Fatalf("by %s: %s, %v; want it refused", way, b, err)
	}
	checkRefusal(t, way, r, table()[op].Errors[i], arg)
	if !t.Failed() {
		c.seen.refusal(t, op, code)
	}
}

func checkRefusal(t *testing.T, way string, r *refusal, f api.Fault, arg string) {
	t.Helper()
	text := regexp.QuoteMeta(f.Message)
	switch {
	case !strings.Contains(f.Message, "%s"):
	case arg != "":
		text = strings.ReplaceAll(text, "%s", regexp.QuoteMeta(arg))
	default:
		text = strings.ReplaceAll(text, "%s", "(?s:.+)")
	}
	if r.Status != f.Status || r.Code != f.Code || !regexp.MustCompile("^"+text+"$").MatchString(r.Message) {
		t.Errorf("by %s: %v; want %d %s: %s (%q)", way, r, f.Status, f.Code, f.Message, arg)
	}
	if !requestID.MatchString(r.RequestID) {
		t.Errorf("by %s: request ID %q", way, r.RequestID)
	}
}

// list is a list as a parameter.
func list[T any](items ...T) []any {
	all := make([]any, len(items))
	for i, item := range items {
		all[i] = item
	}
	return all
}

// copies is a list of n texts, all different.
func copies(n int, format string) []any {
	all := make([]any, n)
	for i := range all {
		all[i] = fmt.Sprintf(format, i)
	}
	return all
}

// oneTag is a list with one tag as a parameter.
func oneTag(key, value string) []any { return list(params{"Key": key, "Value": value}) }

// manyTags is a list of n tags.
func manyTags(n int) []any {
	all := make([]any, n)
	for i := range all {
		all[i] = params{"Key": fmt.Sprintf("key-%d", i), "Value": "v"}
	}
	return all
}
