# Picket's one entry for building, testing and measuring: the same on a laptop and in CI.
# `make` alone lists the targets.

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
MAKEFLAGS += --no-print-directory
.DEFAULT_GOAL := help

GO       ?= go
FUZZTIME ?= 2s
FUZZ     ?= ^Fuzz

# Of make soak: how long each fuzz target takes, and flags for bench/soak, such as -connections=100.
SOAK_FUZZTIME ?= 5m
SOAKFLAGS     ?=

# go-nvml's C header marks half of itself as deprecated, which would bury every other message of the C compiler.
export CGO_CFLAGS ?= -O2 -g -Wno-deprecated-declarations
# The version is stamped below; Go's own stamp refuses to build in a checkout that belongs to another user.
export GOFLAGS ?= -buildvcs=false

# The nearest tag, or the commit. A tarball has no history, and must not take the one of a repository it was unpacked in.
VERSION ?= $(shell scripts/version.sh)
LDFLAGS := -X main.version=$(VERSION) -X main.commit=$(shell scripts/version.sh --commit)

LINT := $(GO) tool -modfile=tools/go.mod golangci-lint

# The parts of `make test`. bootstrap and fixtures prepare; the quick checks come before the long tests.
TEST_PARTS := fmt tidy vet lint test-race test-plain test-families test-procs test-nocgo test-arm64 vet-windows test-generated fuzz-short
# Those that wait more than they compute, for servers, installations and limits of time, and some that keep one processor busy: one after the other, beside
# those above.
BESIDE_PARTS := test-units test-clients test-signing test-pipeline test-web test-bench-page test-fleet test-formats test-cloud test-runbooks soak-short test-compile test-neon test-sanitize

# The parts of `make soak`.
SOAK_PARTS := soak-slow soak-leaks soak-shm soak-change soak-artifacts soak-noise soak-overload soak-capture soak-upload soak-faults soak-fuzz

# Every target is a task and none a file.
.PHONY: $(shell sed -nE 's/^([a-z][a-z0-9 -]*):.*/\1/p' Makefile)

help: ## list these targets
	@awk -F ':.*## ' '/^[a-z%][a-zA-Z0-9%-]*:.*## / { printf "  make %-17s %s\n", $$1, $$2 }' Makefile

run: build ## build everything and run the fraud application with its pages: daemon, servers, simulated transactions (end with Ctrl-C)
	@$(GO) build -ldflags '$(LDFLAGS)' -o bin/ ./examples/fraud
	@exec bin/fraud run $(RUNFLAGS)

run-full: build ## the same with PostgreSQL, an S3 store (versitygw) and the line between that can be cut
	@$(GO) build -ldflags '$(LDFLAGS)' -o bin/ ./examples/fraud
	@scripts/run-full.sh $(RUNFLAGS)

demo: build ## score 300 card transactions behind a socket, compare each score with XGBoost's, and measure (end with Ctrl-C)
	@$(GO) build -ldflags '$(LDFLAGS)' -o bin/demo ./examples/demo
	@exec bin/demo -picket bin/picket -picketd bin/picketd

build: ## build bin/picket and bin/picketd
	@mkdir -p bin
	@echo "building bin/picket and bin/picketd, version $(VERSION) (the first time takes a minute or two)"
	@$(GO) build -ldflags '$(LDFLAGS)' -o bin/ ./cmd/picket ./cmd/picketd

