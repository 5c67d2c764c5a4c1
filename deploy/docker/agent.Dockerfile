# SPDX-License-Identifier: Apache-2.0
#
# The agent of Waybill: one static program, not as root, nothing else. From the top of the repository:
#   docker build -f deploy/docker/agent.Dockerfile --build-arg VERSION=$(git describe --tags --always) -t waybill-agent .
#
# It places files below /root-dir, where a volume or a directory of the machine belongs, and keeps its identity in the
# other volume:
#   docker run --rm -v agent:/var/lib/waybill-agent -v $PWD/ca.pem:/ca.pem:ro waybill-agent enroll --ca /ca.pem --server …
#   docker run -d --restart=on-failure -v agent:/var/lib/waybill-agent -v /srv/app:/root-dir waybill-agent
# As user 65532 it gives files to nobody else: send with --owner 65532 --group 65532. To give them away, add
#   --user 0 --cap-drop=ALL --cap-add=CHOWN --cap-add=DAC_OVERRIDE --cap-add=FOWNER --cap-add=FSETID
# and, for names of users instead of numbers, -v /etc/passwd:/etc/passwd:ro -v /etc/group:/etc/group:ro.

FROM --platform=$BUILDPLATFORM golang:1.26 AS build
ARG TARGETOS=linux
ARG TARGETARCH=amd64
ARG VERSION=dev
WORKDIR /src
COPY go.mod go.sum ./
RUN go mod download
COPY . .
RUN CGO_ENABLED=0 GOOS=$TARGETOS GOARCH=$TARGETARCH \
    go build -trimpath -buildvcs=false -ldflags "-s -w -X main.version=$VERSION" -o /out/usr/bin/waybill-agent ./cmd/waybill-agent
RUN mkdir -p /out/var/lib && install -d -m 0700 -o 65532 -g 65532 /out/var/lib/waybill-agent && \
    install -d -m 0755 -o 65532 -g 65532 /out/root-dir && \
    install -D -m 0644 /etc/ssl/certs/ca-certificates.crt /out/etc/ssl/certs/ca-certificates.crt && \
    install -D -m 0644 LICENSE /out/usr/share/doc/waybill-agent/copyright

FROM scratch
COPY --from=build /out /
USER 65532:65532
ENV WAYBILL_AGENT_ROOT=/root-dir
VOLUME /var/lib/waybill-agent
ENTRYPOINT ["/usr/bin/waybill-agent"]
CMD ["run"]
