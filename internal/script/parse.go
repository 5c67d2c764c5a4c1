// SPDX-License-Identifier: Apache-2.0

package script

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/openwaybill/waybill"
)

// Bounds of a script.
const (
	maxBytes      = 1 << 20
	maxMachines   = 1000 // an activation enrols as many
	maxDeliveries = 1_000_000
	maxWait       = 24 * time.Hour
	leastUp       = time.Second // shorter, and a busy machine never gets to work
	leastTimeout  = time.Second
	mostTimeout   = 10 * time.Second // what the server has without a script
)

// Parse reads a script. name is what errors call it: each begins with it and the line, and says what is allowed. All that
// is wrong is told at once.
func Parse(name string, data []byte) (*Script, error) {
	p := &parser{name: name}
	s := p.script(data)
	if err := errors.Join(p.errs...); err != nil {
		return nil, err
	}
	return s, nil
}

// parser gathers what is wrong.
type parser struct {
	name string
	errs []error
}

func (p *parser) addf(line int, format string, args ...any) {
	p.errs = append(p.errs, fmt.Errorf("%s:%d: %w", p.name, line, fmt.Errorf(format, args...)))
}

func (p *parser) script(data []byte) *Script {
	if len(data) > maxBytes {
		p.addf(1, "a script of %d bytes; at most %d are possible", len(data), maxBytes)
		return nil
	}
	decoder := yaml.NewDecoder(bytes.NewReader(data))
	var doc, more yaml.Node
	err := decoder.Decode(&doc)
	switch {
	case errors.Is(err, io.EOF):
		p.addf(1, "the script is empty; it needs: instances: {NAME: OUTCOME}")
		return nil
	case err != nil:
		p.syntax(err)
		return nil
	}
	if err := decoder.Decode(&more); err == nil {
		p.addf(more.Line, "a second document; a script is one")
		return nil
	} else if !errors.Is(err, io.EOF) {
		p.syntax(err)
		return nil
	}
	s := &Script{}
	root := resolve(doc.Content[0])
	found := false
	p.mapping(root, "a script", fields{
		"instances": func(n *yaml.Node) { found, s.Machines = true, p.machines(n) },
		"min-timeout": func(n *yaml.Node) {
			s.MinTimeout = p.duration(n, "min-timeout", leastTimeout, mostTimeout)
			if s.MinTimeout%time.Second != 0 {
				p.addf(n.Line, "min-timeout: SendFile knows whole seconds only")
			}
		},
	})
	if !found && len(p.errs) == 0 {
		p.addf(root.Line, "there are no instances; add: instances: {NAME: OUTCOME}")
	}
	return s
}

// syntax reports what the YAML library says, which names a line in its own way or none.
func (p *parser) syntax(err error) {
	line := 1
	text := strings.TrimPrefix(err.Error(), "yaml: ")
	if rest, ok := strings.CutPrefix(text, "line "); ok {
		if number, message, ok := strings.Cut(rest, ": "); ok {
			if n, err := strconv.Atoi(number); err == nil {
				line, text = n, message
			}
		}
	}
	p.addf(line, "this is no YAML: %s", text)
}

func resolve(n *yaml.Node) *yaml.Node {
	if n.Kind == yaml.AliasNode {
		return n.Alias
	}
	return n
}

// fields holds what takes the values of a mapping, by key.
type fields map[string]func(value *yaml.Node)

func (f fields) names() string {
	names := make([]string, 0, len(f))
	for name := range f {
		names = append(names, name)
	}
	slices.Sort(names)
	return strings.Join(names, ", ")
}

// mapping hands out the values of n.
func (p *parser) mapping(n *yaml.Node, what string, known fields) {
	if n.Kind != yaml.MappingNode {
		p.addf(n.Line, "%s is a mapping with the keys: %s", what, known.names())
		return
	}
	p.pairs(n, func(key, value *yaml.Node) {
		if take := known[key.Value]; take != nil {
			take(value)
			return
		}
		p.addf(key.Line, "unknown key %q in %s; the keys are: %s", key.Value, what, known.names())
	})
}

