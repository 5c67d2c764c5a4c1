# What a newcomer needs: make demo, make test. Everything else is listed by make help.

VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)
LDFLAGS := -s -w -X main.version=$(VERSION)
GO      ?= go
export CGO_ENABLED ?= 0

.PHONY: help
help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "%-13s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: build
build: ## build bin/waybill and bin/waybill-agent
	$(GO) build -trimpath -ldflags '$(LDFLAGS)' -o bin/ ./cmd/...

.PHONY: demo
demo: build ## run a server and three machines here, and deliver a file to them (ARGS=--once ends after it)
	bin/waybill demo $(ARGS)

.PHONY: test
test: ## run every test, with the race detector where a C compiler is there
	sh scripts/test.sh

.PHONY: lint
lint: ## check format and code
	sh scripts/lint.sh

.PHONY: bench
bench: build ## measure, against floors measured in the same run
	$(GO) run ./bench $(ARGS)

.PHONY: fuzz
fuzz: ## run each fuzz target for FUZZTIME (default 30s)
	sh scripts/fuzz.sh

.PHONY: fleet
fleet: ## restart servers under 2,000 official agents (minutes; needs 20,000 open files)
	ulimit -n 20000 && $(GO) test ./internal/assist -run TestFleet -assist.fleet=2000 -v
	ulimit -n 20000 && $(GO) test ./cmd/waybill -run TestRestartsDeafenNoOfficialAgent -official-agents=2000 -parallel 1 -timeout 10m -v

.PHONY: explore
explore: ## run the protocol between server and agent through 100,000 interleavings (three minutes; ARGS=-agent.seed=N)
	$(GO) test -count=1 -timeout 20m ./internal/agent -run '^TestExplore$$' -v -agent.interleavings=100000 $(ARGS)

.PHONY: campaign
campaign: build ## break a fleet 500 times under 10,000 deliveries (about twelve minutes; ARGS='--seed N' repeats one)
	bin/waybill sim --machines 200 --processes 25 --deliveries 10000 --kills 550 $(ARGS)

.PHONY: cluster-test
cluster-test: ## break three servers, their PostgreSQL, their NATS cluster and 1,000 machines (minutes; ARGS='-cluster.seed N' repeats one)
	ulimit -n 20000 && $(GO) test -count=1 -timeout 60m ./internal/sim -run '^TestCluster$$' -v -cluster.machines 1000 -cluster.processes 20 \
		-cluster.deliveries 5000 -cluster.kills 120 -cluster.duration 0 -cluster.measure 3000 $(ARGS)

.PHONY: ceilings
ceilings: ## connect 10,000 agents to one server, and say what each costs it (minutes; needs 20,000 open files)
	ulimit -n 20000 && $(GO) test ./internal/testenv -run 'TestLinks' -links 10000 -timeout 20m -v

.PHONY: cross
cross: ## build the agent for every system it is made for
	sh scripts/cross.sh

.PHONY: packages
packages: ## make bin/packages: deb and rpm of server and agent, amd64 and arm64
	VERSION='$(VERSION)' sh scripts/packages.sh

.PHONY: packages-test
packages-test: ## install, upgrade and remove the packages in a Debian with systemd (minutes; needs root, debootstrap, rpm)
	sh scripts/packages-test.sh

.PHONY: docs
docs: ## write the generated documents again
	$(GO) test -p 1 ./cmd/... -run 'TestDocs' -update
	cd compat && $(GO) test . -run 'TestContract' -update
