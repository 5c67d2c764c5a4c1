// SPDX-License-Identifier: Apache-2.0

package sim

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/openwaybill/waybill"
	"github.com/openwaybill/waybill/internal/client"
)

// Invariant is one of those of the design (docs/testing.md), with what it was tried on.
type Invariant struct {
	Name   string
	Cases  int64
	Broken []string // what broke it, at most maxBroken of it
	More   int64    // what else did
}

const maxBroken = 20

// Report is what a run saw.
type Report struct {
	Seed       uint64
	Plan       string
	Took       time.Duration
	Targets    map[string]int64 // how they ended: status, and error code
	Counts     map[string]int64 // what happened to the fleet
	Invariants []Invariant
}

// Held reports whether no invariant was broken, and each was tried.
func (r *Report) Held() bool {
	return !slices.ContainsFunc(r.Invariants, func(i Invariant) bool { return len(i.Broken) > 0 || i.Cases == 0 })
}

// WriteTo writes the report for people.
func (r *Report) WriteTo(w io.Writer) (int64, error) {
	var b strings.Builder
	fmt.Fprintf(&b, "seed %d: %s; took %s\n\nwhat happened\n", r.Seed, r.Plan, r.Took.Round(time.Second))
	for _, what := range slices.Sorted(maps.Keys(r.Counts)) {
		fmt.Fprintf(&b, "%9d  %s\n", r.Counts[what], what)
	}
	b.WriteString("\nhow targets ended\n")
	for _, how := range slices.Sorted(maps.Keys(r.Targets)) {
		fmt.Fprintf(&b, "%9d  %s\n", r.Targets[how], how)
	}
	b.WriteString("\ninvariants\n")
	for n, i := range r.Invariants {
		verdict := "held"
		switch broken := int64(len(i.Broken)) + i.More; {
		case broken > 0:
			verdict = fmt.Sprintf("BROKEN %d times", broken)
		case i.Cases == 0:
			verdict = "NOT TRIED"
		}
		fmt.Fprintf(&b, "%d  %-62s %9d cases  %s\n", n+1, i.Name, i.Cases, verdict)
		for _, why := range i.Broken {
			fmt.Fprintf(&b, "     %s\n", why)
		}
	}
	n, err := io.WriteString(w, b.String())
	return int64(n), err
}

// The invariants.
const (
	invSurvives = iota
	invFinal
	invWhole
	invSuccess
	invTrue
	invOnce
	invOwn
	invariants
)

var names = [invariants]string{
	invSurvives: "an answered SendFile is there, with all its targets",
	invFinal:    "a target gets one final status, in time, corrected once at most",
	invWhole:    "a file is whole with its owner and mode, or absent, or the one before",
	invSuccess:  "Success: the bytes are there; a failure told by a machine: nothing is",
	invTrue:     "an ending has a cause that the storm can have brought about",
	invOnce:     "a delivery is carried out once, whatever is doubled or late",
	invOwn:      "no machine has, and no account sees, what is another's",
}

// findings collects what is found. Its methods may be called by several goroutines.
type findings struct {
	mu  sync.Mutex
	all [invariants]Invariant
}

func (f *findings) try(inv int, n int64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.all[inv].Cases += n
}

func (f *findings) broken(inv int, format string, args ...any) {
	f.mu.Lock()
	defer f.mu.Unlock()
	i := &f.all[inv]
	if len(i.Broken) == maxBroken {
		i.More++
		return
	}
	if why := fmt.Sprintf(format, args...); !slices.Contains(i.Broken, why) {
		i.Broken = append(i.Broken, why)
	}
}

// survives judges what the API lists for the ID of a delivery.
func (f *findings) survives(s *sent, found []client.Delivery) {
	switch {
	case len(found) != 1:
		f.broken(invSurvives, "%s (%s) was answered, and %d deliveries have its ID", s.id, s.name, len(found))
	case len(found[0].Targets.Items) != len(s.targets) || found[0].Name != s.name:
		f.broken(invSurvives, "%s (%s) has %d targets, of %d that were asked for, and the name %q",
			s.id, s.name, len(found[0].Targets.Items), len(s.targets), found[0].Name)
	}
}

