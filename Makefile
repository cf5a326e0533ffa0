# The two commands of the README are demo and test; the rest serves them.

VERSION := $(shell git describe --tags --always --dirty 2>/dev/null || echo unknown)
GOFLAGS_BUILD := -trimpath -ldflags "-s -w -X main.version=$(VERSION)"
AGENTS := amd64 arm64 armv7 armv6

.PHONY: help demo test build agents lint bench-delta clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-11s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: ## git push to a running container, on this machine, on real parts
	@scripts/demo

test: ## install what the tests need and run all of them
	@scripts/test

build: agents ## build the server and the agents into bin/
	CGO_ENABLED=0 go build $(GOFLAGS_BUILD) -o bin/dunlin ./cmd/dunlin

agents: $(AGENTS:%=bin/dunlin-agent-linux-%) ## build the agent for every architecture

bin/dunlin-agent-linux-%: FORCE
	CGO_ENABLED=0 GOOS=linux GOARCH=$(if $(findstring armv,$*),arm,$*) GOARM=$(patsubst armv%,%,$(filter armv%,$*)) \
		go build $(GOFLAGS_BUILD) -o $@ ./cmd/dunlin-agent

lint: ## formatting, vet, staticcheck, shellcheck
	@scripts/lint

bench-delta: ## measure deltas beside other tools, and write docs/performance.md; takes hours
	@scripts/bench-delta

clean: ## remove what was built
	rm -rf bin

FORCE:
