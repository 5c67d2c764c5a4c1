// SPDX-License-Identifier: Apache-2.0

package console

import "net/http"

// routes says which page is where. Whatever changes something is a form (POST); browsers say of each whether it comes from
// another site, and those are refused here already.
func (c *Console) routes() {
	get := func(path string, h http.Handler) { c.mux.Handle("GET "+Path+path, h) }
	own := http.NewCrossOriginProtection()
	own.SetDenyHandler(c.guest(func(*visit) error { return forged{} }))
	post := func(path string, h http.Handler) { c.mux.Handle("POST "+Path+path, own.Handler(h)) }

	get("assets/{mark}/{name}", c.assets)
	get("{$}", c.user(c.overview))
	get("overview", c.user(c.overviewPart))
	get("events", c.user(c.events))
	get("sign-in", c.guest(c.signInPage))
	post("sign-in", c.guest(c.signIn))
	post("sign-out", c.form(c.signOut))
	post("preference", c.guest(c.preference))

	get("deliveries", c.user(c.deliveries))
	get("deliveries/{id}", c.user(c.delivery))
	get("deliveries/{id}/content", c.user(c.content))
	get("deliveries/{id}/targets.csv", c.user(c.exportCSV))
	get("deliveries/{id}/targets.json", c.user(c.exportJSON))

	post("deliveries/{id}/stop", c.form(c.stopDelivery))
	post("deliveries/{id}/retry", c.form(c.retryDelivery))

	get("send", c.user(c.sendPage))
	post("send/preview", c.form(c.preview))
	post("send", c.form(c.send))

	get("files", c.user(c.files))

	get("machines", c.user(c.machines))
	get("machines/{id}", c.user(c.machine))
	post("machines/{id}/rename", c.form(c.renameMachine))
	post("machines/{id}/tags", c.form(c.tagMachine))
	post("machines/{id}/deregister", c.form(c.deregister))

	get("enrol", c.user(c.enrolPage))
	post("enrol", c.form(c.enrol))
	post("enrol/{id}/disable", c.form(c.disableActivation))
	post("enrol/{id}/delete", c.form(c.deleteActivation))

	get("explorer", c.user(c.explorer))
	get("explorer/{version}/{name}", c.user(c.operationPage))
	post("explorer/{version}/{name}", c.form(c.runOperation))

	get("errors", c.guest(c.errorCenter))
	get("errors/{code}", c.guest(c.errorPage))

	get("admin/users", c.user(c.users))
	post("admin/users", c.form(c.createUser))
	get("admin/users/{name}", c.user(c.userPage))
	post("admin/users/{name}/{act}", c.form(c.changeUser))
	get("admin/keys", c.user(c.keys))
	post("admin/keys/{act}", c.form(c.changeKey))
	get("admin/policies", c.user(c.policies))
	post("admin/policies", c.form(c.savePolicy))
	get("admin/policies/{type}/{name}", c.user(c.policyPage))
	post("admin/policies/{type}/{name}/delete", c.form(c.deletePolicy))
	get("admin/simulator", c.user(c.simulator))
	get("admin/audit", c.user(c.auditPage))
	get("admin/server", c.user(c.serverPage))

	c.mux.Handle(Path, c.guest(func(*visit) error { return errNotFound }))
}
