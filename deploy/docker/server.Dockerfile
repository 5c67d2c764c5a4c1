# SPDX-License-Identifier: Apache-2.0
#
# The server of Waybill, and the command line: one static program, not as root, nothing else. From the top of the repository:
#   docker build -f deploy/docker/server.Dockerfile --build-arg VERSION=$(git describe --tags --always) -t waybill .
#
# The first start writes the first key to credentials.json of the volume, and to standard output, which is the log of the
# container: rather give it one, with WAYBILL_BOOTSTRAP_ACCESS_KEY_ID and WAYBILL_BOOTSTRAP_ACCESS_KEY_SECRET.

FROM --platform=$BUILDPLATFORM golang:1.26 AS build
ARG TARGETOS=linux
ARG TARGETARCH=amd64
ARG VERSION=dev
WORKDIR /src
COPY go.mod go.sum ./
RUN go mod download
COPY . .
RUN CGO_ENABLED=0 GOOS=$TARGETOS GOARCH=$TARGETARCH \
    go build -trimpath -buildvcs=false -ldflags "-s -w -X main.version=$VERSION" -o /out/usr/bin/waybill ./cmd/waybill
RUN mkdir -p /out/var/lib && install -d -m 0700 -o 65532 -g 65532 /out/var/lib/waybill && \
    install -D -m 0644 /etc/ssl/certs/ca-certificates.crt /out/etc/ssl/certs/ca-certificates.crt && \
    install -D -m 0644 LICENSE /out/usr/share/doc/waybill/copyright

FROM scratch
COPY --from=build /out /
USER 65532:65532
ENV WAYBILL_DATA_DIR=/var/lib/waybill
VOLUME /var/lib/waybill
# API and enrolment; the agents' link; metrics and health, which are on the loopback address unless WAYBILL_ADMIN_LISTEN
# says otherwise.
EXPOSE 8480 8422 8481
ENTRYPOINT ["/usr/bin/waybill"]
CMD ["server"]