# In a recipe: makes the parts that it is called with, one after the other, whatever becomes of each, and the parts of a second list beside them, whose
# output comes at the end of each. It ends with what went wrong and a summary; then $$failed names those that failed, and $$began is when it all began.
define make-parts
began=$$SECONDS; ended=$$(mktemp -d); trap 'rm -rf "$$ended"' EXIT; \
	one() { \
		local verdict=passed start=$$SECONDS; \
		$(MAKE) "$$1" || { verdict=FAILED; touch "$$ended/$$1.failed"; }; \
		printf '  %-16s %s %5d s\n' "$$1" "$$verdict" $$((SECONDS - start)) >"$$ended/$$1.report"; \
	}; \
	for part in $(2); do \
		one "$$part" >"$$ended/$$part.output" 2>&1 </dev/null; \
		{ printf '\n======== %s (beside) ========\n' "$$part"; cat "$$ended/$$part.output"; } >"$$ended/output"; cat "$$ended/output"; \
	done & \
	for part in $(1); do printf '\n======== %s ========\n' "$$part"; one "$$part" 2>&1 | tee "$$ended/$$part.output"; done; \
	wait; \
	failed=; for part in $(1) $(2); do \
		if [ -e "$$ended/$$part.failed" ]; then \
			failed="$$failed $$part"; printf '\n======== what failed in %s ========\n' "$$part"; \
			{ grep -nE -A 8 -- '--- FAIL|^FAIL|FAILED|^panic|DATA RACE|error:' "$$ended/$$part.output" || true; } | head -n 60; echo ...; tail -n 15 "$$ended/$$part.output"; \
		fi; \
	done; \
	printf '\n======== summary ========\n'; for part in $(1) $(2); do cat "$$ended/$$part.report"; done
endef

test: ## everything CI runs: set-up, checks, all tests, short fuzzing, clients
	@command -v $(GO) >/dev/null || { echo "go is not installed: install the Go version that go.mod names" >&2; exit 1; }
	@$(MAKE) bootstrap fixtures
	@tree() { git status --porcelain --untracked-files=all && git diff HEAD | cksum; }; \
	before=$$(tree 2>/dev/null) || before=; \
	$(call make-parts,$(TEST_PARTS),$(BESIDE_PARTS)); \
	if [ -z "$$before" ]; then echo "  working tree     not looked at: this is not a git checkout"; \
	elif [ "$$(tree)" = "$$before" ]; then echo "  working tree     unchanged"; \
	else echo "  working tree     CHANGED: the tests altered files that are, or could be, committed"; git status --short; failed="$$failed working-tree"; fi; \
	if [ -n "$$failed" ]; then echo "make test: FAILED after $$((SECONDS - began)) s:$$failed"; exit 1; fi; \
	echo "make test: everything passed in $$((SECONDS - began)) s"

check: fmt tidy vet lint archtest ## the checks without the tests: format, modules, vet, lint, import rules

fmt: ## fail on Go files that gofmt would change
	@found=$$(git ls-files -co --exclude-standard -z -- '*.go' 2>/dev/null | xargs -0r ls -d 2>/dev/null || true); \
	if [ -z "$$found" ]; then found=$$(find . -name .cache -prune -o -name '*.go' -print); fi; \
	bad=$$(gofmt -l $$found); \
	if [ -n "$$bad" ]; then echo "not formatted, run gofmt -w on:"; echo "$$bad"; exit 1; fi; \
	echo "gofmt: $$(wc -w <<<"$$found") files in order"

tidy: ## fail when go.mod or go.sum are not what go mod tidy writes
	@$(GO) mod tidy -diff
	@echo "go.mod and go.sum are tidy"

vet: ## go vet, and of what the spool is measured against, which has a go.mod of its own
	$(GO) vet ./...
	cd bench/spool && $(GO) vet ./...

lint: ## golangci-lint at its pinned version (the first time builds it: two minutes on two cores)
	@$(LINT) config verify
	$(LINT) run ./...

archtest: ## the rules on imports, unsafe and names
	$(GO) test ./internal/archtest

race: test-race test-compile ## all tests under the race detector

# Nearly all that these do is C, which the race detector does not look into: under it in short, whole without it.
MOSTLY_C := ./backends/forest ./backends/treelite ./backends/tvm
# More packages at a time than processors, because many wait for servers.
test-race:
	$(GO) test -race -p 3 $$($(GO) list ./... | grep -vE '($(subst $(eval) ,|,$(MOSTLY_C:.%=%))|/packaging/compile)$$')
	$(GO) test -race -short $(MOSTLY_C)

test-compile: ## what picket compile makes against the trainers: minutes of the C compiler
	$(GO) test -race ./packaging/compile

