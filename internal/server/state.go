// SPDX-License-Identifier: Apache-2.0

package server

import (
	"context"

	"github.com/openwaybill/waybill/internal/api"
	"github.com/openwaybill/waybill/internal/console"
)

// state tells how the server is set and how it fares.
func (s *Server) state(ctx context.Context) api.State {
	v := api.State{Version: s.cfg.Version, Settings: s.cfg.Settings}
	check := func(name string, err error) {
		c := api.Check{Name: name}
		if err != nil {
			c.Detail = err.Error()
		}
		v.Checks = append(v.Checks, c)
	}
	check("database", s.store.Ping(ctx))
	check("bus", s.bus.Flush())
	check("requests", s.ready(ctx))
	nodes, err := s.store.Nodes(ctx)
	if err != nil {
		check("servers", err)
	}
	for _, n := range nodes {
		v.Servers = append(v.Servers, n.Name+" "+n.Version)
	}
	return v
}

// explored returns the operation table as the console shows it.
func explored() []console.Operation {
	var list []console.Operation
	for _, op := range api.Operations() {
		o := console.Operation{
			Name: op.Name, Version: op.Version, Service: op.Service(), Writes: op.Kind == api.Write, Summary: op.Summary,
			Action: op.Action, Resources: op.Resources, Extension: op.Extension != "",
		}
		for _, p := range op.Parameters {
			o.Parameters = append(o.Parameters, console.Parameter{
				Name: p.Name, Type: p.Type, Required: p.Required, Values: p.Values, Limits: p.Limits, Description: p.Description,
			})
		}
		for _, f := range op.Errors {
			if op.Never[f.Code] == "" {
				o.Errors = append(o.Errors, console.Refusal(f))
			}
		}
		list = append(list, o)
	}
	return list
}
