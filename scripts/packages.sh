#!/bin/sh
# Makes the packages of the server and of the agent, deb and rpm, in the directory OUT (default bin/packages), for the
# architectures in ARCHS (default both). The same commit makes the same bytes. Nothing needs to be installed but Go and git.
set -eu
out=${1:-bin/packages}
archs=${ARCHS:-amd64 arm64}
export SOURCE_DATE_EPOCH="${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct)}"
program=${VERSION:-$(git describe --tags --always --dirty)} # what the program says of itself

# What package managers sort: v1.2.3-rc1 comes before v1.2.3, and v1.2.3-4-gabcdef after it. Before the first tag it is
# the time of the commit.
case $program in
v[0-9]*) version=$(printf %s "${program#v}" | sed 's/-\(alpha\|beta\|rc\)/~\1/; s/-/+/; s/-/./g') ;;
[0-9]*.[0-9]*) version=$program ;;
*) version=0.0.0~git$(TZ=UTC git log -1 --date=format-local:%Y%m%d.%H%M%S --format=%cd).$(printf %s "$program" | tr - .) ;;
esac

stage=$(mktemp -d)
trap 'rm -rf "$stage"' EXIT
umask 022
mkdir -p "$out" "$stage/text"
GOFLAGS='' go build -modfile=tools/nfpm.mod -o "$stage/nfpm" github.com/goreleaser/nfpm/v2/cmd/nfpm

# licences PROGRAM lists the licences of what is linked into it.
licences() {
	echo "$1 is under the Apache License 2.0. Linked into it are the libraries of Go and these modules, under their own:"
	{
		echo "Go $(go env GOVERSION) $(go env GOROOT)"
		GOARCH=amd64 go list -deps -f '{{with .Module}}{{if not .Main}}{{.Path}} {{.Version}} {{.Dir}}{{end}}{{end}}' "./cmd/$1" | sort -u
	} | while read -r name v dir; do
		for f in "$dir"/LICEN[CS]E* "$dir"/COPYING* "$dir"/NOTICE*; do
			if [ -f "$f" ]; then
				printf '\n== %s %s: %s\n\n' "$name" "$v" "$(basename "$f")"
				cat "$f"
			fi
		done
	done
}

for name in waybill waybill-agent; do
	go test -count=1 "./cmd/$name" -run '^TestPackaging$' -packaging "$stage/text/$name" >"$stage/log" || {
		cat "$stage/log"
		exit 1
	}
	licences "$name" >"$stage/text/$name/third-party-licences.txt"
done

for arch in $archs; do
	for name in waybill waybill-agent; do
		text=$stage/text/$name
		tree=$stage/$arch/$name
		mkdir -p "$tree"
		GOARCH=$arch CGO_ENABLED=0 go build -trimpath -buildvcs=false -ldflags "-s -w -X main.version=$program" \
			-o "$stage/program" "./cmd/$name"
		install -D -m 0755 "$stage/program" "$tree/usr/bin/$name"
		for unit in deploy/systemd/"$name".*; do
			install -D -m 0644 "$unit" "$tree/usr/lib/systemd/system/$(basename "$unit")"
		done
		install -D -m 0644 "$text/$name.bash" "$tree/usr/share/bash-completion/completions/$name"
		install -m 0644 "$text/_$name" "$tree.zsh" # its place depends on the package manager
		install -D -m 0644 "$text/$name.fish" "$tree/usr/share/fish/vendor_completions.d/$name.fish"
		for page in "$text"/man/*.1; do
			install -D -m 0644 "$page" "$tree/usr/share/man/man1/$(basename "$page")"
		done
		gzip -9n "$tree"/usr/share/man/man1/*.1
		install -D -m 0644 "$text/third-party-licences.txt" "$tree/usr/share/doc/$name/third-party-licences.txt"
		find "$tree" "$tree.zsh" -exec touch -h -d "@$SOURCE_DATE_EPOCH" {} +
		for kind in deb rpm; do
			ARCH=$arch VERSION=$version STAGE=$stage/$arch \
				"$stage/nfpm" package --config "deploy/packages/$name.yaml" --packager "$kind" --target "$out/" >"$stage/log" || {
				cat "$stage/log"
				exit 1
			}
		done
	done
done
ls -l "$out"