# The packages whose tests, such as counts of allocations, mean something else without the race detector.
test-plain:
	$(GO) test $(MOSTLY_C) $$(grep -lrE --include='*_test.go' --exclude-dir=.cache '^//go:build .*!race|AllocsPerRun' . | xargs -rn1 dirname | sort -u)

# One thread, and more threads than cores: schedules that the default never shows.
test-procs:
	for n in 1 8; do \
		echo "GOMAXPROCS=$$n"; \
		GOMAXPROCS=$$n $(GO) test -count=1 ./engine/... ./internal/server/...; \
	done

# The twins of files with C in them, and the whole daemon with them.
test-nocgo:
	CGO_ENABLED=0 $(GO) test ./cmd/picketd $$(grep -lrE --include='*.go' --exclude-dir=.cache '^//go:build .*!cgo' . | xargs -rn1 dirname | sort -u)

# The other machine we run on: its files must at least compile and vet here, and with them those for builds without C.
test-arm64:
	GOARCH=arm64 CGO_ENABLED=0 $(GO) vet ./...

# The other system, for which there are the two programs: they and what they are made of, without the tests, which are Linux's.
vet-windows: ## picket and picketd compile and vet for Windows
	@mkdir -p .cache/windows; find $(CURDIR) -path $(CURDIR)/.cache -prune -o -name '*_test.go' -print | \
		awk 'BEGIN { printf "{\"Replace\": {" } { printf "%s\"%s\": \"\"", (NR > 1 ? ", " : ""), $$0 } END { print "}}" }' >.cache/windows/no-tests.json
	export GOOS=windows GOARCH=amd64 CGO_ENABLED=0; \
	$(GO) build -o .cache/windows/ ./cmd/picket ./cmd/picketd; \
	$(GO) vet -overlay $(CURDIR)/.cache/windows/no-tests.json $$($(GO) list -deps -f '{{with .Module}}{{if .Main}}{{$$.ImportPath}}{{end}}{{end}}' ./cmd/...)

test-windows: ## the archive for Windows, and its programs answering under Wine (needs Debian's wine64)
	scripts/test-windows.sh

# The kernels for arm64 in C, emulated: as a core of 2012 with all tests, and with those of the kernels as one of 2019, which has dot products and half precision.
# CC is for what the tests compile, too. Then what runs without C.
ARM64_CC      ?= aarch64-linux-gnu-gcc
ARM64_SYSROOT ?= /usr/aarch64-linux-gnu
test-neon: ## the kernels for arm64, cross-compiled and run under qemu
	GOARCH=arm64 CGO_ENABLED=1 CC=$(ARM64_CC) $(GO) test -short -vet=off -exec 'qemu-aarch64 -L $(ARM64_SYSROOT) -cpu cortex-a53' ./backends/forest ./backends/tvm
	GOARCH=arm64 CGO_ENABLED=1 CC=$(ARM64_CC) $(GO) test -short -vet=off -run 'Families|Kernels|Trainer' \
		-exec 'qemu-aarch64 -L $(ARM64_SYSROOT) -cpu neoverse-n1' ./backends/forest
	GOARCH=arm64 CGO_ENABLED=0 CC=$(ARM64_CC) $(GO) test -short -vet=off -exec 'qemu-aarch64 -L $(ARM64_SYSROOT) -cpu cortex-a53' \
		./tensor ./internal/ensemble ./backends/forest

# Nearly all of it is emulation, so it is no part of make test. SUITEFLAGS may be -short.
test-arm64-suite: ## the tests of all packages, compiled for arm64 and run under qemu, and what starts programs with them (root); PACKAGES names some
	$(GO) run ./scripts/arm64 suite $(SUITEFLAGS) $(PACKAGES)

# Which kernels the tests could run on this processor. One without AVX2 has it emulated.
test-families:
	@$(GO) test -v -run '^TestFamilies$$' ./backends/forest | grep 'kernels that run here'
	@if [ "$$(uname -m)" = x86_64 ] && ! grep -qw avx2 /proc/cpuinfo; then \
		set -x; $(GO) test -vet=off -exec 'qemu-x86_64 -cpu max' -run 'Kernels|RandomForests|Trainer' ./backends/forest; fi

