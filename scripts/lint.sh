#!/bin/sh
# Checks format and code with the tools pinned in tools/go.mod; nothing needs to be installed.
set -eu
tool() { go run -modfile=tools/go.mod "$@"; }
unformatted=$(tool mvdan.cc/gofumpt -l .)
if [ -n "$unformatted" ]; then
	echo "lint: not formatted; run: go run -modfile=tools/go.mod mvdan.cc/gofumpt -w ."
	echo "$unformatted"
	exit 1
fi
for module in . compat; do
	(cd "$module" && go vet ./... && go mod tidy -diff)
done
for system in linux darwin windows freebsd; do
	GOOS=$system go vet ./cmd/waybill-agent ./internal/agent ./internal/place
done
tool honnef.co/go/tools/cmd/staticcheck ./...
# Its data comes from the network; where that cannot be reached, there is nothing to check against.
if out=$(tool golang.org/x/vuln/cmd/govulncheck ./... 2>&1); then
	echo "lint: govulncheck found nothing"
elif printf '%s' "$out" | grep -q 'Vulnerability #'; then
	printf '%s\n' "$out"
	exit 1
else
	echo "lint: govulncheck could not get its data; skipped"
fi
