// SPDX-License-Identifier: Apache-2.0

package compat

import (
	"bytes"
	"debug/elf"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer/json"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// The files of deploy/ that nothing here can run are held against what reads them: the types of Kubernetes, and the flags
// and variables of the programs.

// programs are ours, by their names in one directory, built as the Dockerfiles do.
type programs string

func TestDeploy(t *testing.T) {
	t.Parallel()
	dir := programs(t.TempDir())
	cmd := exec.Command("go", "build", "-trimpath", "-buildvcs=false", "-ldflags", "-s -w -X main.version=v0.0.0-test", "-o", string(dir)+"/", "./cmd/...")
	cmd.Dir, cmd.Stderr = "..", os.Stderr
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if err := cmd.Run(); err != nil {
		t.Fatal(err)
	}
	t.Run("static", dir.testStatic)
	t.Run("Dockerfiles", dir.testDockerfiles)
	t.Run("settings", dir.testSettings)
	t.Run("Compose", dir.testCompose)
	t.Run("Kubernetes", dir.testKubernetes)
}

func (p programs) path(name string) string { return filepath.Join(string(p), name) }

var flagInHelp = regexp.MustCompile(`(?m)^ +(?:-\w, )?--([a-z-]+)`)

// flagsOf returns the flags of a command.
func (p programs) flagsOf(t *testing.T, program string, command ...string) []string {
	t.Helper()
	out, err := exec.Command(p.path(program), append(command, "--help")...).Output()
	if err != nil {
		t.Fatal(err)
	}
	var flags []string
	for _, m := range flagInHelp.FindAllStringSubmatch(string(out), -1) {
		flags = append(flags, m[1])
	}
	if len(flags) < 3 {
		t.Fatalf("%s %v has the flags %v", program, command, flags)
	}
	return flags
}

// checkCommand finds flags and variables that the command does not have. The secret of the first key is a variable alone.
func (p programs) checkCommand(t *testing.T, where, program string, args []string, env map[string]string) {
	t.Helper()
	if len(args) == 0 || strings.HasPrefix(args[0], "-") {
		t.Errorf("%s: no command in %q", where, args)
		return
	}
	known := p.flagsOf(t, program, args[0])
	for _, arg := range args[1:] {
		name, _, valued := strings.Cut(strings.TrimPrefix(arg, "--"), "=")
		if !valued || !strings.HasPrefix(arg, "--") || !slices.Contains(known, name) {
			t.Errorf("%s: %s %s has no %s", where, program, args[0], arg)
		}
	}
	prefix := strings.ToUpper(strings.ReplaceAll(program, "-", "_")) + "_"
	for _, name := range slices.Sorted(maps.Keys(env)) {
		rest, ours := strings.CutPrefix(name, prefix)
		flag := strings.ToLower(strings.ReplaceAll(rest, "_", "-"))
		if ours && !slices.Contains(known, flag) && flag != "bootstrap-access-key-secret" {
			t.Errorf("%s: %s %s does not read %s", where, program, args[0], name)
		}
	}
}

// testStatic looks whether the programs run in an image that holds nothing else.
func (p programs) testStatic(t *testing.T) {
	t.Parallel()
	for _, program := range []string{"waybill", "waybill-agent"} {
		f, err := elf.Open(p.path(program))
		if err != nil {
			t.Skipf("this system has other programs than Linux: %v", err)
		}
		for _, segment := range f.Progs {
			if segment.Type == elf.PT_INTERP {
				t.Errorf("%s needs an interpreter", program)
			}
		}
		f.Close()
	}
}

var dockerLine = regexp.MustCompile(`(?m)^(FROM|USER|ENV|CMD|ENTRYPOINT) (.*)$`)

func (p programs) testDockerfiles(t *testing.T) {
	t.Parallel()
	for file, program := range map[string]string{"server.Dockerfile": "waybill", "agent.Dockerfile": "waybill-agent"} {
		text := readDeployed(t, "docker", file)
		last := map[string]string{}
		env := map[string]string{}
		for _, m := range dockerLine.FindAllStringSubmatch(text, -1) {
			last[m[1]] = m[2]
			if name, value, ok := strings.Cut(m[2], "="); ok && m[1] == "ENV" {
				env[name] = value
			}
		}
		if last["FROM"] != "scratch" || last["USER"] != "65532:65532" || last["ENTRYPOINT"] != `["/usr/bin/`+program+`"]` {
			t.Errorf("%s: %v", file, last)
		}
		p.checkCommand(t, file, program, []string{strings.Trim(last["CMD"], `[]"`)}, env)
		if !strings.Contains(text, `CGO_ENABLED=0`) || !strings.Contains(text, "./cmd/"+program) {
			t.Errorf("%s does not build a static %s", file, program)
		}
	}
}

// testSettings looks at the examples in the settings that packages install.
func (p programs) testSettings(t *testing.T) {
	t.Parallel()
	for program, command := range map[string]string{"waybill": "server", "waybill-agent": "run"} {
		env := map[string]string{}
		for line := range strings.Lines(readDeployed(t, "packages", program+".default")) {
			if name, value, ok := strings.Cut(strings.TrimPrefix(line, "#"), "="); ok && !strings.Contains(name, " ") {
				env[name] = value
			}
		}
		if len(env) < 2 {
			t.Errorf("%s.default has the examples %v", program, env)
		}
		p.checkCommand(t, program+".default", program, []string{command}, env)
	}
}

func readDeployed(t *testing.T, name ...string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(append([]string{"..", "deploy"}, name...)...))
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// composeFile is as much of the language of Compose as our file uses.
type composeFile struct {
	Waybill  any `yaml:"x-waybill"`
	NATS     any `yaml:"x-nats"`
	Services map[string]composeService
	Volumes  map[string]any
}

type composeService struct {
	Image       string
	Build       struct{ Context, Dockerfile string }
	User        string
	Restart     string
	ReadOnly    bool                                  `yaml:"read_only"`
	CapDrop     []string                              `yaml:"cap_drop"`
	SecurityOpt []string                              `yaml:"security_opt"`
	Grace       string                                `yaml:"stop_grace_period"`
	DependsOn   map[string]struct{ Condition string } `yaml:"depends_on"`
	Environment map[string]string
	Command     []string
	Ports       []string
	Volumes     []string
	Healthcheck struct {
		Test     []string
		Interval string
		Retries  int
	}
}

func (p programs) testCompose(t *testing.T) {
	t.Parallel()
	dec := yaml.NewDecoder(strings.NewReader(readDeployed(t, "compose", "compose.yaml")))
	dec.KnownFields(true)
	var f composeFile
	if err := dec.Decode(&f); err != nil {
		t.Fatal(err)
	}
	servers, published := 0, map[string]string{}
	for name, s := range f.Services {
		for other, d := range s.DependsOn {
			needed := map[string]string{"setup": "service_completed_successfully", "postgres": "service_healthy"}[other]
			if needed == "" {
				needed = "service_started"
			}
			if _, ok := f.Services[other]; !ok || d.Condition != needed {
				t.Errorf("%s waits for %s, %s", name, other, d.Condition)
			}
		}
		for _, v := range s.Volumes {
			volume, _, _ := strings.Cut(v, ":")
			if _, ok := f.Volumes[volume]; !ok {
				t.Errorf("%s: there is no volume %s", name, volume)
			}
		}
		for _, mapping := range s.Ports {
			port, _, _ := strings.Cut(mapping, ":")
			if published[port] != "" {
				t.Errorf("port %s is %s's and %s's", port, name, published[port])
			}
			published[port] = name
		}
		if s.Image != "waybill" {
			continue
		}
		if _, err := os.Stat(filepath.Join("../deploy/compose", s.Build.Context, s.Build.Dockerfile)); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		command := s.Command
		if command == nil {
			command = []string{"server"}
			servers++
		}
		p.checkCommand(t, "compose.yaml: "+name, "waybill", command, s.Environment)
	}
	if servers != 3 {
		t.Errorf("%d servers", servers)
	}
}

// manifests returns the objects of deploy/kubernetes, decoded strictly.
func manifests(t *testing.T) []runtime.Object {
	t.Helper()
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{appsv1.AddToScheme, corev1.AddToScheme, policyv1.AddToScheme} {
		if err := add(scheme); err != nil {
			t.Fatal(err)
		}
	}
	strict := json.NewSerializerWithOptions(json.DefaultMetaFactory, scheme, scheme, json.SerializerOptions{Yaml: true, Strict: true})
	var k kustomization
	dec := yaml.NewDecoder(strings.NewReader(readDeployed(t, "kubernetes", "kustomization.yaml")))
	dec.KnownFields(true)
	if err := dec.Decode(&k); err != nil {
		t.Fatal(err)
	}
	var all []runtime.Object
	for _, file := range k.Resources {
		docs := yaml.NewDecoder(strings.NewReader(readDeployed(t, "kubernetes", file)))
		for {
			var doc yaml.Node
			err := docs.Decode(&doc)
			if err == io.EOF {
				break
			}
			if err != nil {
				t.Fatalf("%s: %v", file, err)
			}
			var text bytes.Buffer
			if err := yaml.NewEncoder(&text).Encode(&doc); err != nil {
				t.Fatal(err)
			}
			o, _, err := strict.Decode(text.Bytes(), nil, nil)
			if err != nil {
				t.Fatalf("%s: %v", file, err)
			}
			all = append(all, o)
		}
	}
	files, err := filepath.Glob("../deploy/kubernetes/*.yaml")
	if err != nil || len(files) != len(k.Resources)+1 {
		t.Errorf("the files are %v, the kustomization has %v", files, k.Resources)
	}
	return all
}

type kustomization struct {
	APIVersion      string `yaml:"apiVersion"`
	Kind, Namespace string
	Resources       []string
	Images          []struct {
		Name    string
		NewName string `yaml:"newName"`
		NewTag  string `yaml:"newTag"`
	}
	SecretGenerator []struct {
		Name  string
		Files []string
		Envs  []string
	} `yaml:"secretGenerator"`
	GeneratorOptions struct {
		DisableNameSuffixHash bool `yaml:"disableNameSuffixHash"`
	} `yaml:"generatorOptions"`
}

func (p programs) testKubernetes(t *testing.T) {
	t.Parallel()
	pods := map[string]corev1.PodTemplateSpec{}
	settings := map[string]string{}
	for line := range strings.Lines(readDeployed(t, "kubernetes", "settings.env.example")) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), "=")
		settings[name] = value
	}
	kinds := map[string]int{}
	all := manifests(t)
	for _, o := range all {
		kinds[o.GetObjectKind().GroupVersionKind().Kind]++
		switch o := o.(type) {
		case *appsv1.Deployment:
			pods[o.Name] = o.Spec.Template
			checkSelector(t, o.Name, o.Spec.Selector.MatchLabels, o.Spec.Template)
			if *o.Spec.Replicas != 3 {
				t.Errorf("%d servers", *o.Spec.Replicas)
			}
		case *appsv1.StatefulSet:
			pods[o.Name] = o.Spec.Template
			checkSelector(t, o.Name, o.Spec.Selector.MatchLabels, o.Spec.Template)
		}
	}
	for kind, n := range map[string]int{"Deployment": 1, "StatefulSet": 1, "Service": 3, "PodDisruptionBudget": 2} {
		if kinds[kind] != n {
			t.Errorf("%d objects of the kind %s", kinds[kind], kind)
		}
	}
	for name, pod := range pods {
		p.checkPod(t, name, pod.Spec, settings)
	}
	for _, o := range all {
		switch o := o.(type) {
		case *corev1.Service:
			pod := selected(t, o.Name, o.Spec.Selector, pods)
			for _, port := range o.Spec.Ports {
				checkPort(t, "service "+o.Name, port.TargetPort, pod.Spec.Containers)
			}
		case *policyv1.PodDisruptionBudget:
			selected(t, o.Name, o.Spec.Selector.MatchLabels, pods)
		}
	}
}