# The packages with C of ours. What libdlr does with memory is not ours to judge, which leaves out cdlr and backends/dlr;
# and TestFlippedBits loads libraries of which it wants no more than that they end nothing but a process of their own.
SANITIZE := -fsanitize=address,undefined -fno-sanitize-recover=all
test-sanitize: ## the C files under the sanitizers for addresses and undefined behaviour
	export CGO_CFLAGS='$(CGO_CFLAGS) -O1 -fno-omit-frame-pointer $(SANITIZE)' CGO_LDFLAGS='$(SANITIZE)'; \
	$(GO) test -short -asan -vet=off -run 'Kernels|RandomForests|RowSlots|ManySmallTrees|Image|Finish|Threads' ./backends/forest; \
	$(GO) test -short -asan -vet=off -skip '^TestFlippedBits' ./backends/treelite ./backends/tvm ./internal/dl

# Generates into a copy and compares, so that a stale file is reported and not silently replaced.
test-generated:
	@copy=.cache/generated; rm -rf $$copy; mkdir -p $$copy/internal; \
	cp -r go.mod go.sum tools $$copy/; cp -r internal/api $$copy/internal/; \
	sh $$copy/internal/api/generate.sh; \
	if ! diff -r internal/api $$copy/internal/api; then echo "generated code is stale: run make generate and commit"; exit 1; fi; \
	rm -rf $$copy; echo "generated code is up to date"

test-units: build ## systemd reads the unit files, and says how much they leave open
	@scripts/test-units.sh

test-clients: build ## clients in other languages, and those of other servers, against a running daemon
	examples/clients/python/run.sh
	examples/clients/oip/run.sh
	PICKET_NUMPY_PYTHON=.cache/python-client/venv/bin/python clients/test.sh

test-signing: build ## signatures of packages, made by picket and checked by model_signing, and the other way round
	scripts/test-signing.sh

test-pipeline: build ## picket pipeline from 200,000 transactions to a daemon's answers: on this machine, and against moto and an S3 store
	scripts/test-pipeline.sh

test-web: build ## the pages of the fraud application in a real browser: Debian's Chromium
	@$(GO) build -ldflags '$(LDFLAGS)' -o bin/ ./examples/fraud
	PICKET_TEST_BROWSER=$(CURDIR)/bin $(GO) test -count=1 -timeout 5m -run '^TestBrowser' ./examples/fraud/web

test-bench-page: ## the page of benchmark results in a real browser: Debian's Chromium
	PICKET_TEST_BROWSER=1 $(GO) test -count=1 -timeout 5m -run '^TestBrowser$$' ./bench/page

web-picture: build ## a picture of the fraud application in docs/fraud.png, taken by the browser of test-web
	@$(GO) build -ldflags '$(LDFLAGS)' -o bin/ ./examples/fraud
	PICKET_TEST_BROWSER=$(CURDIR)/bin PICKET_README_PICTURE=$(CURDIR)/docs/fraud.png $(GO) test -count=1 -timeout 5m -run '^TestBrowser' ./examples/fraud/web

test-fleet: build ## boto3's sagemaker-edge client against picket fleet serve
	scripts/test-fleet.sh

test-formats: build ## captured records in each format, written by picket and read by pandas and pyarrow
	scripts/test-formats.sh

test-cloud: build ## metrics in CloudWatch (moto stands for it), and the CloudFormation templates: policies, stacks, user data
	scripts/test-cloud.sh

test-runbooks: build ## every runbook of docs/runbooks.md against a daemon with its fault; or those named RUNBOOKS
	@scripts/test-runbooks.sh $(RUNBOOKS)

fuzz: ## run every fuzz target, or those named FUZZ (a pattern), for FUZZTIME each (default 2s)
	@FUZZ='$(FUZZ)' FUZZTIME='$(FUZZTIME)' GO='$(GO)' scripts/fuzz.sh

# Building the targets takes longer than they do. All inputs that are committed are tried by test-race.
fuzz-short: ## every third package's, with each commit others: a part of make test
	@FUZZ_SHARE=3 GO='$(GO)' scripts/fuzz.sh