// inferred are the endings that the server infers from silence; a machine's own account may correct them (decision 2).
var inferred = []string{"DeliveryTimeout", "ClientNotResponse", "ClientNotRunning", "InstanceNotRunning", "ClientIsUpgrading"}

// cancelled is the code of a target that was given up at a request to stop: its file is not there (decision 16).
const cancelled = "DeliveryCancelled"

// moves judges what a target has become since it was looked at last. The caller looks at each from one goroutine.
func (f *findings) moves(s *sent, t *client.Target) {
	was, known := s.seen[t.Instance]
	now := seen{t.Status, t.ErrorCode, t.Finished, was.corrected}
	switch {
	case !known || was == now:
	case was.status == waybill.Pending, was.status == waybill.Running && t.Status != waybill.Pending:
	case was.status == waybill.Running:
		f.broken(invFinal, "%s on %s went from Running to %s", s.id, t.Instance, t.Status)
	case !was.corrected && slices.Contains(inferred, was.code) && t.Status.Final() && !slices.Contains(inferred, now.code):
		now.corrected = true
	default:
		f.broken(invFinal, "%s on %s went from %s %s to %s %s", s.id, t.Instance, was.status, was.code, t.Status, t.ErrorCode)
	}
	s.seen[t.Instance] = now
}

func (f *findings) late(s *sent, t *client.Target, by time.Duration) {
	f.broken(invFinal, "%s on %s is %s still, %s too late", s.id, t.Instance, t.Status, by.Round(time.Second))
}

// expected returns the codes with which a target may end without Success.
func (p *plan) expected(d *delivery, machine int) []string {
	codes := append([]string{"FileCreateFail"}, inferred...) // a full disk, or its agent died on it again and again
	switch d.kind {
	case ownerless:
		codes = append(codes, "FileAuthorityInvalid")
	case astray:
		codes = append(codes, "FilePathInvalid")
	case sound:
	}
	if p.leaving[machine] {
		codes = append(codes, "InstanceReleased")
	}
	if d.stops {
		codes = append(codes, cancelled)
	}
	return codes
}

// look looks at everything once more, at rest: through the API, and on disk.
func (r *run) look(ctx context.Context) error {
	index := map[waybill.DeliveryID]*sent{}
	r.rehearsals = map[string]bool{}
	for _, s := range r.sent {
		index[s.id] = s
		r.rehearsals[string(s.id)] = s.dryRun
	}
	r.found.try(invSurvives, int64(len(r.sent)))
	ended := map[string]int64{}
	ends := map[*sent]map[int]client.Target{}
	numbers := map[waybill.InstanceID]int{}
	for _, m := range r.fleet {
		numbers[waybill.InstanceID(m.Instance)] = m.Number
	}
	for a, c := range r.clients {
		for d, err := range c.Deliveries(ctx, client.DeliveryFilter{}) {
			if err != nil {
				return err
			}
			if strings.HasPrefix(d.Name, measured) {
				continue
			}
			s := index[d.ID]
			if s == nil || s.account != account(a) {
				r.found.broken(invOwn, "account %d sees %s (%s), which it did not send, or sent twice", a, d.ID, d.Name)
				continue
			}
			delete(index, d.ID)
			r.found.survives(s, []client.Delivery{d})
			ends[s] = map[int]client.Target{}
			gaveUp := 0
			for _, t := range d.Targets.Items {
				r.judge(s, numbers[t.Instance], &t)
				if t.ErrorCode == cancelled {
					gaveUp++
				}
				ends[s][numbers[t.Instance]] = t
				ended[strings.TrimSpace(string(t.Status)+" "+t.ErrorCode)]++
			}
			if gaveUp < s.cancelled {
				r.found.broken(invFinal, "%s was cancelled on %d machines when it was stopped, and is so on %d at the end", s.id, s.cancelled, gaveUp)
			}
		}
		for i, err := range c.Instances(ctx, client.InstanceFilter{}) {
			if err != nil {
				return err
			}
			r.found.try(invOwn, 1)
			if n, ok := numbers[i.ID]; !ok || r.plan.machines[n] != account(a) {
				r.found.broken(invOwn, "account %d sees machine %s, which it did not enrol", a, i.ID)
			}
		}
	}
	for id, s := range index {
		r.found.broken(invSurvives, "%s (%s) was answered and is not listed", id, s.name)
	}
	r.ended = ended
	return r.lookAtDisks(ctx, ends)
}

