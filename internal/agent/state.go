// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/nats-io/nkeys"

	"github.com/openwaybill/waybill/internal/lockfile"
)

// DefaultStateDir is where an agent keeps its identity and journal unless it is told otherwise.
const DefaultStateDir = "/var/lib/waybill-agent"

// The files of a state directory, each readable by its owner only. The journal is another.
const (
	registrationName = "agent.json" // registration
	keyName          = "agent.nk"   // the seed of the agent's key
	linkName         = "link.json"  // linkState, for people
	lockName         = "lock"       // held while an agent runs
)

// ErrNotEnrolled says that a state directory holds no registration.
var ErrNotEnrolled = errors.New("this machine is not enrolled; run: waybill-agent enroll")

// registration is what the agent knows of the server that it belongs to.
type registration struct {
	Instance string   `json:"instance"`
	Name     string   `json:"name"`
	Server   string   `json:"server"` // https://host:port
	NATS     []string `json:"nats"`   // tls://host:port
	CA       string   `json:"ca,omitempty"`
	JWT      string   `json:"jwt"`
}

func loadRegistration(dir string) (registration, error) {
	var r registration
	b, err := os.ReadFile(filepath.Join(dir, registrationName))
	if errors.Is(err, fs.ErrNotExist) {
		return r, ErrNotEnrolled
	}
	if err != nil {
		return r, fmt.Errorf("read registration: %w", err)
	}
	if err := json.Unmarshal(b, &r); err != nil || r.Instance == "" || r.Server == "" || len(r.NATS) == 0 {
		return r, fmt.Errorf("registration %s is damaged; run: waybill-agent enroll --force",
			filepath.Join(dir, registrationName))
	}
	return r, nil
}

func (r *registration) save(dir string) error {
	b, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	if err := writeFile(filepath.Join(dir, registrationName), append(b, '\n')); err != nil {
		return fmt.Errorf("save registration: %w", err)
	}
	return nil
}

// renewAt returns when the token should be replaced, in server time: after two thirds of its life.
func (r *registration) renewAt() (time.Time, error) {
	_, rest, _ := strings.Cut(r.JWT, ".")
	claims, _, _ := strings.Cut(rest, ".")
	b, err := base64.RawURLEncoding.DecodeString(claims)
	if err != nil {
		return time.Time{}, fmt.Errorf("read token: %w", err)
	}
	var life struct {
		Issued  int64 `json:"iat"`
		Expires int64 `json:"exp"`
	}
	if err := json.Unmarshal(b, &life); err != nil {
		return time.Time{}, fmt.Errorf("read token: %w", err)
	}
	if life.Expires == 0 {
		return time.Time{}, errors.New("read token: it never expires")
	}
	return time.Unix(life.Issued+(life.Expires-life.Issued)*2/3, 0), nil
}

func loadKey(dir string) (nkeys.KeyPair, error) {
	seed, err := os.ReadFile(filepath.Join(dir, keyName))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, ErrNotEnrolled
	}
	if err != nil {
		return nil, fmt.Errorf("read key: %w", err)
	}
	key, err := nkeys.FromSeed([]byte(strings.TrimSpace(string(seed))))
	if err != nil {
		return nil, fmt.Errorf("key %s is damaged; run: waybill-agent enroll --force", filepath.Join(dir, keyName))
	}
	return key, nil
}

// linkState tells people how the link is. No decision depends on it.
type linkState struct {
	Connected bool      `json:"connected"`
	Since     time.Time `json:"since"` // by the machine's own clock
	Problem   string    `json:"problem,omitempty"`
}

// save replaces the state that was there. It is not synced: it says nothing once the agent has ended.
func (s linkState) save(dir string) error {
	b, err := json.Marshal(s)
	if err != nil {
		return err
	}
	path := filepath.Join(dir, linkName)
	if err := os.WriteFile(path+".new", append(b, '\n'), 0o600); err != nil {
		return err
	}
	return os.Rename(path+".new", path)
}

// Status is what the files of a state directory tell.
type Status struct {
	Instance string
	Name     string
	Server   string
	Running  bool // an agent is running with this directory
	// Connected, Since and Problem are what a running agent last said of its link to the server.
	Connected bool
	Since     time.Time
	Problem   string
}

// ReadStatus reads the state directory dir. It contacts nobody. The error is ErrNotEnrolled where there is nothing.
func ReadStatus(dir string) (Status, error) {
	r, err := loadRegistration(dir)
	if err != nil {
		return Status{}, err
	}
	s := Status{Instance: r.Instance, Name: r.Name, Server: r.Server}
	if s.Running, err = lockfile.Held(filepath.Join(dir, lockName)); err != nil || !s.Running {
		return s, err
	}
	b, err := os.ReadFile(filepath.Join(dir, linkName))
	if errors.Is(err, fs.ErrNotExist) {
		return s, nil
	}
	if err != nil {
		return s, fmt.Errorf("read status: %w", err)
	}
	var l linkState
	if err := json.Unmarshal(b, &l); err != nil {
		return s, fmt.Errorf("read status: %w", err)
	}
	s.Connected, s.Since, s.Problem = l.Connected, l.Since, l.Problem
	return s, nil
}

// lockPatience is how long a starting agent waits for another to let go of the state directory: a look at its status
// holds the lock for a moment.
const lockPatience = time.Second

// lockState takes the state directory dir for one agent alone, with try.
func lockState(ctx context.Context, dir string, try func(string) (func(), error)) (unlock func(), err error) {
	path := filepath.Join(dir, lockName)
	for end := time.Now().Add(lockPatience); ; {
		unlock, err := try(path)
		if !errors.Is(err, lockfile.ErrLocked) {
			return unlock, err
		}
		if time.Now().After(end) {
			return nil, fmt.Errorf("another agent is running with %s; stop it, or use another --state-dir", dir)
		}
		if err := pause(ctx, lockPatience/20); err != nil {
			return nil, err
		}
	}
}