# The reliability figures that take hours (docs/SPECIFICATION.md): a night with these defaults, nearly all of it fuzzing. Before a release
# SOAK_FUZZTIME=24h, which is 24 hours for each target.
soak: ## the reliability figures in full: hours. SOAK_FUZZTIME and SOAKFLAGS change how much of each
	@$(MAKE) fixtures
	@$(call make-parts,$(SOAK_PARTS)); \
	if [ -n "$$failed" ]; then echo "make soak: FAILED after $$((SECONDS - began)) s:$$failed"; exit 1; fi; \
	echo "make soak: everything held in $$((SECONDS - began)) s"

soak-short: ## the same for minutes, as a part of make test
	$(GO) run ./bench/soak -short $(SOAKFLAGS)

# 1,000 slow clients and 200 that do not read, on each protocol; 10 million requests and 1,000 loads with each backend; 10,000 clients of each kind that
# die with shared memory; a thousand malformed artifacts; 20,000 noisy clients on each protocol; 1,000 replacements under load.
soak-slow soak-leaks soak-shm soak-artifacts soak-noise: soak-%:
	$(GO) run ./bench/soak $(SOAKFLAGS) $*

# 1,000 replacements and 100 restarts under load.
soak-change:
	$(GO) run ./bench/soak $(SOAKFLAGS) change
	PICKET_TEST_RESTARTS=100 $(GO) test -count=1 -timeout 30m -run '^TestRestartUnderLoad$$' ./cmd/picketd

soak-overload:
	$(GO) run ./bench/overload -long

# 10,000 kills, 100,000 losses of power, and damage at every byte of a spool.
soak-capture:
	PICKET_TEST_KILLS=10000 PICKET_TEST_POWER_STATES=100000 PICKET_TEST_EVERY_BYTE=1 $(GO) test -count=1 -timeout 60m -run '^Test(RandomKill|PowerLoss|DamageAtEveryByte)$$' ./internal/capture/spool

# Captured records: a thousand processes killed on the way to the store.
soak-upload:
	PICKET_TEST_KILLS=1000 $(GO) test -count=1 -v -timeout 1h -run '^TestKills$$' ./internal/capture/upload

# An hour of a network that fails in each way, between a real store and records that do not cease.
soak-faults:
	PICKET_TEST_FAULTS_FOR=1h $(GO) test -count=1 -v -timeout 2h -run '^TestFaultsOnEnd$$' ./internal/capture/upload

soak-fuzz:
	$(GO) run ./bench/soak parsers
	@$(MAKE) fuzz FUZZTIME=$(SOAK_FUZZTIME)

bench: bench-start bench-engine bench-treelite bench-tvm bench-agent bench-oip bench-lane bench-batching bench-overload ## the short benchmarks (bench-forest takes a quarter of an hour, bench-serving nine minutes)

bench-doc: ## put bench/results into the tables of docs/performance.md, or those of BENCHES
	$(GO) run ./bench/doc $(BENCHES)

bench-readme: build fixtures ## run suite local (ten minutes on a quiet machine) and make the README's table of its result
	@mkdir -p bench/results
	bin/picket bench run local -o bench/results/local.json $(BENCHFLAGS)
	$(GO) run ./bench/doc readme

# The program prints its table on standard error and its JSON on standard output. BENCHFLAGS choose parts of bench-forest and
# bench-serving.
bench-%: fixtures ## one benchmark (start, engine, treelite, tvm, onnx, agent, oip, lane, forest, batching, overload, capture, drain, serving, fleet, fraud, transfer, package, score); writes bench/results/NAME.json
	@mkdir -p bench/results
	$(GO) run ./bench/$* $(BENCHFLAGS) > bench/results/$*.json.tmp
	@mv bench/results/$*.json.tmp bench/results/$*.json
	@echo "wrote bench/results/$*.json"

# Neither needs more than Go, a C compiler and the driver; bench/gpu/fil.sh installs what FIL is measured with.
bench-gpu: ## backend cuda beside backend forest and cuML's FIL, and copies beside the bus (needs an NVIDIA GPU); writes bench/results/gpu.json
	@mkdir -p bench/results
	$(GO) run ./bench/gpu $(BENCHFLAGS) > bench/results/gpu.json.tmp
	@mv bench/results/gpu.json.tmp bench/results/gpu.json
	@echo "wrote bench/results/gpu.json"

