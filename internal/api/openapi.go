// SPDX-License-Identifier: Apache-2.0

package api

import (
	"net/http"
	"strconv"
	"strings"
)

// DescriptionPath is where Description is served.
const DescriptionPath = "/openapi.json"

// Description serves what this server answers as an OpenAPI 3.0 document, made from the operation table. It asks for no
// signature: it says nothing that the documents do not.
//
// All operations share one path and are told apart by a parameter, which OpenAPI does not know; so each is described
// under /#Action=Name, whose fragment no client sends, with the parameter Action fixed to its name.
func Description(version string) http.Handler {
	body, err := encodeJSON("", describe(version))
	if err != nil {
		panic(err) // maps, lists and texts
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodGet && r.Method != http.MethodHead {
			w.Header().Set("Allow", "GET, HEAD")
			http.Error(w, "the description is read with GET", http.StatusMethodNotAllowed)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("Content-Length", strconv.Itoa(len(body)))
		_, _ = w.Write(body) // a client that is gone cannot be told
	})
}

// object is a JSON object of the document.
type object = map[string]any

func describe(version string) object {
	paths := object{}
	for _, op := range Operations() {
		paths["/#Action="+op.Name] = object{"post": describeOperation(&op, "requestBody"), "get": describeOperation(&op, "parameters")}
	}
	return object{
		"openapi": "3.0.3",
		"info": object{
			"title": "Waybill", "version": version,
			"description": "Operations of ECS (2014-05-26), RAM (2015-05-01), STS (2015-04-01) and Resource Manager (2020-03-31), " +
				"and extensions. Every operation is called at the path /; its parameters are in the query or in a form.",
			"license": object{"name": "Apache-2.0"},
		},
		"servers": []object{{"url": "/"}},
		"paths":   paths,
		"components": object{
			"schemas": object{
				"Error": errorSchema(),
			},
			"securitySchemes": object{
				"V1":   object{"type": "apiKey", "in": "query", "name": "Signature", "description": "HMAC-SHA1 over all parameters"},
				"ACS3": object{"type": "apiKey", "in": "header", "name": "Authorization", "description": "ACS3-HMAC-SHA256"},
			},
		},
		"security": []object{{"V1": []string{}}, {"ACS3": []string{}}},
	}
}

// describeOperation describes op with its parameters as in says: in the query, or in the body as a form.
func describeOperation(op *Operation, in string) object {
	id := op.Name
	if in == "requestBody" {
		id += "ByForm"
	}
	fixed := []object{
		{"name": "Action", "in": "query", "required": true, "schema": object{"type": "string", "enum": []string{op.Name}}},
		{"name": "Version", "in": "query", "required": true, "schema": object{"type": "string", "enum": []string{op.Version}}},
		{"name": "Format", "in": "query", "schema": object{"type": "string", "enum": []string{"JSON", "XML"}}},
	}
	d := object{
		"operationId": id, "tags": []string{services[op.Version]}, "summary": op.Summary, "x-kind": string(op.Kind),
		"responses": responses(op),
	}
	if op.Action != "" {
		d["x-action"], d["x-resources"] = op.Action, op.Resources
	}
	if op.Extension != "" {
		d["x-extension"] = op.Extension
	}
	if in == "parameters" {
		for _, p := range op.Parameters {
			fixed = append(fixed, object{
				"name": p.Name, "in": "query", "required": p.Required, "description": p.text(), "schema": p.schema(),
			})
		}
		d["parameters"] = fixed
		return d
	}
	properties, required := object{}, []string{}
	for _, p := range op.Parameters {
		s := p.schema()
		s["description"] = p.text()
		properties[p.Name] = s
		if p.Required {
			required = append(required, p.Name)
		}
	}
	schema := object{"type": "object", "properties": properties}
	if len(required) > 0 {
		schema["required"] = required
	}
	d["parameters"] = fixed
	d["requestBody"] = object{"content": object{"application/x-www-form-urlencoded": object{"schema": schema}}}
	return d
}

func (p *Parameter) schema() object {
	s := object{"type": "string"}
	switch p.Type {
	case "Boolean":
		s["type"] = "boolean"
	case "Long":
		s["type"], s["format"] = "integer", "int64"
	}
	if p.Values != nil {
		s["enum"] = p.Values
	}
	return s
}

// text is the description of p with its limits. A list is described by one of its parameters.
func (p *Parameter) text() string {
	text := p.Description
	if p.Limits != "" {
		text = strings.TrimPrefix(text+" ("+p.Limits+")", " ")
	}
	if strings.Contains(p.Name, ".N") {
		text += "; N stands for 1, 2, …"
	}
	return text
}

func responses(op *Operation) object {
	ok := append([]Field{{Name: "RequestId", Type: "String"}}, op.Response...)
	all := object{"200": object{"description": "done", "content": content(fieldsSchema(ok))}}
	byStatus := map[string][]string{}
	for _, f := range op.Errors {
		if op.Never[f.Code] == "" {
			status := strconv.Itoa(f.Status)
			byStatus[status] = append(byStatus[status], f.Code)
		}
	}
	reference := object{"$ref": "#/components/schemas/Error"}
	for status, codes := range byStatus {
		all[status] = object{"description": strings.Join(codes, ", "), "content": content(reference), "x-codes": codes}
	}
	all["default"] = object{"description": "refused, by the gateway or for the operation's own reasons", "content": content(reference)}
	return all
}

func content(schema object) object {
	return object{"application/json": object{"schema": schema}, "text/xml": object{"schema": schema}}
}

func errorSchema() object {
	return fieldsSchema([]Field{
		{Name: "RequestId", Type: "String"},
		{Name: "HostId", Type: "String"},
		{Name: "Code", Type: "String"},
		{Name: "Message", Type: "String"},
		{Name: "Recommend", Type: "String"},
		{Name: "AccessDeniedDetail", Type: "Object", Description: "with Forbidden.RAM", Fields: deniedFields()},
	})
}

func fieldsSchema(list []Field) object {
	properties := object{}
	for _, f := range list {
		properties[f.Name] = f.schema()
	}
	return object{"type": "object", "properties": properties}
}

func (f *Field) schema() object {
	s := object{"type": "string"}
	switch f.Type {
	case "Boolean":
		s["type"] = "boolean"
	case "Integer":
		s["type"], s["format"] = "integer", "int32"
	case "Long":
		s["type"], s["format"] = "integer", "int64"
	case "Object":
		s = fieldsSchema(f.Fields)
	case "Array":
		items := object{"type": "string"}
		if len(f.Fields) > 0 {
			items = fieldsSchema(f.Fields)
		}
		s = object{"type": "array", "items": items}
	}
	if f.Description != "" {
		s["description"] = f.Description
	}
	return s
}
