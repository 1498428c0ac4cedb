# What a developer and CI do with wulfmesh. `make help` lists it.
SHELL       := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.NOTPARALLEL: # two cores are the smallest machine that CI has; the go command uses both by itself

VERSION := $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)

# hashicorpmetrics: without it raft-boltdb reports to a metrics registry of its own, which nobody reads. It has to hold
# for every go command, those that tools run too, so it goes through the environment; what the user set stays.
TAGS := hashicorpmetrics
export GOFLAGS := $(shell go env GOFLAGS) -tags=$(TAGS)

GO_BUILD := CGO_ENABLED=0 go build -trimpath -ldflags '-s -w -X main.version=$(VERSION)'
TOOLS    := .cache/bin
RACE     ?= ./...
FUZZTIME ?= 3s
BENCH    ?= .

.PHONY: help
help: ## list the targets
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: build
build: ## bin/wulf, bin/wulf-agent and bin/wulf-agent-arm64: static, reproducible
	@mkdir -p bin
	$(GO_BUILD) -o bin/wulf ./cmd/wulf
	$(GO_BUILD) -o bin/wulf-agent ./cmd/wulf-agent
	GOOS=linux GOARCH=arm64 $(GO_BUILD) -o bin/wulf-agent-arm64 ./cmd/wulf-agent

.PHONY: test
test: ## every test that needs neither root nor QEMU
	go test -timeout 5m ./...

.PHONY: race
race: ## the same under the race detector; RACE=./relay/... narrows it
	CGO_ENABLED=1 go test -race -timeout 15m $(RACE)

.PHONY: scenario
scenario: ## the stories of a whole mesh in virtual time, under the race detector
	CGO_ENABLED=1 go test -race -timeout 15m -v ./test/scenario/...

.PHONY: weather
weather: ## boot storms of whole meshes in virtual time, in the weather of 120 seeds; WULF_SEEDS=N, WULF_SEED=n tells one again
	WULF_SEEDS=$${WULF_SEEDS:-120} go test -count=1 -timeout 30m -run InAnyWeather ./test/scenario

.PHONY: fuzz
fuzz: ## every fuzz target for FUZZTIME (3s)
	@scripts/fuzz $(FUZZTIME)

.PHONY: e2e
e2e: build ## real processes, real firmware in QEMU (root; skipped loudly where it cannot run)
	@scripts/e2e

.PHONY: bench
bench: ## benchmarks; BENCH=regexp narrows them
	go test -run '^$$' -bench '$(BENCH)' -benchmem ./...

.PHONY: bench-scale
bench-scale: build ## 40 000 nodes on real controllers and relays, beside what is promised; WULF_BENCH_OUT=FILE keeps it
	go test -tags $(TAGS),bench -count=1 -timeout 30m -v -run TestScale ./test/bench

.PHONY: bench-image
bench-image: ## building images beside cpio and zstd, and what changes of them cost (root; WULF_BENCH_IMAGE=DIR is another image)
	go test -tags $(TAGS),bench -count=1 -timeout 30m -v -run TestImage ./test/bench

.PHONY: bench-overlay
bench-overlay: ## a relay's overlays in a cluster of 40 000 nodes: its 64 nodes cold, after changes, and warm
	go test -tags $(TAGS) -run '^$$' -bench Overlays -benchtime 5x -benchmem ./relay/httpd
	go test -tags $(TAGS) -run '^$$' -bench Overlays/warm -benchtime 20000x ./relay/httpd

.PHONY: bench-fill
bench-fill: build ## an image fills 50 cold relays behind slow links: copies that leave controllers, and time (root; WULF_BENCH_RELAYS, _MB, _MBIT)
	go test -tags $(TAGS),bench -count=1 -timeout 30m -v -run TestFill ./test/bench

.PHONY: bench-node
bench-node: build ## fetching and unpacking an image as a node does, beside curl, zstd and cpio (root; WULF_BENCH_IMAGE=DIR)
	go test -tags $(TAGS),bench -count=1 -timeout 30m -v -run TestNode ./test/bench

