// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/nats-io/nkeys"

	"github.com/openwaybill/waybill/internal/lockfile"
	"github.com/openwaybill/waybill/internal/wire"
)

// EnrollOptions says how a machine becomes an instance. StateDir, Server and the activation are required.
type EnrollOptions struct {
	StateDir string // made with mode 0700
	Server   string // https://host:port
	CA       string // PEM; what vouches for the server's certificate; empty: the system's roots

	ActivationID   string
	ActivationCode string

	Name    string            // of the instance; empty: the server chooses
	Tags    map[string]string // of the instance
	Version string            // of this program

	// Force forgets the identity that is in StateDir, with all that was still to be reported under it.
	Force bool
}

// ErrEnrolled says that a state directory holds an identity already.
var ErrEnrolled = errors.New("this machine is enrolled already; to give it a new identity, add --force")

// Enroll makes this machine an instance and writes its identity to o.StateDir. The key is stored before the server is
// asked, so that after a lost answer the same call leads to the same instance. A refusal by the server is a *Refusal.
// No agent may be running with that directory.
func Enroll(ctx context.Context, o EnrollOptions) (Status, error) {
	return enroll(ctx, o, newDialer(o.CA))
}

func enroll(ctx context.Context, o EnrollOptions, d *dialer) (Status, error) {
	if err := os.MkdirAll(o.StateDir, 0o700); err != nil {
		return Status{}, fmt.Errorf("make state directory: %w", err)
	}
	if err := os.Chmod(o.StateDir, 0o700); err != nil {
		return Status{}, fmt.Errorf("protect state directory: %w", err)
	}
	unlock, err := lockState(ctx, o.StateDir, lockfile.TryLock)
	if err != nil {
		return Status{}, err
	}
	defer unlock()
	if o.Force {
		if err := forget(o.StateDir); err != nil {
			return Status{}, err
		}
	}
	if _, err := os.Stat(filepath.Join(o.StateDir, registrationName)); err == nil {
		return Status{}, ErrEnrolled
	}
	key, err := ensureKey(o.StateDir)
	if err != nil {
		return Status{}, err
	}
	public, err := key.PublicKey()
	if err != nil {
		return Status{}, err
	}
	calls, err := newCaller(o.Server, o.CA, key, d)
	if err != nil {
		return Status{}, err
	}
	f := gatherFacts()
	var reply wire.EnrollReply
	err = calls.call(ctx, wire.PathEnroll, time.Now(), &wire.EnrollRequest{
		ActivationID: o.ActivationID, ActivationCode: o.ActivationCode, PublicKey: public,
		Name: o.Name, Tags: o.Tags,
		Hostname: f.Hostname, MachineID: f.MachineID, IntranetIP: f.IntranetIP, OSType: f.OSType, OSVersion: f.OSVersion,
		AgentVersion: o.Version, Capability: wire.Capability,
	}, &reply)
	if err != nil {
		return Status{}, fmt.Errorf("enroll at %s: %w", o.Server, err)
	}
	if reply.InstanceID == "" || reply.JWT == "" || len(reply.NATS) == 0 {
		return Status{}, fmt.Errorf("enroll at %s: the answer is not complete", o.Server)
	}
	reg := registration{
		Instance: reply.InstanceID, Name: reply.Name, Server: calls.server, NATS: reply.NATS,
		// HTTPS and NATS may have different issuers, when a proxy of the operator's stands before the server.
		CA:  bothCAs(o.CA, reply.CA),
		JWT: reply.JWT,
	}
	if err := reg.save(o.StateDir); err != nil {
		return Status{}, err
	}
	return Status{Instance: reg.Instance, Name: reg.Name, Server: reg.Server}, nil
}

func bothCAs(a, b string) string {
	if a == "" || a == b {
		return b
	}
	if b == "" {
		return a
	}
	return a + "\n" + b
}

// ensureKey returns the key in dir, made now if there is none.
func ensureKey(dir string) (nkeys.KeyPair, error) {
	key, err := loadKey(dir)
	if !errors.Is(err, ErrNotEnrolled) {
		return key, err
	}
	key, err = nkeys.CreateUser()
	if err != nil {
		return nil, fmt.Errorf("make key: %w", err)
	}
	seed, err := key.Seed()
	if err != nil {
		return nil, fmt.Errorf("make key: %w", err)
	}
	if err := writeFile(filepath.Join(dir, keyName), append(seed, '\n')); err != nil {
		return nil, fmt.Errorf("store key: %w", err)
	}
	return key, nil
}

// forget removes an identity, the registration first: without it, nothing else of the identity is used.
func forget(dir string) error {
	for _, name := range []string{registrationName, journalName, journalName + damagedSuffix, linkName, keyName} {
		if err := os.Remove(filepath.Join(dir, name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("forget identity: %w", err)
		}
	}
	return nil
}

// Leave deregisters this machine at the server and forgets its identity. An agent that is running with stateDir ends by
// itself, because the server cuts it off. The error is ErrNotEnrolled where there is nothing to leave.
func Leave(ctx context.Context, stateDir string) (Status, error) {
	reg, err := loadRegistration(stateDir)
	if err != nil {
		return Status{}, err
	}
	key, err := loadKey(stateDir)
	if err != nil {
		return Status{}, err
	}
	calls, err := newCaller(reg.Server, reg.CA, key, newDialer(reg.CA))
	if err != nil {
		return Status{}, err
	}
	err = calls.call(ctx, wire.PathLeave, time.Now(), struct{}{}, &struct{}{})
	if err != nil && !errors.Is(err, ErrDeregistered) {
		return Status{}, fmt.Errorf("leave %s: %w", reg.Server, err)
	}
	return Status{Instance: reg.Instance, Name: reg.Name, Server: reg.Server}, forget(stateDir)
}
