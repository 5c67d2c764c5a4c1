#!/bin/sh
# Builds the agent for every system it is made for, and the whole for Linux.
set -eu
for system in linux darwin windows freebsd; do
	for arch in amd64 arm64; do
		echo "build $system/$arch"
		GOOS=$system GOARCH=$arch go build -o /dev/null ./cmd/waybill-agent
	done
done
GOARCH=arm64 go build -o /dev/null ./cmd/waybill
