// SPDX-License-Identifier: Apache-2.0

package samples

import (
	"cmp"
	"net"
	"slices"
	"strings"
)

func sortParams(list []Param) {
	slices.SortFunc(list, func(a, b Param) int { return cmp.Compare(a.Name, b.Name) })
}

// products are what the aliyun CLI calls the services of the API versions.
var products = map[string]string{
	"2014-05-26": "ecs", "2015-05-01": "ram", "2015-04-01": "sts", "2020-03-31": "resourcemanager",
}

// aliyun calls with the aliyun CLI, version 3. --force lets operations and parameters through that only this server knows;
// --insecure means plain HTTP.
func aliyun(c *Call) (string, error) {
	words := []string{"aliyun", cmp.Or(products[c.Version], "ecs"), c.Action, "--version", c.Version, "--force"}
	for _, p := range c.Params {
		words = append(words, "--"+p.Name, quoteShell(p.Value))
	}
	if region := c.value("RegionId"); region != "" {
		words = append(words, "--region", quoteShell(region))
	}
	words = append(words, "--endpoint", c.host())
	if !c.tls() {
		words = append(words, "--insecure")
	}
	line := strings.Join(words, " ")
	if c.CA != "" {
		line = "SSL_CERT_FILE=" + quoteShell(c.CA) + " " + line
	}
	return line + "\n", nil
}

// waybillFlags are the flags of our own command line that parameters become, by operation. A parameter that is not here has
// no flag, and then there is no sample.
var waybillFlags = map[string]struct {
	command string
	flags   map[string]string
}{
	"SendFile": {"send", map[string]string{
		"InstanceId": "--instance", "Name": "--name", "TargetDir": "--to", "FileOwner": "--owner", "FileGroup": "--group",
		"FileMode": "--mode", "Description": "--description", "ResourceGroupId": "--resource-group",
	}},
	"DescribeSendFileResults": {"results", map[string]string{
		"InstanceId": "--instance", "Name": "--name", "InvocationStatus": "--status",
	}},
	"DescribeManagedInstances":  {"instances list", nil},
	"DescribeActivations":       {"activations list", map[string]string{"ResourceGroupId": "--resource-group"}},
	"ListUsers":                 {"users list", nil},
	"ListPolicies":              {"policies list", nil},
	"ListAuditRecords":          {"audit list", nil},
	"GetCallerIdentity":         {"whoami", nil},
	"DeregisterManagedInstance": {"instances deregister", nil},
}

// arguments are parameters that our command line takes without a flag.
var arguments = map[string]string{"DescribeSendFileResults": "InvokeId", "DeregisterManagedInstance": "InstanceId"}

func waybillCLI(c *Call) (string, error) {
	known, ok := waybillFlags[c.Action]
	if !ok {
		return "", ErrNone
	}
	words := strings.Fields("waybill " + known.command)
	before := ""
	if c.Action == "SendFile" {
		words = append(words, "-")
		before = "printf %s " + quoteShell(c.value("Content"))
		if c.value("ContentType") == "Base64" {
			before += " | base64 -d"
		}
		before += " | "
	}
	for _, p := range c.Params {
		name, _, _ := strings.Cut(p.Name, ".")
		flag := known.flags[name]
		switch {
		case name == arguments[c.Action]:
			words = append(words, quoteShell(p.Value))
		case name == "RegionId":
			words = append(words, "--region", quoteShell(p.Value))
		case flag != "":
			words = append(words, flag, quoteShell(p.Value))
		case c.Action == "SendFile" && (name == "Content" || name == "ContentType" || name == "Tag" || name == "ClientToken"):
			if name == "Tag" {
				return "", ErrNone
			}
		case c.Action == "SendFile" && name == "Timeout":
			words = append(words, "--timeout", quoteShell(p.Value+"s"))
		case c.Action == "SendFile" && name == "Overwrite":
			if strings.EqualFold(p.Value, "true") {
				words = append(words, "--overwrite")
			}
		default:
			return "", ErrNone
		}
	}
	words = append(words, "--endpoint", c.Endpoint)
	if c.CA != "" {
		words = append(words, "--ca", quoteShell(c.CA))
	}
	return before + strings.Join(words, " ") + "\n", nil
}

