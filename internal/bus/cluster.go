// SPDX-License-Identifier: Apache-2.0

package bus

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"slices"
	"strconv"
	"strings"
	"text/template"
	"time"

	"github.com/openwaybill/waybill/internal/identity"
	"github.com/openwaybill/waybill/internal/wire"
)

// Names of the files that belong to a node of a cluster, beside each other.
const (
	NodeConfigFile = "nats-server.conf"
	NodeCertFile   = "cert.pem"
	NodeKeyFile    = "key.pem"
	NodeCAFile     = "ca.pem"
)

// syncEvery is how often the nodes of a cluster compare the claims they have: one that was away has them again by then.
const syncEvery = 10 * time.Second

// Node is a NATS server of a cluster.
type Node struct {
	Name string // its own among the nodes
	Host string // a name or an address, at which agents, servers and the other nodes reach it
	Port int    // of agents and servers
	// RoutePort is that of the other nodes.
	RoutePort int
	// Bind is the address it listens on; empty: all.
	Bind string
	// Dir is where it finds its files, and keeps its claims.
	Dir string
	// CertFile and KeyFile, if not empty, are those of another certificate for agents and servers.
	CertFile, KeyFile string
}

// URL is what agents and servers connect to.
func (n *Node) URL() string { return "tls://" + net.JoinHostPort(n.Host, strconv.Itoa(n.Port)) }

// Cluster is a number of NATS servers that work as one, under an operator.
type Cluster struct {
	Nodes    []Node
	Operator *identity.Operator
	Revoked  map[string]time.Time // see Bus.Revoke
}

// Validate reports what makes no sense.
func (c *Cluster) Validate() error {
	if len(c.Nodes) == 0 {
		return errors.New("no node is given")
	}
	names, ports := map[string]bool{}, map[string]bool{}
	for _, n := range c.Nodes {
		if names[n.Name] {
			return fmt.Errorf("two nodes are called %s; give each a name: NAME=HOST", n.Name)
		}
		names[n.Name] = true
		for _, port := range []int{n.Port, n.RoutePort} {
			at := net.JoinHostPort(n.Host, strconv.Itoa(port))
			if port < 1 || port > 65535 {
				return fmt.Errorf("node %s: port %d does not exist", n.Name, port)
			}
			if ports[at] {
				return fmt.Errorf("node %s: %s is used twice; give it other ports: NAME=HOST:PORT/ROUTEPORT", n.Name, at)
			}
			ports[at] = true
		}
	}
	return nil
}

// WriteConfig writes the configuration of the ith node, for nats-server as it is. It allows one connection what the
// embedded server does.
func (c *Cluster) WriteConfig(w io.Writer, i int) error {
	operatorJWT, err1 := c.Operator.OperatorJWT()
	systemJWT, err2 := c.Operator.SystemAccountJWT()
	accountJWT, err3 := c.Operator.AccountJWT(c.Revoked)
	if err := errors.Join(err1, err2, err3); err != nil {
		return err
	}
	n := c.Nodes[i]
	var routes []string
	for j, other := range c.Nodes {
		if j != i {
			routes = append(routes, "tls://"+net.JoinHostPort(other.Host, strconv.Itoa(other.RoutePort)))
		}
	}
	file := func(given, own string) string {
		if given != "" {
			return given
		}
		return n.Dir + "/" + own
	}
	accounts := map[string]string{c.Operator.SystemAccount(): systemJWT, c.Operator.Account(): accountJWT}
	return nodeTemplate.Execute(w, map[string]any{
		"Node": n, "Listen": net.JoinHostPort(n.Bind, strconv.Itoa(n.Port)), "RouteListen": net.JoinHostPort(n.Bind, strconv.Itoa(n.RoutePort)),
		"Cert": file(n.CertFile, NodeCertFile), "Key": file(n.KeyFile, NodeKeyFile), "RouteCert": file("", NodeCertFile),
		"RouteKey": file("", NodeKeyFile), "CA": file("", NodeCAFile), "Claims": n.Dir + "/claims", "Routes": routes,
		"Operator": operatorJWT, "System": c.Operator.SystemAccount(), "Accounts": accounts,
		"AccountKeys": slices.Sorted(maps.Keys(accounts)), "Sync": syncEvery,
		"MaxPayload": wire.MaxMessage, "MaxPending": maxPending, "MaxConn": maxConnections, "MaxClosed": maxEnded,
		"WriteDeadline": writeDeadline, "PingInterval": pingInterval, "MaxPings": maxPingsOut,
		"TLSTimeout": handshakeTimeout.Seconds(), "AuthTimeout": authTimeout.Seconds(), "LameDuck": lameDuck, "LameDuckGrace": lameDuckGrace,
		"RoutePing": clusterPing,
	})
}

// A node that is told to end in good order (nats-server --signal ldm) spreads the ends of its connections over this.
const (
	lameDuck      = 30 * time.Second
	lameDuckGrace = 2 * time.Second
)

// nodeTemplate is in the language of nats-server: quoted as Go does.
var nodeTemplate = template.Must(template.New("").Funcs(template.FuncMap{
	"q": func(s string) string { return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(s) + `"` },
}).Parse(`# nats-server for Waybill, node {{.Node.Name}}; written by: waybill nats-config
# start it with: nats-server --config {{.Node.Dir}}/` + NodeConfigFile + `

server_name: {{q .Node.Name}}
listen: {{q .Listen}}

# What one connection is allowed: as by the server that Waybill embeds.
max_payload: {{.MaxPayload}}
max_pending: {{.MaxPending}}
max_connections: {{.MaxConn}}
max_closed_clients: {{.MaxClosed}}
write_deadline: "{{.WriteDeadline}}"
ping_interval: "{{.PingInterval}}"
ping_max: {{.MaxPings}}
lame_duck_duration: "{{.LameDuck}}"
lame_duck_grace_period: "{{.LameDuckGrace}}"
authorization { timeout: {{.AuthTimeout}} }

# Agents and Waybill servers: TLS from the first byte.
tls {
  cert_file: {{q .Cert}}
  key_file: {{q .Key}}
  handshake_first: true
  timeout: {{.TLSTimeout}}
}

# The other nodes, which show certificates of Waybill's CA.
cluster {
  name: "waybill"
  listen: {{q .RouteListen}}
  ping_interval: "{{.RoutePing}}"
  ping_max: {{.MaxPings}}
  tls {
    cert_file: {{q .RouteCert}}
    key_file: {{q .RouteKey}}
    ca_file: {{q .CA}}
    verify: true
    timeout: {{.TLSTimeout}}
  }
  routes: [{{range .Routes}}
    {{q .}}{{end}}
  ]
}

# Who may connect: users of the accounts of Waybill's operator. A key that was deregistered is in the claims of its
# account, which Waybill replaces while the cluster runs, and which nodes take from each other.
operator: {{.Operator}}
system_account: {{.System}}
resolver {
  type: full
  dir: {{q .Claims}}
  allow_delete: false
  interval: "{{.Sync}}"
}
resolver_preload {
{{- $all := .Accounts}}{{range .AccountKeys}}
  {{.}}: {{index $all .}}{{end}}
}
`))
