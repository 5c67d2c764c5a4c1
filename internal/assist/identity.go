// SPDX-License-Identifier: Apache-2.0

package assist

import (
	"context"
	"crypto"
	"crypto/md5" // prescribed by the agent
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/openwaybill/waybill"
	"github.com/openwaybill/waybill/internal/identity"
	"github.com/openwaybill/waybill/internal/wire"
)

// Headers by which a registered agent shows who it is. They are on every call and on the upgrade.
const (
	headerInstance  = "x-acs-instance-id"
	headerTimestamp = "x-acs-timestamp"
	headerRequest   = "x-acs-request-id"
	headerSignature = "x-acs-signature"
)

// maxHeader bounds each of them in bytes; the longest is the signature, 344.
const maxHeader = 1024

// identify returns the registered instance that r comes from. What is wrong with r itself is a refusal with 401 or 403;
// any other error is one of ours.
//
// The signature covers neither method nor path nor body. So an ID of a request that comes again with another target is
// refused: that is the replay that matters. The same request may come again, as libraries and proxies repeat it on a
// connection that has gone stale; every call here may be made twice.
func (s *Server) identify(r *http.Request) (waybill.Instance, error) {
	i, err := s.signer(r)
	if err != nil {
		return i, err
	}
	if i.State != waybill.Registered {
		return i, refusal{http.StatusForbidden, "instance_deregistered"}
	}
	return i, nil
}

// signer is identify for an instance in any state.
//
// An agent with a provider file sends fixed headers in place of its signature. Then a token says who it is, which is the
// same on every request: nothing keeps whoever has it from using it again.
func (s *Server) signer(r *http.Request) (waybill.Instance, error) {
	if scheme, token, ok := strings.Cut(r.Header.Get("Authorization"), " "); ok && strings.EqualFold(scheme, "Bearer") {
		return s.bearer(r.Context(), token)
	}
	id, stamp, request := r.Header.Get(headerInstance), r.Header.Get(headerTimestamp), r.Header.Get(headerRequest)
	signature := r.Header.Get(headerSignature)
	for _, h := range []string{id, stamp, request, signature} {
		if h == "" || len(h) > maxHeader {
			return waybill.Instance{}, unauthorized("the request is not signed; register this machine")
		}
	}
	ms, err := strconv.ParseInt(stamp, 10, 64)
	if err != nil {
		return waybill.Instance{}, unauthorized("the timestamp is not a number of milliseconds")
	}
	now := s.service.Now()
	if off := now.Sub(time.UnixMilli(ms)); off.Abs() > s.cfg.Window {
		return waybill.Instance{}, unauthorized(fmt.Sprintf("the clock of this machine is off by %s; set it", off.Round(time.Second)))
	}
	i, err := s.lookUp(r.Context(), waybill.InstanceID(id))
	if err != nil {
		return i, err
	}
	if err := verify(i.AgentKey, id, i.Facts.MachineID, stamp, request, signature); err != nil {
		return i, unauthorized("the signature does not match")
	}
	return i, s.refuseReplay(r, &i, request, time.UnixMilli(ms).Add(2*s.cfg.Window))
}

// bearer returns the instance that has that token, in any state.
func (s *Server) bearer(ctx context.Context, token string) (waybill.Instance, error) {
	id, ok := identity.InstanceOfToken(token)
	if !ok || len(token) > maxHeader {
		return waybill.Instance{}, unauthorized("the token of the provider file is not one of an instance")
	}
	i, err := s.lookUp(ctx, waybill.InstanceID(id))
	if err == nil && (i.AgentToken == nil || !identity.VerifyCode(token, i.AgentToken)) {
		err = unauthorized("the token of the provider file is not that of the instance; make another with: waybill instances create-token")
	}
	return i, err
}

// lookUp returns an instance with an official agent, in any state.
func (s *Server) lookUp(ctx context.Context, id waybill.InstanceID) (waybill.Instance, error) {
	i, err := s.service.AnyInstance(ctx, id)
	switch {
	case waybill.CodeOf(err) == waybill.InstanceNotFound:
		return i, unauthorized("no such instance; register this machine again")
	case err != nil:
		return i, fmt.Errorf("look up instance: %w", err)
	case i.Agent != waybill.OfficialAgent:
		return i, unauthorized("the instance has another kind of agent")
	}
	return i, nil
}

// verify checks a signature: PKCS #1 v1.5 over the MD5 of instance, machine, timestamp and request ID in a row.
func verify(publicKey []byte, instance, machine, timestamp, request, signature string) error {
	key, err := x509.ParsePKIXPublicKey(publicKey)
	if err != nil {
		return err
	}
	rsaKey, ok := key.(*rsa.PublicKey)
	if !ok {
		return errors.New("not an RSA key")
	}
	raw, err := base64.StdEncoding.DecodeString(signature)
	if err != nil {
		return err
	}
	digest := md5.Sum([]byte(instance + machine + timestamp + request))
	return rsa.VerifyPKCS1v15(rsaKey, crypto.MD5, digest[:], raw)
}

// maxTarget bounds what the other servers are told of a call, in bytes. No agent asks for so much in one.
const maxTarget = 4 << 10

