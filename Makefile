# connfs
#
#   make build       bin/connfs
#   make test        everything that CI runs (needs root; the first time under 45 minutes on
#                    two cores)
#   make test-short  only the unit tests: no root, nothing to install
#   make demo        two users and one mount, on a metastore that the demo makes
#   make bench       compares connfs with the smallest filesystem that go-fuse allows, and more
#                    (needs root; about 8 minutes; BENCH="cached start" runs some parts only)
#   make bench-flood how much another uid can slow down a reader
#   make shake       the unit and integration tests five times (N=5) on a busy machine,
#                    and which of them failed how often

export CONNFS_TEST_CACHE ?= /opt/connfs-test
CONNFS_START := $(or $(CONNFS_START),$(shell date +%s))
export CONNFS_START
export CONNFS_COUNTS ?= $(CURDIR)/.cache/test-counts
export FUZZTIME ?= 6s

# One way of building for everything but the race detector, so that each
# dependency is compiled once.
export CGO_ENABLED ?= 0
export GOFLAGS := $(strip $(GOFLAGS) -trimpath)

STEP    := scripts/step
# The version is that of the tag, as v1.2.3 or so many commits after it. Without a tag, the
# binary has its default version and the revision that Go records.
VERSION := $(patsubst v%,%,$(shell git describe --tags --dirty 2>/dev/null))
LDFLAGS := -s -w $(if $(VERSION),-X main.version=$(VERSION))

# Scanning a process for secrets says nothing about the race detector's memory.
NO_RACE := ./integration/memscan

.NOTPARALLEL:
.PHONY: build test test-short setup lint arch unit integration fuzz e2e bench demo clean

build:
	@$(STEP) "build" go build -ldflags '$(LDFLAGS)' -o bin/connfs ./cmd/connfs
	@chmod 0711 bin/connfs

test: counts-reset setup lint arch build unit integration fuzz e2e
	@echo
	@scripts/counts $(CONNFS_COUNTS)

test-short:
	@$(STEP) "unit tests" scripts/gotest ./...

.PHONY: counts-reset
counts-reset:
	@mkdir -p $(dir $(CONNFS_COUNTS))
	@: > $(CONNFS_COUNTS)

setup:
	@$(STEP) "setup" scripts/setup

lint:
	@$(STEP) "lint" scripts/lint

arch:
	@$(STEP) "arch" scripts/arch

unit:
	@$(STEP) "unit tests, race detector" env CGO_ENABLED=1 scripts/gotest -race -timeout 15m \
		$$(go list ./... | grep -vxF "$$(go list $(NO_RACE))")
	@$(STEP) "unit tests" scripts/gotest -timeout 5m $(NO_RACE)

# Only the packages that hold a test with the tag; their unit tests run here once more, without
# the race detector.
integration: build
	@$(STEP) "integration tests" env CONNFS_BIN=$(CURDIR)/bin/connfs \
		scripts/gotest -tags integration -p 2 -timeout 20m \
		$$(grep -rl --include='*_test.go' '^//go:build integration' . | \
			xargs -n 1 dirname | sort -u)

N ?= 5
.PHONY: shake
shake:
	@scripts/shake $(N)

fuzz:
	@$(STEP) "fuzz, $(FUZZTIME) each" scripts/fuzz

e2e: build
	@$(STEP) "Airflow 2.10.5 tasks with run_as_user" integration/airflow_e2e/e2e 2.10.5
	@$(STEP) "Airflow 3.3.2 tasks with run_as_user" integration/airflow_e2e/e2e 3.3.2

bench: build
	@$(STEP) "bench" go run ./integration/bench $(BENCH)
	@[ -n "$(BENCH)" ] || $(STEP) "bench, floods" integration/fusefloor/bench-flood

.PHONY: bench-flood
bench-flood: build
	@$(STEP) "bench, floods" integration/fusefloor/bench-flood

demo: build
	@integration/demo/demo

clean:
	rm -rf bin .cache
	$(MAKE) -C integration/fusefloor/reader clean
	$(MAKE) -C integration/fusefloor/probes clean
