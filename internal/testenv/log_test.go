// SPDX-License-Identifier: Apache-2.0

package testenv_test

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"log/slog"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/openwaybill/waybill"
	"github.com/openwaybill/waybill/internal/agent"
	"github.com/openwaybill/waybill/internal/client"
	"github.com/openwaybill/waybill/internal/testenv"
)

// page is what is logged, by any number of goroutines.
type page struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (p *page) Write(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.b.Write(b)
}

func (p *page) String() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.b.String()
}

// tokens are secrets that can be told by their form: seeds of nkeys, and JWTs.
var tokens = regexp.MustCompile(`\bS[A-Z][A-Z2-7]{56}\b|\beyJ[A-Za-z0-9_-]{10,}`)

// TestLogHoldsNoSecrets does what brings secrets near the log, with everything logged that can be, by server and agent, and
// then looks for each of them.
func TestLogHoldsNoSecrets(t *testing.T) {
	t.Parallel()
	log := &page{}
	s := testenv.StartLogging(t, slog.New(slog.NewJSONHandler(log, &slog.HandlerOptions{Level: slog.LevelDebug})))
	secrets := map[string]string{"the first key's secret": s.Key.AccessKeySecret}
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	ctx := t.Context()

	activation := s.Activate("logged")
	official := s.Register(s.Network(), activation)
	official.Start()
	native := s.Agent()
	secrets["an activation code"] = activation.Code
	const guess = "guessed-activation-code"
	_, err := agent.Enroll(ctx, agent.EnrollOptions{
		StateDir: filepath.Join(t.TempDir(), "state"), Server: s.Key.Endpoint, CA: string(s.CA), Version: "test",
		ActivationID: string(activation.ID), ActivationCode: guess,
	})
	if err == nil {
		t.Fatal("a guessed code is good")
	}
	secrets["a guessed code"] = guess

	key, err := s.Client.CreateAccessKey(ctx, "")
	must(err)
	secrets["a new key's secret"] = key.Secret
	const document = `{"Version":"1","Statement":[{"Effect":"Allow","Action":"ecs:*","Resource":"*"}]}`
	temporary, err := s.Client.GetSessionToken(ctx, time.Hour, document)
	must(err)
	secrets["a temporary key's secret"], secrets["its token"] = temporary.Secret, temporary.Token
	token, err := s.Client.CreateInstanceToken(ctx, official.ID, "client-token-of-mine")
	must(err)
	secrets["the token of an instance"] = token
	for _, c := range []client.Config{
		{AccessKeyID: temporary.ID, AccessKeySecret: temporary.Secret, SecurityToken: temporary.Token},
		{AccessKeyID: key.ID, AccessKeySecret: "a-wrong-secret-of-a-right-key"},
		{AccessKeyID: temporary.ID, AccessKeySecret: temporary.Secret, SecurityToken: "a-wrong-security-token"},
	} {
		c.Endpoint, c.Region, c.CAFile = s.Key.Endpoint, testenv.Region, s.Key.CA
		other, err := client.New(c)
		must(err)
		if _, err := other.DescribeRegions(ctx); (err == nil) != (c.SecurityToken == temporary.Token) {
			t.Fatalf("with the key %s: %v", c.AccessKeyID, err)
		}
	}
	secrets["a wrong secret"], secrets["a wrong token"] = "a-wrong-secret-of-a-right-key", "a-wrong-security-token"

	request := testenv.File(native)
	request.Instances = append(request.Instances, official.ID)
	request.Content, request.Description = []byte("the content of a file"), "the description of a delivery"
	secrets["content"], secrets["content as Base64"] = string(request.Content), base64.StdEncoding.EncodeToString(request.Content)
	secrets["a description"] = request.Description
	d := s.Await(s.Send(request))
	request.File.Mode = "rwx"
	_, err = s.Client.SendFile(ctx, request)
	if err == nil {
		t.Fatal("a mode in letters is good")
	}
	native.Stop() // or it ends by itself, with an error
	_, err = s.Client.DeregisterManagedInstance(ctx, native.ID)
	must(err)

	text := log.String()
	for what, secret := range secrets {
		if secret == "" {
			t.Fatalf("there is no %s", what)
		}
		if strings.Contains(text, secret) {
			t.Errorf("the log holds %s", what)
		}
	}
	if found := tokens.FindString(text); found != "" {
		t.Errorf("the log holds %.12q…", found)
	}
	for _, name := range []string{"seal.key", "ca-key.pem"} {
		b, err := os.ReadFile(filepath.Join(s.Dir, name))
		must(err)
		if strings.Contains(text, strings.TrimSpace(string(b))) {
			t.Errorf("the log holds %s", name)
		}
	}

	// And it does hold what it is for.
	actions := map[string]bool{}
	for line := range strings.Lines(text) {
		var l struct {
			Msg    string `json:"msg"`
			Action string `json:"action"`
		}
		must(json.Unmarshal([]byte(line), &l))
		if l.Msg == "api request" {
			actions[l.Action] = true
		}
	}
	for _, a := range []string{"SendFile", "CreateAccessKey", "GetSessionToken", "CreateActivation", "DescribeRegions"} {
		if !actions[a] {
			t.Errorf("no line tells of %s", a)
		}
	}
	if d.Status == waybill.OverallPending {
		t.Error("nothing was delivered")
	}
}
