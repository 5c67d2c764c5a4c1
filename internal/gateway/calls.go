// SPDX-License-Identifier: Apache-2.0

package gateway

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"maps"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/openwaybill/waybill"
	"github.com/openwaybill/waybill/internal/control"
	"github.com/openwaybill/waybill/internal/identity"
	"github.com/openwaybill/waybill/internal/telemetry"
	"github.com/openwaybill/waybill/internal/wire"
)

const (
	maxBody     = 64 << 10
	proofWindow = 15 * time.Minute // design §10
	maxWord     = 256              // bytes of any text that an agent says of its machine
)

// Codes of refusals that no use case knows.
const (
	codeMalformed waybill.Code = "malformed"
	codeTooMany   waybill.Code = "too-many-attempts"
)

// statuses is the only map from codes to what agents get by HTTP. Any other code of a use case means that it did not
// like a field of the request.
var statuses = map[waybill.Code]int{
	waybill.EnrolRefused:     http.StatusForbidden,
	waybill.ProofInvalid:     http.StatusUnauthorized,
	waybill.NotRegistered:    http.StatusGone,
	waybill.InstanceNotFound: http.StatusGone,
	waybill.Quarantined:      http.StatusConflict,
	waybill.DeliveryNotOpen:  http.StatusNotFound,
	waybill.ContentLost:      http.StatusInternalServerError,
	waybill.Unavailable:      http.StatusServiceUnavailable,
	waybill.Internal:         http.StatusInternalServerError,
	codeTooMany:              http.StatusTooManyRequests,
}

// call is one HTTPS call of an agent whose proof has been checked, though not yet whether it is a replay.
type call struct {
	from  netip.Addr
	host  string // by which the agent reached us, without port
	key   string // the agent's public key
	nonce string
	now   time.Time
	body  []byte

	activation string        // for the log, as soon as it is known
	retryAfter time.Duration // if it is refused for now
}

// Handler serves the agents' HTTPS calls, at wire.PathEnroll, PathRenew, PathLeave and PathContent.
func (g *Gateway) Handler() http.Handler {
	mux := http.NewServeMux()
	mux.Handle(wire.PathEnroll, g.frame("enroll", g.enroll))
	mux.Handle(wire.PathRenew, g.frame("renew", g.renew))
	mux.Handle(wire.PathLeave, g.frame("leave", g.leave))
	mux.HandleFunc(wire.PathContent, g.content)
	return mux
}

// frame is what all calls have in common: it reads the body, checks the proof, answers, logs and counts.
func (g *Gateway) frame(op string, h func(context.Context, *call) (any, error)) http.Handler {
	refusals := telemetry.NewWarnings()
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c := &call{from: remoteAddr(r), host: hostOf(r), now: g.service.Now()}
		reply, err := g.answer(w, r, c, h)
		if err == nil {
			g.count(op, resultOK)
			writeJSON(w, http.StatusOK, reply)
			return
		}
		g.refuse(w, op, c, refusals, err)
	})
}

// refuse answers a call with an error, and logs and counts it.
func (g *Gateway) refuse(w http.ResponseWriter, op string, c *call, refusals *telemetry.Warnings, err error) {
	code := waybill.CodeOf(err)
	status, ok := statuses[code]
	if !ok {
		status = http.StatusBadRequest
	}
	if c.retryAfter > 0 {
		w.Header().Set("Retry-After", strconv.Itoa(int(c.retryAfter/time.Second)+1))
	}
	log := g.log.With("op", op, "from", c.from, "activation_id", c.activation, "code", code)
	refusal := wire.ErrorReply{Code: string(code), Message: "the server could not do this; its log says why"}
	if status >= http.StatusInternalServerError {
		g.count(op, resultFailed)
		log.Error("agent call failed", "err", err)
	} else {
		g.count(op, resultRefused)
		refusals.Log(log, "agent call refused", "err", err)
	}
	if e, ok := errors.AsType[*waybill.Error](err); ok {
		refusal.Message = e.Message
	}
	writeJSON(w, status, refusal)
}

func (g *Gateway) answer(
	w http.ResponseWriter, r *http.Request, c *call, h func(context.Context, *call) (any, error),
) (reply any, err error) {
	if r.Method != http.MethodPost {
		return nil, waybill.Errorf(codeMalformed, "%s takes POST, not %s", r.URL.Path, r.Method)
	}
	c.body, err = io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	if err != nil {
		return nil, &waybill.Error{Code: codeMalformed, Message: "the body is not whole or above 64 KiB", Err: err}
	}
	c.key, c.nonce, err = identity.VerifyRequest(r, c.body, c.now, proofWindow)
	if err != nil {
		return nil, err
	}
	return h(r.Context(), c)
}

