// SPDX-License-Identifier: Apache-2.0

package wire

// Paths of the agent's HTTPS calls. Bodies are JSON, because people read them in proxies and logs, but for contents.
const (
	PathEnroll = "/agent/1/enroll"
	PathRenew  = "/agent/1/renew"
	PathLeave  = "/agent/1/leave"
	// PathContent, followed by a delivery, answers GET with the content of that delivery, or with the part that the header
	// Range asks for, as long as it is open for the instance whose key signs. The signature does not cover Range.
	PathContent = "/agent/1/content/"
)

// Headers of a signed agent call. The signature is Ed25519 by the agent's nkey over the lines method, path, timestamp,
// nonce and hexadecimal SHA-256 of the body, each ended by a newline; it is sent in standard Base64.
const (
	HeaderKey       = "Waybill-Key"       // the public nkey (U…)
	HeaderTimestamp = "Waybill-Timestamp" // Unix milliseconds
	HeaderNonce     = "Waybill-Nonce"
	HeaderSignature = "Waybill-Signature"
)

// EnrollRequest is the body of PathEnroll. Repeating it with the same key returns the same instance.
type EnrollRequest struct {
	ActivationID   string            `json:"activationId"`
	ActivationCode string            `json:"activationCode"`
	PublicKey      string            `json:"publicKey"`
	Name           string            `json:"name,omitempty"`
	Tags           map[string]string `json:"tags,omitempty"`
	Hostname       string            `json:"hostname,omitempty"`
	MachineID      string            `json:"machineId,omitempty"`
	IntranetIP     string            `json:"intranetIp,omitempty"`
	OSType         string            `json:"osType,omitempty"`
	OSVersion      string            `json:"osVersion,omitempty"`
	AgentVersion   string            `json:"agentVersion,omitempty"`
	Capability     int               `json:"capability"`
}

// EnrollReply answers PathEnroll.
type EnrollReply struct {
	InstanceID string   `json:"instanceId"`
	Name       string   `json:"name"`
	CA         string   `json:"ca,omitempty"` // PEM; empty when the server's certificate has a public issuer
	NATS       []string `json:"nats"`         // tls://host:port
	RenewReply
}

// RenewReply answers PathRenew. The token is a NATS user JWT for the agent's key.
type RenewReply struct {
	JWT     string `json:"jwt"`
	Expires int64  `json:"expires"` // Unix seconds
	// Addresses, if there are any, take the place of EnrollReply.NATS. Older servers send none.
	Addresses []string `json:"addresses,omitempty"`
}

// ErrorReply is the body of every refusal.
type ErrorReply struct {
	Code    string `json:"code"`
	Message string `json:"message"`
}
