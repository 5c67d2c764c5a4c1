// SPDX-License-Identifier: Apache-2.0

package compat

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/openwaybill/waybill/internal/samples"
	"github.com/openwaybill/waybill/internal/testenv"
)

// nastyContent breaks out of quotes that are not thought through.
const nastyContent = "it's \"quoted\" \\ $HOME `id` %s\nline\ttab 文字 🙂 \u2028 ${x} \\u0041\n"

// runners run a sample, saved as its file in dir, whose work is done when they return.
var runners = map[string]func(t *testing.T, dir, file string) *exec.Cmd{
	"go": func(t *testing.T, dir, file string) *exec.Cmd { // in this module, which has the SDK
		return exec.CommandContext(t.Context(), "go", "run", filepath.Join(dir, file))
	},
	"node": func(t *testing.T, dir, file string) *exec.Cmd {
		cmd := exec.CommandContext(t.Context(), "node", filepath.Join(dir, file))
		modules, err := filepath.Abs("node_modules")
		if err != nil {
			t.Fatal(err)
		}
		cmd.Env = append(os.Environ(), "NODE_PATH="+modules, "NODE_EXTRA_CA_CERTS="+filepath.Join(dir, "ca.pem"))
		return cmd
	},
	"shell": bash, "waybill": bash,
}

func bash(t *testing.T, dir, file string) *exec.Cmd {
	cmd := exec.CommandContext(t.Context(), "bash", file)
	cmd.Dir = dir
	return cmd
}

// TestSamples runs what the console's explorer gives people to copy, in every language whose runtime is here: the file that a
// sample sends is on the machine, byte for byte, and one that is refused says so and fails.
func TestSamples(t *testing.T) {
	t.Parallel()
	s := testenv.Start(t)
	a := s.Agent()
	bin := t.TempDir()
	build := exec.CommandContext(t.Context(), "go", "build", "-o", filepath.Join(bin, "waybill"), "./cmd/waybill")
	build.Dir = ".."
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, out)
	}
	for id, runner := range runners {
		for _, scheme := range []string{"https", "http"} {
			t.Run(id+" "+scheme, func(t *testing.T) {
				if id == "node" {
					needNode(t, "pop-core")
				}
				c := samples.Call{Endpoint: scheme + "://" + s.Addr(scheme), Version: "2014-05-26", Action: "SendFile", KeyID: s.Key.AccessKeyID}
				if scheme == "https" {
					c.CA = "ca.pem"
				}
				name := id + "-" + scheme
				c.Params = []samples.Param{
					{Name: "RegionId", Value: testenv.Region},
					{Name: "Name", Value: name},
					{Name: "TargetDir", Value: "/srv/it's here"},
					{Name: "Content", Value: nastyContent},
					{Name: "ContentType", Value: "PlainText"},
					{Name: "InstanceId.1", Value: string(a.ID)},
					{Name: "FileOwner", Value: strconv.Itoa(os.Geteuid())},
					{Name: "FileGroup", Value: strconv.Itoa(os.Getegid())},
				}
				for i := 2; i <= 11; i++ { // the order of names is not that of their text
					c.Params = append(c.Params, samples.Param{Name: fmt.Sprintf("InstanceId.%d", i), Value: fmt.Sprintf("mi-none%d", i)})
				}
				if out, err := runSample(t, s, bin, id, runner, c); err != nil {
					t.Fatalf("%v\n%s", err, out)
				}
				testenv.Eventually(t, name+" arrives", func() bool {
					got, err := os.ReadFile(a.Path("/srv/it's here", name))
					return err == nil && string(got) == nastyContent
				})
				c.Params[1].Value = "not/a/name"
				out, err := runSample(t, s, bin, id, runner, c)
				if err == nil || !bytes.Contains(out, []byte("InvalidParameter")) && !bytes.Contains(out, []byte("not valid")) && !bytes.Contains(out, []byte("slash")) {
					t.Errorf("refused, it ends with %v\n%s", err, out)
				}
				c.Action, c.Params = "DescribeSendFileResults", []samples.Param{{Name: "RegionId", Value: testenv.Region}, {Name: "Name", Value: name}}
				if out, err = runSample(t, s, bin, id, runner, c); err != nil || !strings.Contains(string(out), name) {
					t.Errorf("results: %v\n%s", err, out)
				}
			})
		}
	}
}