// judge judges how a target ended.
func (r *run) judge(s *sent, machine int, t *client.Target) {
	r.found.try(invFinal, 1)
	r.found.moves(s, t)
	if !t.Status.Final() {
		r.found.broken(invFinal, "%s on %s is %s at the end", s.id, t.Instance, t.Status)
	}
	r.found.try(invTrue, 1)
	if t.Status == waybill.Success && s.kind != sound || t.Status != waybill.Success && !slices.Contains(r.plan.expected(s.delivery, machine), t.ErrorCode) {
		if t.ErrorCode == "FileAlreadyExists" {
			r.found.broken(invOnce, "%s on %s was carried out before: %s", s.id, t.Instance, t.Detail)
		} else {
			r.found.broken(invTrue, "%s on %s ended as %s %s: %s", s.id, t.Instance, t.Status, t.ErrorCode, t.Detail)
		}
	}
	if s.kind == sound {
		r.found.try(invOnce, 1) // a repetition would find the file there: each has a content of its own
	}
	if t.Change == waybill.Unchanged || t.Change == waybill.WouldKeep {
		r.found.broken(invOnce, "%s on %s was carried out before: it found its own file", s.id, t.Instance)
	}
	if t.Status == waybill.Success && t.Change.Foretold() != s.dryRun {
		r.found.broken(invTrue, "%s on %s, a rehearsal: %t, answered %q", s.id, t.Instance, s.dryRun, t.Change)
	}
}

// lookAtDisks compares what is on each machine with how its deliveries ended.
func (r *run) lookAtDisks(ctx context.Context, ends map[*sent]map[int]client.Target) error {
	spots := map[int][]spot{} // of each machine
	for at := range r.went {
		spots[at.machine] = append(spots[at.machine], at)
	}
	for _, m := range r.fleet {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		roots := []string{m.Root}
		for _, c := range r.clones {
			if c.Instance == m.Instance {
				roots = append(roots, c.Root)
			}
		}
		there := map[string][]*sent{} // by path: whose content is there
		if err := r.countPublished(m); err != nil {
			return err
		}
		for _, root := range roots {
			if err := r.walk(m, root, true, func(p string, s *sent) { there[p] = append(there[p], s) }); err != nil {
				return err
			}
		}
		for _, at := range spots[m.Number] {
			r.compare(m, at.path, len(roots), r.went[at], there[at.path], ends)
		}
	}
	return nil
}

// countPublished looks whether a delivery was published on a machine twice.
func (r *run) countPublished(m *machine) error {
	b, err := os.ReadFile(m.published())
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	times := map[string]int{}
	for id := range strings.FieldsSeq(string(b)) {
		if r.rehearsals[id] {
			r.found.broken(invTrue, "%s was a rehearsal, and was published on %s", id, m.Instance)
		}
		if times[id]++; times[id] == 2 {
			r.found.broken(invOnce, "%s was published on %s more than once", id, m.Instance)
		}
	}
	r.found.try(invOnce, int64(len(times)))
	return err
}