// refuseReplay lets a request ID be used for one target only. The other servers are told of it: the agent may repeat there
// what this one cannot answer any more.
func (s *Server) refuseReplay(r *http.Request, i *waybill.Instance, request string, until time.Time) error {
	id, target := string(i.ID)+" "+request, r.Method+" "+r.URL.Path+"?"+r.URL.RawQuery
	fresh, err := s.used.first(id, target, func() (bool, error) {
		fresh, err := s.service.UseAgentNonce(r.Context(), i.PublicKey, request, until)
		if err == nil && fresh && len(target) <= maxTarget {
			s.note(i.ID, wire.Note{Request: request, Target: target})
		}
		return fresh, err
	})
	if err == nil && !fresh {
		err = refusal{http.StatusForbidden, "the request ID was used before"}
	}
	return err
}

// requests knows what the latest request IDs were used for. That they were used is durable; what for is remembered here,
// and not for long: whoever repeats a request does it at once. The zero value is ready.
type requests struct {
	mu          sync.Mutex
	young, aged map[string]*request
}

// request is a use of a request ID.
type request struct {
	target string
	ask    sync.Once
	fresh  bool
	err    error
}

// first reports whether an ID is used for the first time, or again for the same target. ask says whether the ID is new to
// all servers; of several uses at once, only one asks.
func (u *requests) first(id, target string, ask func() (bool, error)) (bool, error) {
	u.mu.Lock()
	r := u.young[id]
	if r == nil {
		r = u.aged[id]
	}
	if r == nil {
		if u.young == nil {
			u.young = make(map[string]*request)
		}
		r = &request{target: target}
		u.young[id] = r
	}
	u.mu.Unlock()
	if r.target != target {
		return false, nil
	}
	r.ask.Do(func() {
		if r.fresh, r.err = ask(); r.err != nil { // it may be asked again
			u.mu.Lock()
			delete(u.young, id)
			delete(u.aged, id)
			u.mu.Unlock()
		}
	})
	return r.fresh, r.err
}

// learn notes what another server says that an ID was used for.
func (u *requests) learn(id, target string) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.young[id] != nil || u.aged[id] != nil {
		return
	}
	if u.young == nil {
		u.young = make(map[string]*request)
	}
	r := &request{target: target, fresh: true}
	r.ask.Do(func() {}) // nobody is to be asked any more
	u.young[id] = r
}

// age forgets what was not used since it was called last.
func (u *requests) age() {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.aged, u.young = u.young, nil
}

// parseKey reads the public key of a registration: Base64 of the PEM text of a PKIX key. It returns the key in DER form
// and the name by which the identity that it makes with the machine is known.
func parseKey(text, machine string) (der []byte, name string, err error) {
	b, err := base64.StdEncoding.DecodeString(text)
	if err != nil {
		return nil, "", errors.New("publicKey is not Base64")
	}
	block, rest := pem.Decode(b)
	if block == nil || len(strings.TrimSpace(string(rest))) > 0 {
		return nil, "", errors.New("publicKey is not the PEM text of one key")
	}
	key, err := x509.ParsePKIXPublicKey(block.Bytes)
	if err != nil {
		return nil, "", errors.New("publicKey is not a PKIX key")
	}
	rsaKey, ok := key.(*rsa.PublicKey)
	if !ok || rsaKey.N.BitLen() < minKeyBits || rsaKey.N.BitLen() > maxKeyBits {
		return nil, "", fmt.Errorf("publicKey is not an RSA key of %d to %d bits", minKeyBits, maxKeyBits)
	}
	digest := sha256.Sum256(append(block.Bytes[:len(block.Bytes):len(block.Bytes)], machine...))
	return block.Bytes, "rsa:" + hex.EncodeToString(digest[:]), nil
}

// Bounds of an agent's key. The agent makes one of 2048 bits.
const (
	minKeyBits = 2048
	maxKeyBits = 8192
)

// program is what a User-Agent tells: linux_amd64/2.2.3.578.
type program struct {
	os, version string
}

func programOf(r *http.Request) program {
	platform, version, _ := strings.Cut(r.UserAgent(), "/")
	system, _, _ := strings.Cut(platform, "_")
	if !isWord(system) || !isWord(version) {
		return program{}
	}
	return program{system, version}
}

// isWord reports whether s can be shown and stored as it is: it is not signed, so anything may stand there.
func isWord(s string) bool {
	return s != "" && len(s) <= 64 && !strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' || r > '~' })
}

// leastBuild is the last component of the oldest version that can be used: earlier ones forgot to sign when the server
// was named by an environment variable.
const leastBuild = 578

// unstamped is the version of an agent that somebody built without giving it one.
const unstamped = "1.0.0.1"

// capability says whether a version is new enough, in the words of our own agents.
func capability(version string) int {
	last := version[strings.LastIndexByte(version, '.')+1:]
	if build, err := strconv.Atoi(last); version != unstamped && (err != nil || build < leastBuild) {
		return wire.MinCapability - 1
	}
	return wire.MinCapability // it fetches no contents beside its tasks
}

// facts returns what is known of a machine, with what the call tells.
func facts(i *waybill.Instance, r *http.Request) waybill.Facts {
	f := i.Facts
	p := programOf(r)
	if p.version != "" {
		f.AgentVersion, f.OSType = p.version, p.os
	}
	f.Capability = capability(f.AgentVersion)
	return f
}

func remoteAddr(r *http.Request) netip.Addr {
	addr, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		return netip.Addr{} // a listener without addresses
	}
	return addr.Addr().Unmap()
}
