#!/bin/sh
# Runs every test of both modules. The race detector needs a C compiler; without one the tests run without it, and say so.
set -eu
race=-race
if ! command -v "${CC:-gcc}" >/dev/null 2>&1; then
	echo "test: no C compiler, so no race detector"
	race=
fi
if ! command -v postgres >/dev/null 2>&1 && ! ls /usr/lib/postgresql/*/bin/postgres >/dev/null 2>&1 && [ -z "${WAYBILL_TEST_POSTGRES:-}" ]; then
	echo "test: no PostgreSQL, so nothing is tried on it"
fi
[ -z "$race" ] || export CGO_ENABLED=1
go test $race -shuffle=on -timeout 9m ./...
# The official clients: a module of its own, so that users of this one do not download them.
cd compat
if command -v npm >/dev/null 2>&1; then
	npm ci --no-audit --no-fund --loglevel=error >/dev/null
else
	echo "test: no npm, so the official clients for Node.js are not tried"
fi
go test $race -timeout 5m ./...