// compare compares what is at a path of a machine and its clones, roots in all, with how the deliveries that went there
// ended. Until clones are found out, each carries out what the instance is sent: one of them told how it ended, and only
// its own disk has to agree.
func (r *run) compare(m *machine, p string, roots int, went, there []*sent, ends map[*sent]map[int]client.Target) {
	for _, s := range went {
		t, ok := ends[s][m.Number]
		if !ok {
			continue // broken already
		}
		r.found.try(invSuccess, 1)
		copies := 0
		for _, other := range there {
			if other == s {
				copies++
			}
		}
		placed := copies > 0
		switch {
		case s.shared && t.Status == waybill.Success && len(there) == 0:
			r.found.broken(invSuccess, "%s on %s is Success, and nothing is at %s", s.id, m.Instance, p)
		case s.shared: // another may have taken its place
		case t.Status == waybill.Success && !placed:
			r.found.broken(invSuccess, "%s on %s is Success, and its bytes are not at %s", s.id, m.Instance, p)
		case placed && slices.Contains(inferred, t.ErrorCode):
			r.happened("files published in the last moment, whose machines could not tell in time")
		case placed && t.ErrorCode == "InstanceReleased":
			r.happened("files published by machines that were deregistered meanwhile")
		case placed && copies < roots && t.Status != waybill.Success:
			r.happened("files published by one of two clones, of which the other failed")
		case placed && t.Status != waybill.Success:
			r.found.broken(invSuccess, "%s on %s is %s %s (%s), and its bytes are at %s", s.id, m.Instance, t.Status, t.ErrorCode, t.Detail, p)
		}
	}
}

// walk looks at every file of a machine. has is told whose it is. At rest there must be no temporary file.
func (r *run) walk(m *machine, root string, rest bool, has func(string, *sent)) error {
	return filepath.WalkDir(root, func(name string, e fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil // a temporary that has gone, or a directory
		}
		if err != nil || e.IsDir() {
			return err
		}
		p := strings.TrimPrefix(filepath.ToSlash(name), filepath.ToSlash(root))
		switch {
		case p == strayDir:
			return nil
		case strings.HasPrefix(path.Base(p), "."):
			if rest {
				r.found.broken(invWhole, "%s is left behind on %s", p, m.Instance)
			}
			return nil
		}
		r.found.try(invWhole, 1)
		s, why := r.whose(name, m.Number, p)
		switch {
		case s == nil && why == "":
		case s == nil && len(r.whatWent(m.Number, p)) == 0:
			r.found.broken(invOwn, "%s is on %s, to which nobody has sent it", p, m.Instance)
		case s == nil:
			r.found.broken(invWhole, "%s on %s %s", p, m.Instance, why)
		default:
			has(p, s)
		}
		return nil
	})
}

// whose returns the delivery whose file that is, at a path of a machine, or why it is nobody's; neither if it has gone
// meanwhile.
func (r *run) whose(name string, machine int, path string) (*sent, string) {
	f, err := os.Open(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, ""
	}
	if err != nil {
		return nil, "cannot be read: " + err.Error()
	}
	defer f.Close()
	b, err := io.ReadAll(f)
	if err != nil {
		return nil, "cannot be read: " + err.Error()
	}
	info, err := f.Stat()
	if err != nil {
		return nil, "cannot be looked at: " + err.Error()
	}
	sum := sha256.Sum256(b)
	for _, s := range r.whatWent(machine, path) { // once the file is read: what is sent now may be in it
		if s.sum != sum {
			continue
		}
		if got := fmt.Sprintf("%04o", info.Mode().Perm()); got != s.mode {
			return nil, fmt.Sprintf("has mode %s, not %s", got, s.mode)
		}
		if uid, gid := ownerOf(info); uid != s.uid || gid != s.gid {
			return nil, fmt.Sprintf("belongs to %d and group %d, not to %d and %d", uid, gid, s.uid, s.gid)
		}
		return s, ""
	}
	return nil, fmt.Sprintf("holds %d bytes that nobody sent there, beginning with %q", len(b), b[:min(len(b), 40)])
}

// readDisks reads the machines' files while the storm is on, one machine after the other, until ctx ends: nobody may ever
// see half a file, or one with another mode.
func (r *run) readDisks(ctx context.Context) error {
	for n := 0; pauseUntil(ctx, time.Now().Add(50*time.Millisecond)); n++ {
		m := r.fleet[n%len(r.fleet)]
		if err := r.walk(m, m.Root, false, func(string, *sent) {}); err != nil {
			return err
		}
	}
	return nil
}

// report puts together what was seen.
func (r *run) report() *Report {
	rep := &Report{Seed: r.cfg.Seed, Plan: r.plan.String(), Took: r.took, Targets: r.ended, Counts: r.counts}
	for n, i := range r.found.all {
		i.Name = names[n]
		rep.Invariants = append(rep.Invariants, i)
	}
	return rep
}
