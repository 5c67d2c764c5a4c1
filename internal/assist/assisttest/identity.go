// SPDX-License-Identifier: Apache-2.0

package assisttest

import (
	"cmp"
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"net/http"
	"os"
	"time"
)

// Version is the version that agents have unless they are told another.
const Version = "2.2.3.578"

// Identity is what a registered agent keeps.
type Identity struct {
	InstanceID string
	MachineID  string
	Key        *rsa.PrivateKey
}

// storedIdentity is an Identity in a file.
type storedIdentity struct {
	InstanceID string `json:"instance_id"`
	MachineID  string `json:"machine_id"`
	Key        string `json:"key"` // PKCS #1, PEM
}

// Save writes id to a file that nobody else can read.
func (id *Identity) Save(path string) error {
	key := pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(id.Key)})
	b, err := json.Marshal(storedIdentity{id.InstanceID, id.MachineID, string(key)})
	if err != nil {
		return fmt.Errorf("encode identity: %w", err)
	}
	return os.WriteFile(path, b, 0o600)
}

// LoadIdentity reads what Save wrote.
func LoadIdentity(path string) (*Identity, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	var s storedIdentity
	if err := json.Unmarshal(b, &s); err != nil {
		return nil, fmt.Errorf("decode %s: %w", path, err)
	}
	block, _ := pem.Decode([]byte(s.Key))
	if block == nil {
		return nil, fmt.Errorf("decode %s: no key", path)
	}
	key, err := x509.ParsePKCS1PrivateKey(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("decode %s: %w", path, err)
	}
	return &Identity{InstanceID: s.InstanceID, MachineID: s.MachineID, Key: key}, nil
}

// Tag is a tag that is given at registration.
type Tag struct {
	Key   string `json:"key"`
	Value string `json:"value"`
}

// Facts are what an agent tells about its machine. Empty ones have values of a usual Linux machine.
type Facts struct {
	Hostname        string // default "localhost"
	IntranetIP      string // default "192.0.2.2"; the X-Client-IP of every request that is signed
	OSType          string // default "linux"
	OSVersion       string // default the description of a kernel
	Arch            string // default "amd64"
	PlatformName    string // default "debian"
	PlatformVersion string // default "12"
	Version         string // of the agent; default Version
}

func (f Facts) withDefaults() Facts {
	return Facts{
		Hostname:        cmp.Or(f.Hostname, "localhost"),
		IntranetIP:      cmp.Or(f.IntranetIP, "192.0.2.2"),
		OSType:          cmp.Or(f.OSType, "linux"),
		OSVersion:       cmp.Or(f.OSVersion, "Linux_#1 SMP PREEMPT_DYNAMIC Debian 6.1.0_x86_64"),
		Arch:            cmp.Or(f.Arch, "amd64"),
		PlatformName:    cmp.Or(f.PlatformName, "debian"),
		PlatformVersion: cmp.Or(f.PlatformVersion, "12"),
		Version:         cmp.Or(f.Version, Version),
	}
}

func (f Facts) userAgent() string { return f.OSType + "_" + f.Arch + "/" + f.Version }

// Registration is what `aliyun-service --register` is told and finds out.
type Registration struct {
	Network        *Network
	ActivationID   string
	ActivationCode string
	MachineID      string
	RegionID       string
	InstanceName   string
	Tags           []Tag
	Facts          Facts
	// Key is the agent's key. Nil: one is made, which takes long; a test of many agents lets them share one.
	Key *rsa.PrivateKey
}

// registrationBody is the body of a registration (§5.1).
type registrationBody struct {
	ActivationCode string `json:"activationCode"`
	MachineID      string `json:"machineId"`
	RegionID       string `json:"regionId"`
	InstanceName   string `json:"instanceName"`
	Hostname       string `json:"hostname"`
	IntranetIP     string `json:"intranetIp"`
	OSVersion      string `json:"osVersion"`
	OSType         string `json:"osType"`
	AgentVersion   string `json:"agentVersion"`
	PublicKey      string `json:"publicKey"` // base64 of the PEM text
	ActivationID   string `json:"activationId"`
	Tag            []Tag  `json:"tag"`
}