func checkSelector(t *testing.T, name string, want map[string]string, p corev1.PodTemplateSpec) {
	t.Helper()
	if !matches(want, p) {
		t.Errorf("%s selects %v, its pods are %v", name, want, p.Labels)
	}
}

func matches(want map[string]string, p corev1.PodTemplateSpec) bool {
	s, err := metav1.LabelSelectorAsSelector(&metav1.LabelSelector{MatchLabels: want})
	return err == nil && !s.Empty() && s.Matches(labelSet(p.Labels))
}

type labelSet map[string]string

func (l labelSet) Has(name string) bool              { _, ok := l[name]; return ok }
func (l labelSet) Get(name string) string            { return l[name] }
func (l labelSet) Lookup(name string) (string, bool) { v, ok := l[name]; return v, ok }

func selected(t *testing.T, name string, want map[string]string, pods map[string]corev1.PodTemplateSpec) corev1.PodTemplateSpec {
	t.Helper()
	var found []corev1.PodTemplateSpec
	for _, p := range pods {
		if matches(want, p) {
			found = append(found, p)
		}
	}
	if len(found) != 1 {
		t.Fatalf("%s selects %d kinds of pods", name, len(found))
	}
	return found[0]
}

func checkPort(t *testing.T, where string, port intstr.IntOrString, containers []corev1.Container) {
	t.Helper()
	for _, c := range containers {
		for _, p := range c.Ports {
			if p.Name == port.StrVal {
				return
			}
		}
	}
	t.Errorf("%s: no container has the port %s", where, port.String())
}

