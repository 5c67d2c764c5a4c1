// SPDX-License-Identifier: Apache-2.0

package compat

import (
	"encoding/json"
	"io"
	"os"
	"os/exec"
	"testing"
)

// nodeClient is a client for Node.js, in a process of its own that lives as long as the test: node/client.js.
type nodeClient struct {
	in  *json.Encoder
	out *json.Decoder
}

// needNode skips a test where node or one of the packages is not there.
func needNode(t *testing.T, name string) {
	t.Helper()
	if _, err := exec.LookPath("node"); err != nil {
		t.Skip("no node here, so the official clients for Node.js are not tried")
	}
	if _, err := os.Stat("node_modules/@alicloud/" + name); err != nil {
		t.Skip("the official clients for Node.js are not installed; run: npm ci")
	}
}

// node returns one of the packages that node/client.js knows. The method is pop-core's alone.
func node(name, method string) func(*testing.T, access) client {
	return func(t *testing.T, a access) client {
		needNode(t, name)
		cmd := exec.Command("node", "node/client.js")
		cmd.Env = append(os.Environ(), "NODE_EXTRA_CA_CERTS="+a.CA)
		cmd.Stderr = os.Stderr
		in, err := cmd.StdinPipe()
		if err != nil {
			t.Fatal(err)
		}
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			in.Close() // which ends it
			if err := cmd.Wait(); err != nil {
				t.Errorf("node: %v", err)
			}
		})
		c := &nodeClient{in: json.NewEncoder(in), out: json.NewDecoder(out)}
		if err := c.in.Encode(map[string]any{"client": name, "method": method, "access": a}); err != nil {
			t.Fatal(err)
		}
		return c
	}
}

func (c *nodeClient) call(action string, params map[string]any) ([]byte, error) {
	if err := c.in.Encode(map[string]any{"action": action, "params": params}); err != nil {
		return nil, err
	}
	var out struct {
		Answer  json.RawMessage
		Refusal *refusal
	}
	if err := c.out.Decode(&out); err != nil {
		if err == io.EOF {
			err = io.ErrUnexpectedEOF // what it has to say is on standard error
		}
		return nil, err
	}
	if out.Refusal != nil {
		return nil, out.Refusal
	}
	return out.Answer, nil
}