// refuseReplay must come before whatever a call changes. It comes after what shows that the caller is one of ours or,
// for enrolments, may still fail: strangers cannot fill the store with nonces.
func (g *Gateway) refuseReplay(ctx context.Context, c *call) error {
	fresh, err := g.service.UseAgentNonce(ctx, c.key, c.nonce, c.now.Add(2*proofWindow))
	if err == nil && !fresh {
		err = waybill.Errorf(waybill.ProofInvalid, "the request was received before")
	}
	return err
}

func (g *Gateway) enroll(ctx context.Context, c *call) (any, error) {
	var req wire.EnrollRequest
	if err := json.Unmarshal(c.body, &req); err != nil {
		return nil, &waybill.Error{Code: codeMalformed, Message: "the body is not the JSON of an enrolment", Err: err}
	}
	facts := waybill.Facts{
		Hostname: req.Hostname, MachineID: req.MachineID, IntranetIP: req.IntranetIP, OSType: req.OSType,
		OSVersion: req.OSVersion, AgentVersion: req.AgentVersion, Capability: req.Capability,
	}
	if tooLong(req.ActivationID, req.ActivationCode, req.Name) || tooLongFacts(facts) {
		return nil, waybill.Errorf(codeMalformed, "a field is longer than %d bytes", maxWord)
	}
	c.activation = req.ActivationID
	if req.PublicKey != c.key {
		return nil, waybill.Errorf(waybill.ProofInvalid, "the request is signed by another key than it names")
	}
	end, wait := g.cfg.Attempts.Begin(ctx, c.from, c.now)
	if wait > 0 {
		c.retryAfter = wait
		return nil, waybill.Errorf(codeTooMany, "too many failed attempts from %s; wait a little", c.from)
	}
	refused := false
	defer func() { end(refused) }()
	if err := g.refuseReplay(ctx, c); err != nil {
		return nil, err
	}
	i, err := g.service.Enroll(ctx, control.EnrollRequest{
		Activation: waybill.ActivationID(req.ActivationID), Code: req.ActivationCode, PublicKey: c.key,
		Name: req.Name, Tags: tags(req.Tags), Facts: facts, From: c.from,
	})
	if err != nil {
		refused = waybill.CodeOf(err) == waybill.EnrolRefused
		return nil, err
	}
	token, err := g.token(i.ID, c)
	return wire.EnrollReply{
		InstanceID: string(i.ID), Name: i.Name, CA: string(g.cfg.CA), NATS: g.addresses(c.host), RenewReply: token,
	}, err
}

func (g *Gateway) renew(ctx context.Context, c *call) (any, error) {
	i, err := g.service.InstanceByKey(ctx, c.key)
	if err != nil {
		return nil, err
	}
	c.activation = string(i.Activation)
	if err := g.refuseReplay(ctx, c); err != nil {
		return nil, err
	}
	reply, err := g.token(i.ID, c)
	reply.Addresses = g.addresses(c.host)
	return reply, err
}

func (g *Gateway) leave(ctx context.Context, c *call) (any, error) {
	i, err := g.service.InstanceByKey(ctx, c.key)
	if err != nil {
		return nil, err
	}
	c.activation = string(i.Activation)
	if err := g.refuseReplay(ctx, c); err != nil {
		return nil, err
	}
	return struct{}{}, g.service.Leave(ctx, i.ID, c.from)
}

func (g *Gateway) token(id waybill.InstanceID, c *call) (wire.RenewReply, error) {
	token, err := g.operator.AgentJWT(id, c.key, g.cfg.TokenLife, c.now)
	return wire.RenewReply{JWT: token, Expires: c.now.Add(g.cfg.TokenLife).Unix()}, err
}

func (g *Gateway) addresses(host string) []string {
	if len(g.cfg.Addresses) > 0 {
		return g.cfg.Addresses
	}
	return []string{"tls://" + net.JoinHostPort(host, strconv.Itoa(g.cfg.AgentPort))}
}

func tags(m map[string]string) []waybill.Tag {
	list := make([]waybill.Tag, 0, len(m))
	for _, key := range slices.Sorted(maps.Keys(m)) {
		list = append(list, waybill.Tag{Key: key, Value: m[key]})
	}
	return list
}

func tooLong(texts ...string) bool {
	return slices.ContainsFunc(texts, func(s string) bool { return len(s) > maxWord })
}

func tooLongFacts(f waybill.Facts) bool {
	return tooLong(f.Hostname, f.MachineID, f.IntranetIP, f.OSType, f.OSVersion, f.AgentVersion)
}

func remoteAddr(r *http.Request) netip.Addr {
	addr, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		return netip.Addr{} // a listener without addresses, such as a pipe
	}
	return addr.Addr().Unmap()
}

func hostOf(r *http.Request) string {
	if host, _, err := net.SplitHostPort(r.Host); err == nil {
		return host
	}
	return strings.Trim(r.Host, "[]") // no port
}

func writeJSON(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(v) // an agent that is gone cannot be told
}