func (p programs) checkPod(t *testing.T, name string, pod corev1.PodSpec, settings map[string]string) {
	t.Helper()
	volumes := map[string]bool{}
	for _, v := range pod.Volumes {
		volumes[v.Name] = true
	}
	if sc := pod.SecurityContext; sc == nil || sc.RunAsNonRoot == nil || !*sc.RunAsNonRoot {
		t.Errorf("%s may run as root", name)
	}
	for _, c := range slices.Concat(pod.InitContainers, pod.Containers) {
		where := name + ": " + c.Name
		if sc := c.SecurityContext; sc == nil || sc.ReadOnlyRootFilesystem == nil || !*sc.ReadOnlyRootFilesystem ||
			sc.AllowPrivilegeEscalation == nil || *sc.AllowPrivilegeEscalation || !slices.Contains(sc.Capabilities.Drop, "ALL") {
			t.Errorf("%s may do more than it needs", where)
		}
		for _, m := range c.VolumeMounts {
			if !volumes[m.Name] {
				t.Errorf("%s: there is no volume %s", where, m.Name)
			}
		}
		for _, probe := range []*corev1.Probe{c.StartupProbe, c.ReadinessProbe, c.LivenessProbe} {
			switch {
			case probe == nil:
			case probe.HTTPGet != nil:
				checkPort(t, where, probe.HTTPGet.Port, pod.Containers)
			default:
				checkPort(t, where, probe.TCPSocket.Port, pod.Containers)
			}
		}
		env := map[string]string{}
		for _, e := range c.Env {
			env[e.Name] = e.Value
			if e.ValueFrom == nil || e.ValueFrom.SecretKeyRef == nil {
				continue
			}
			if _, ok := settings[e.ValueFrom.SecretKeyRef.Key]; !ok || e.ValueFrom.SecretKeyRef.Name != "waybill-settings" {
				t.Errorf("%s: %s is not in settings.env.example", where, e.Name)
			}
		}
		if c.EnvFrom != nil {
			maps.Copy(env, settings)
		}
		if c.Image == "waybill" {
			p.checkCommand(t, where, "waybill", c.Args, env)
		}
	}
}