test-ptx: ## the committed PTX of backend cuda is what its source compiles to, and an assembler takes it (needs clang-14 and the network)
	scripts/test-ptx.sh

test-gpu: ## a million rows on a real GPU, each with the bits of backend forest; says why not where there is none
	$(GO) run ./bench/gpu -check

images: build ## the container images, built with Debian's buildah, started, asked and measured (root; a quarter of an hour the first time). IMAGES names some: cpu onnxruntime tool gpu arm64
	scripts/images.sh $(IMAGES)

deb: ## the Debian package for this machine's architecture, in dist/
	@scripts/build-binaries.sh linux/$$($(GO) env GOHOSTARCH) .cache/deb/bin
	@scripts/build-deb.sh $$($(GO) env GOHOSTARCH) .cache/deb/bin dist .cache/deb/bin/picket

deb-arm64: ## the same for arm64, on any machine
	@scripts/build-binaries.sh linux/$$($(GO) env GOHOSTARCH) .cache/deb/bin
	@scripts/build-binaries.sh linux/arm64 .cache/deb/arm64
	@scripts/build-deb.sh arm64 .cache/deb/arm64 dist .cache/deb/bin/picket

test-deb: deb ## the Debian package installed, served from, upgraded, removed and purged in a fresh Debian (root)
	scripts/test-deb.sh

test-deb-arm64: deb-arm64 ## the same with the package for arm64, in a Debian for arm64, emulated
	scripts/test-deb.sh arm64

release: ## everything that is released, in dist/VERSION: archives, Debian packages, contents, digests; signed with RELEASE_KEY. PLATFORMS names some
	scripts/release.sh dist/$(VERSION)

test-release: ## make release twice, the second time elsewhere and with nothing cached, and compare; sign and verify with a throwaway key
	scripts/test-release.sh

test-arm64-daemon: ## picket and picketd, compiled for arm64 as they are released, answering under qemu
	scripts/test-arm64-daemon.sh

bench-explain: ## contributions of features beside XGBoost's and LightGBM's own (needs Python 3.11)
	bench/explain/run.sh

bench-tvm-nets: ## compile the network of make bench-tvm that is too large to be committed (needs Python 3.8)
	bench/tvm/nets.sh

bench-loadgen: build ## MLPerf's own load generator and the suite's on one lane, in turns (needs pip and a C++ compiler); writes bench/results/loadgen.json
	@bench/loadgen/install.sh
	@mkdir -p bench/results
	$(GO) run ./bench/loadgen $(BENCHFLAGS) > bench/results/loadgen.json.tmp
	@mv bench/results/loadgen.json.tmp bench/results/loadgen.json
	@echo "wrote bench/results/loadgen.json"

# A module of its own, for what it compares with.
bench-spool: ## records a second, beside raft-wal and NATS; writes bench/results/spool.json
	@mkdir -p bench/results
	cd bench/spool && $(GO) run . $(BENCHFLAGS) -o ../results/spool.json

bootstrap: ## install what the tests need besides Go (Debian, as root), or say what is missing
	@scripts/bootstrap.sh

fixtures: ## fetch what the tests need and the repository cannot hold: the real libdlr and ONNX Runtime
	@scripts/fetch-libdlr.sh
	@scripts/fetch-onnxruntime.sh

fixtures-rebuild: ## train and compile all committed fixtures again (needs Python 3.11 and the network)
	@scripts/fixtures/make.sh

web: ## build the pages of the fraud application from their sources (needs Node 20.19 or newer; the built files are committed)
	cd examples/fraud/web && npm ci --no-audit --no-fund && npm run build

generate: ## generate code from the .proto files
	@sh internal/api/generate.sh

clean: ## remove what was built; downloads in .cache stay
	rm -rf bin bench/results/*.tmp coverage.out .cache/generated
	find . -path ./.cache -prune -o \( -name '*.test' -o -name '*.prof' \) -type f -exec rm -f {} +