// Outcomes of a registration, or of its end, that leave the machine as it was.
var (
	// ErrRefused is the outcome of an answer that says no: a status above 400, another code than 200, or no JSON.
	ErrRefused = errors.New("refused")
	// ErrNotStored is the outcome of a JSON answer with a wrong type, such as the code "200" as text. The agent says
	// that it is registered, and is not.
	ErrNotStored = errors.New("register ok, but nothing stored")
)

// Register registers a machine, as §5.1 has it. It is tried once. The error is ErrRefused, ErrNotStored, or that of a
// call that was not answered.
func Register(ctx context.Context, r Registration) (*Identity, Answer, error) {
	if r.Key == nil {
		key, err := rsa.GenerateKey(rand.Reader, 2048)
		if err != nil {
			return nil, Answer{}, fmt.Errorf("make a key: %w", err)
		}
		r.Key = key
	}
	public, err := x509.MarshalPKIXPublicKey(&r.Key.PublicKey)
	if err != nil {
		return nil, Answer{}, fmt.Errorf("encode the key: %w", err)
	}
	f := r.Facts.withDefaults()
	b, err := json.Marshal(registrationBody{
		ActivationCode: r.ActivationCode, MachineID: r.MachineID, RegionID: r.RegionID, InstanceName: r.InstanceName,
		Hostname: f.Hostname, IntranetIP: f.IntranetIP, OSVersion: f.OSVersion, OSType: f.OSType, AgentVersion: f.Version,
		PublicKey:    base64.StdEncoding.EncodeToString(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: public})),
		ActivationID: r.ActivationID, Tag: append([]Tag{}, r.Tags...),
	})
	if err != nil {
		return nil, Answer{}, fmt.Errorf("encode registration: %w", err)
	}
	answer, err := r.Network.Do(ctx, Call{
		Method: http.MethodPost, Target: "/luban/api/instance/register", ContentType: contentJSON, Body: b,
		Header: http.Header{"User-Agent": {f.userAgent()}}, Limit: RealTimes().CallLimit,
	})
	if _, ok := errors.AsType[StatusError](err); ok {
		return nil, answer, fmt.Errorf("%w: %w", ErrRefused, err)
	}
	if err != nil {
		return nil, answer, err
	}
	if !json.Valid([]byte(answer.Body)) {
		return nil, answer, fmt.Errorf("%w: no JSON", ErrRefused)
	}
	var reply struct {
		Code       int    `json:"code"`
		InstanceID string `json:"instanceId"`
	}
	if err := json.Unmarshal([]byte(answer.Body), &reply); err != nil {
		return nil, answer, fmt.Errorf("%w: %w", ErrNotStored, err)
	}
	if reply.Code != http.StatusOK {
		return nil, answer, fmt.Errorf("%w: %s", ErrRefused, answer.Body)
	}
	return &Identity{InstanceID: reply.InstanceID, MachineID: r.MachineID, Key: r.Key}, answer, nil
}

// Deregister is `aliyun-service --deregister` (§5.2). It reports whether the machine has dropped its identity, which
// it does whenever the answer is not a JSON object with another code than 200: also if there is no answer at all. A
// process that runs goes on; see Agent.Forget.
func Deregister(ctx context.Context, n *Network, id *Identity, f Facts) (dropped bool, a Answer, err error) {
	f = f.withDefaults()
	h, err := id.Stamp(time.Now()).Header()
	if err != nil {
		return false, Answer{}, err
	}
	h.Set("User-Agent", f.userAgent())
	h.Set("X-Client-IP", f.IntranetIP)
	a, err = n.Do(ctx, Call{
		Method: http.MethodPost, Target: deregisterPath, ContentType: contentJSON, Header: h, Limit: RealTimes().CallLimit,
	})
	return drops(a), a, err
}

const deregisterPath = "/luban/api/instance/deregister"

// drops reports whether the answer to a deregistration makes the agent drop its identity.
func drops(a Answer) bool {
	var reply struct {
		Code int `json:"code"`
	}
	return json.Unmarshal([]byte(a.Body), &reply) != nil || reply.Code == http.StatusOK
}