func runSample(t *testing.T, s *testenv.Server, bin, id string, runner func(*testing.T, string, string) *exec.Cmd, c samples.Call) ([]byte, error) {
	t.Helper()
	code, err := samples.Generate(id, c)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	file := ""
	for _, l := range samples.Languages() {
		if l.ID == id {
			file = l.File
		}
	}
	for name, b := range map[string][]byte{file: []byte(code), "ca.pem": s.CA} {
		if err := os.WriteFile(filepath.Join(dir, name), b, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if id == "go" && c.CA != "" { // it is run here, where the SDK is
		code = strings.ReplaceAll(code, `"ca.pem"`, strconv.Quote(filepath.Join(dir, "ca.pem")))
		if err := os.WriteFile(filepath.Join(dir, file), []byte(code), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	cmd := runner(t, dir, file)
	if cmd.Env == nil {
		cmd.Env = os.Environ()
	}
	cmd.Env = append(cmd.Env, "PATH="+bin+string(os.PathListSeparator)+os.Getenv("PATH"), "ALIBABA_CLOUD_ACCESS_KEY_ID="+s.Key.AccessKeyID, "ALIBABA_CLOUD_ACCESS_KEY_SECRET="+s.Key.AccessKeySecret)
	return cmd.CombinedOutput()
}

// TestPythonSampleSays runs the Python sample with modules in place of the SDK, which cannot be had everywhere: what it would
// send is what the call says.
func TestPythonSampleSays(t *testing.T) {
	t.Parallel()
	if _, err := exec.LookPath("python3"); err != nil {
		if strings.Contains(os.Getenv("WAYBILL_TEST_REQUIRE"), "python") {
			t.Fatal(err)
		}
		t.Skip("no python3 is installed; the Python sample is not run")
	}
	c := samples.Call{
		Endpoint: "https://127.0.0.1:8480", Version: "2014-05-26", Action: "SendFile",
		Params: []samples.Param{{Name: "Content", Value: nastyContent}, {Name: "Name", Value: "it's"}},
	}
	code, err := samples.Generate("python", c)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	keep := "class Any:\n    def __init__(self, **kw):\n        self.__dict__.update(kw)\n"
	for name, text := range map[string]string{
		"call.py":                              code,
		"alibabacloud_tea_openapi/__init__.py": "", "alibabacloud_tea_util/__init__.py": "",
		"alibabacloud_tea_openapi/models.py": keep + "Config = Params = OpenApiRequest = Any\n",
		"alibabacloud_tea_util/models.py":    keep + "RuntimeOptions = Any\n",
		"alibabacloud_tea_openapi/client.py": "class Client:\n    def __init__(self, config):\n        self.config = config\n" +
			"    def call_api(self, params, request, runtime):\n        assert (params.action, params.version, self.config.endpoint) == ('SendFile', '2014-05-26', '127.0.0.1:8480')\n" +
			"        return {'body': request.body}\n",
	} {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.CommandContext(t.Context(), "python3", "-c", "import sys, json, runpy\nsys.path.insert(0, '.')\nrunpy.run_path('call.py')")
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "ALIBABA_CLOUD_ACCESS_KEY_ID=x", "ALIBABA_CLOUD_ACCESS_KEY_SECRET=y", "PYTHONIOENCODING=utf-8")
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	var sent map[string]string
	if err := json.Unmarshal(out, &sent); err != nil {
		t.Fatal(err)
	}
	if sent["Content"] != nastyContent || sent["Name"] != "it's" {
		t.Errorf("sent %q", sent)
	}
}