.PHONY: bench-dhcp
bench-dhcp: build ## DHCP of known machines beside Kea, both driven by perfdhcp (root; scripts/install-deps peers)
	go test -tags $(TAGS),bench -count=1 -timeout 30m -v -run TestDHCP ./test/bench

.PHONY: storm
storm: build ## 10 000 simulated machines, 50 relays, 3 controllers, deaths in the middle (root); reports in .cache/storm; WULF_STORM_NODES=N
	WULF_STORM=all WULF_STORM_NODES=$${WULF_STORM_NODES:-10000} WULF_STORM_RELAYS=$${WULF_STORM_RELAYS:-50} \
	WULF_STORM_SPREAD=$${WULF_STORM_SPREAD:-30} WULF_STORM_OVERLOAD=$${WULF_STORM_OVERLOAD:-5120} \
	go test -tags $(TAGS),e2e -count=1 -timeout 60m -v ./test/storm

.PHONY: bench-tftp
bench-tftp: build ## boot programs by TFTP, beside tftpd-hpa, dnsmasq and atftpd (root; scripts/install-deps peers)
	go test -tags $(TAGS),bench -count=1 -timeout 30m -v -run '^TestTFTP$$' ./test/bench

.PHONY: bench-http
bench-http: build ## sending an image out of a relay's chunks, beside nginx: processor time, rate, memory of a connection
	go test -tags $(TAGS),bench -count=1 -timeout 30m -v -run TestHTTP ./test/bench

.PHONY: bench-overload
bench-overload: build ## ten times as many nodes as a relay sends to at once: rate, fairness, memory
	go test -tags $(TAGS),bench -count=1 -timeout 30m -v -run TestOverload ./test/bench

.PHONY: bench-hostile
bench-hostile: build ## mutated packets, garbage, slow clients and floods at a relay, whose honest clients must not notice (root)
	go test -tags $(TAGS),bench -count=1 -timeout 30m -v -run '^TestHostile$$' ./test/bench

# staticcheck and govulncheck, built from the versions pinned in tools/go.mod.
$(TOOLS)/staticcheck $(TOOLS)/govulncheck &: tools/go.mod tools/go.sum
	@mkdir -p $(TOOLS)
	cd tools && go build -o ../$(TOOLS)/ tool
	@touch $(TOOLS)/staticcheck $(TOOLS)/govulncheck

.PHONY: lint
lint: $(TOOLS)/staticcheck $(TOOLS)/govulncheck ## formatting, vet, staticcheck, known vulnerabilities, modules
	@scripts/lint $(TOOLS) $(TAGS),e2e,bench

.PHONY: gen
gen: ## everything that is generated and committed
	go generate ./...

.PHONY: man
man: ## the manual, into .cache/man; look with man -M .cache/man wulf
	@rm -rf .cache/man
	@SOURCE_DATE_EPOCH=$${SOURCE_DATE_EPOCH:-$$(git log -1 --format=%ct 2>/dev/null)} go run -ldflags '-X main.version=$(VERSION)' ./cmd/wulf docs man .cache/man

.PHONY: check
check: ## all that CI runs, in the order of what fails fastest
	@scripts/check lint test race fuzz e2e

.PHONY: demo
demo: ## install what it needs, build, and show the main job in QEMU (root)
	@scripts/install-deps all
	@$(MAKE) --no-print-directory build
	@mkdir -p $(TOOLS)
	@go build -o $(TOOLS)/demo ./test/demo
	@$(TOOLS)/demo $(DEMO)

.PHONY: dev
dev: ## the demo's cluster, with a machine to play with, until CTRL-C (root)
	@$(MAKE) --no-print-directory demo DEMO=-stay

.PHONY: clean
clean: ## remove what was built, the cached test images too
	rm -rf bin .cache