// pairs calls each for the keys of a mapping, which must be words, the first of them where one comes again.
func (p *parser) pairs(n *yaml.Node, each func(key, value *yaml.Node)) {
	lines := map[string]int{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, value := resolve(n.Content[i]), resolve(n.Content[i+1])
		if key.Kind != yaml.ScalarNode {
			p.addf(n.Content[i].Line, "a key is one word")
			continue
		}
		if line, twice := lines[key.Value]; twice {
			p.addf(n.Content[i].Line, "%q is there twice, first in line %d", key.Value, line)
			continue
		}
		lines[key.Value] = n.Content[i].Line
		each(key, value)
	}
}

func (p *parser) machines(n *yaml.Node) []Machine {
	if n.Kind != yaml.MappingNode || len(n.Content) == 0 {
		p.addf(n.Line, "instances is a mapping of names to outcomes, one at least")
		return nil
	}
	if count := len(n.Content) / 2; count > maxMachines {
		p.addf(n.Line, "%d instances; at most %d are possible", count, maxMachines)
		return nil
	}
	var machines []Machine
	p.pairs(n, func(key, value *yaml.Node) {
		if err := waybill.CheckInstanceName(key.Value); err != nil {
			p.addf(key.Line, "%q cannot be the name of an instance: %w", key.Value, err)
			return
		}
		machines = append(machines, p.machine(key.Value, value))
	})
	return machines
}

// machine reads an outcome, a step, or a sequence of both.
func (p *parser) machine(name string, n *yaml.Node) Machine {
	m := Machine{Name: name}
	before := len(p.errs)
	if n.Kind != yaml.SequenceNode {
		m.Steps = []Step{p.step(n, "an instance", fields{
			"flapping": func(n *yaml.Node) { m.Flapping = p.flapping(n) },
		})}
		if o := m.Steps[0].Outcome; m.Flapping != nil && !o.reported() && len(p.errs) == before {
			p.addf(n.Line, "%s: flapping is for outcomes that the machine itself reports, which %s is not", name, o)
		}
		return m
	}
	for i, item := range n.Content {
		s := Step{}
		p.collect(resolve(item), &s, i == len(n.Content)-1)
		m.Steps = append(m.Steps, s)
	}
	if len(m.Steps) == 0 {
		p.addf(n.Line, "%s has no outcome; name one at least", name)
	}
	if len(p.errs) > before {
		return m
	}
	for i, s := range m.Steps {
		line := resolve(n.Content[i]).Line
		switch {
		case s.alone() && len(m.Steps) > 1:
			p.addf(line, "%s: %s cannot be part of a sequence; it is for ever, and from the start", name, s.Outcome)
		case s.cause == waybill.CauseReleased && i < len(m.Steps)-1:
			p.addf(line, "%s: nothing can come after %s; a deregistered instance does not come back", name, s.Outcome)
		}
	}
	return m
}

// alone reports whether o is of the kind that a machine is from the start.
func (o Outcome) alone() bool {
	return o.cause == waybill.CauseUnknown || o.cause == waybill.CauseAccountGone
}

// collect reads a step of a sequence.
func (p *parser) collect(n *yaml.Node, s *Step, last bool) {
	counted := 0 // the line
	deliveries := 1
	*s = p.step(n, "a step", fields{
		"deliveries": func(n *yaml.Node) {
			counted = n.Line
			v, err := strconv.Atoi(n.Value)
			if n.Kind != yaml.ScalarNode || err != nil || v < 1 || v > maxDeliveries {
				p.addf(n.Line, "deliveries: %q is no number from 1 to %d", n.Value, maxDeliveries)
				return
			}
			deliveries = v
		},
	})
	switch {
	case !last:
		s.Deliveries = deliveries
	case counted > 0:
		p.addf(counted, "the last step is for all deliveries that follow; leave out deliveries, or add a step after it")
	}
}