// shellFrame signs (V1) and sends with nothing but bash and openssl. Its places are filled by shell.
const shellFrame = `#!/usr/bin/env bash
# Needs bash and openssl, nothing else, and the key in ALIBABA_CLOUD_ACCESS_KEY_ID and ALIBABA_CLOUD_ACCESS_KEY_SECRET.
set -euo pipefail
host=%HOST%
params=(
%PARAMS%  AccessKeyId "$ALIBABA_CLOUD_ACCESS_KEY_ID"
  Format JSON
  SignatureMethod HMAC-SHA1
  SignatureVersion 1.0
  SignatureNonce "$(openssl rand -hex 16)"
  Timestamp "$(date -u +%Y-%m-%dT%H:%M:%SZ)"
)

# encode prints $1 percent-encoded, byte by byte.
encode() {
  local LC_ALL=C i c n
  for ((i = 0; i < ${#1}; i++)); do
    c=${1:i:1}
    case $c in
    [A-Za-z0-9._~-]) printf %s "$c" ;;
    *) printf -v n %d "'$c" && printf '%%%02X' $((n & 255)) ;;
    esac
  done
}

# The query, sorted by the bytes of its names: a tab comes before anything that a name can hold.
query=$(for ((i = 0; i < ${#params[@]}; i += 2)); do
  printf '%s\t%s\n' "$(encode "${params[i]}")" "$(encode "${params[i + 1]}")"
done | LC_ALL=C sort | tr '\t' = | tr '\n' '&')
query=${query%&}
signature=$(printf %s "POST&%2F&$(encode "$query")" |
  openssl dgst -sha1 -hmac "$ALIBABA_CLOUD_ACCESS_KEY_SECRET&" -binary | openssl base64)
body="$query&Signature=$(encode "$signature")"

request() {
  printf 'POST / HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n' "$host"
  printf 'Content-Type: application/x-www-form-urlencoded\r\nContent-Length: %d\r\n\r\n%s' "${#body}" "$body"
}
answer() {
  local status line
  IFS= read -r status
  while IFS= read -r line && [ "$line" != $'\r' ]; do :; done
  cat
  echo
  case $status in "HTTP/1.1 2"*) ;; *) return 1 ;; esac
}
%SEND%
`

func shell(c *Call) (string, error) {
	var params strings.Builder
	for _, p := range append([]Param{{"Action", c.Action}, {"Version", c.Version}}, c.Params...) {
		if p.Name == "Format" { // the answer is for people
			continue
		}
		params.WriteString("  " + quoteShell(p.Name) + " " + quoteShell(p.Value) + "\n")
	}
	send := `request | openssl s_client -quiet -verify_return_error %CA%%VERIFY% -connect "$host" 2>/dev/null | answer`
	connect := c.host()
	if _, _, err := net.SplitHostPort(connect); err != nil {
		send = strings.Replace(send, `"$host"`, `"$host:443"`, 1)
	}
	if !c.tls() {
		host, port, err := net.SplitHostPort(connect)
		if err != nil {
			host, port = connect, "80"
		}
		send = `exec 3<>/dev/tcp/` + strings.Trim(host, "[]") + "/" + port + "\nrequest >&3\nanswer <&3"
	}
	ca := ""
	if c.CA != "" {
		ca = "-CAfile " + quoteShell(c.CA) + " "
	}
	send = strings.NewReplacer("%CA%", ca, "%VERIFY%", verifyFlag(connect)).Replace(send)
	return strings.NewReplacer("%HOST%", quoteShell(connect), "%PARAMS%", params.String(), "%SEND%", send).Replace(shellFrame), nil
}