// step reads an outcome, or a mapping with one. more are keys that it may have besides its own.
func (p *parser) step(n *yaml.Node, what string, more fields) Step {
	s := Step{}
	if n.Kind == yaml.ScalarNode {
		s.Outcome = p.outcome(n, n.Value, "", "")
		return s
	}
	name, status, info := string(waybill.Success), "", ""
	word := func(to *string, key string) func(*yaml.Node) {
		return func(n *yaml.Node) {
			if n.Kind != yaml.ScalarNode {
				p.addf(n.Line, "%s is one text", key)
				return
			}
			*to = n.Value
		}
	}
	waits := 0 // the line of one
	wait := func(to *time.Duration, key string) func(*yaml.Node) {
		return func(n *yaml.Node) {
			waits = n.Line
			*to = p.duration(n, key, 0, maxWait)
		}
	}
	all := fields{
		"outcome": word(&name, "outcome"), "status": word(&status, "status"), "info": word(&info, "info"),
		"delay": wait(&s.Delay, "delay"), "pending": wait(&s.Pending, "pending"),
	}
	for key, take := range more {
		all[key] = take
	}
	if n.Kind == yaml.MappingNode && len(n.Content) == 0 {
		p.addf(n.Line, "%s without an outcome; the outcomes are: %s", what, outcomeNames())
		return s
	}
	before := len(p.errs)
	p.mapping(n, what, all)
	if len(p.errs) > before {
		return s
	}
	s.Outcome = p.outcome(n, name, status, info)
	if waits > 0 && len(p.errs) == before && !s.reported() {
		p.addf(waits, "delay and pending are for outcomes that the machine itself reports, which %s is not", s.Outcome)
	}
	return s
}

// outcome finds the one outcome that is meant.
func (p *parser) outcome(n *yaml.Node, name, status, info string) Outcome {
	var named, meant []Outcome
	for _, o := range Outcomes() {
		if o.Name() != name {
			continue
		}
		named = append(named, o)
		if (status == "" || status == string(o.Status)) && (info == "" || info == o.Info) {
			meant = append(meant, o)
		}
	}
	switch {
	case len(named) == 0:
		p.addf(n.Line, "unknown outcome %q; the outcomes are: %s", name, outcomeNames())
	case len(meant) == 0:
		p.addf(n.Line, "%s has no such status or info; it is one of: %s", name, alternatives(named))
	case len(meant) > 1:
		p.addf(n.Line, "%s is more than one outcome; say which: %s", name, alternatives(meant))
	default:
		return meant[0]
	}
	return Outcome{}
}

func outcomeNames() string {
	var names []string
	for _, o := range Outcomes() {
		if !slices.Contains(names, o.Name()) {
			names = append(names, o.Name())
		}
	}
	return strings.Join(names, ", ")
}

// alternatives writes outcomes as a script would.
func alternatives(of []Outcome) string {
	texts := make([]string, len(of))
	for i, o := range of {
		switch {
		case o.Info == "":
			texts[i] = fmt.Sprintf("{outcome: %s}", o.Name())
		case slices.ContainsFunc(of, func(other Outcome) bool { return other.cause != o.cause && other.Info == o.Info }):
			texts[i] = fmt.Sprintf("{outcome: %s, status: %s}", o.Name(), o.Status)
		default:
			texts[i] = fmt.Sprintf("{outcome: %s, info: %s}", o.Name(), o.Info)
		}
	}
	return strings.Join(texts, ", ")
}

func (p *parser) flapping(n *yaml.Node) *Flapping {
	f := &Flapping{}
	before := len(p.errs)
	p.mapping(n, "flapping", fields{
		"up":   func(n *yaml.Node) { f.Up = p.duration(n, "up", leastUp, maxWait) },
		"down": func(n *yaml.Node) { f.Down = p.duration(n, "down", time.Millisecond, maxWait) },
	})
	if (f.Up == 0 || f.Down == 0) && len(p.errs) == before {
		p.addf(n.Line, "flapping needs both: {up: 5s, down: 5s}")
	}
	return f
}

// duration reads a duration with its unit.
func (p *parser) duration(n *yaml.Node, key string, least, most time.Duration) time.Duration {
	d, err := time.ParseDuration(n.Value)
	switch {
	case n.Kind != yaml.ScalarNode || err != nil:
		p.addf(n.Line, "%s: %q is no duration; write it like 500ms, 2s or 1m30s", key, n.Value)
	case d < least || d > most:
		p.addf(n.Line, "%s: %s is not possible; it is from %s to %s", key, d, least, most)
	default:
		return d
	}
	return 0
}
