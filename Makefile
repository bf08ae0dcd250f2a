# make test is all that a change has to pass. As root it installs the Debian
# packages that the tests in test/ need; without root those tests skip.
GO        ?= go
TESTFLAGS ?=
BENCHFLAGS ?=
FUZZTIME  ?= 60s
UNIT       = $$($(GO) list ./... | grep -v '^github.com/ipsecfw/ipsecfw/test')

.PHONY: build test setup check unit hosts fuzz bench

build:
	$(GO) build -trimpath -o ipsecfw ./cmd/ipsecfw

test: setup check unit hosts

setup:
	./test/setup.sh

check:
	@test -z "$$(gofmt -l .)" || { gofmt -d .; exit 1; }
	$(GO) vet ./...
	$(GO) tool staticcheck ./...

unit:
	$(GO) test $(TESTFLAGS) $(UNIT)

# Whole daemons on hosts in network namespaces, one package at a time.
hosts:
	$(GO) test -count=1 -p 1 -timeout 20m $(TESTFLAGS) ./test/...

# Every fuzz target there is, each for FUZZTIME. An input that makes one fail is
# kept by go in the package's testdata/fuzz, and make unit tries it from then on.
fuzz:
	@for p in $(UNIT); do \
		targets=$$($(GO) test -list '^Fuzz' $$p) || exit 1; \
		for f in $$(echo "$$targets" | grep '^Fuzz'); do \
			echo "$$p $$f"; \
			$(GO) test -run '^$$' -fuzz "^$$f\$$" -fuzztime $(FUZZTIME) -fuzzminimizetime 3s $$p || exit 1; \
		done; \
	done

# What 100,000 filters cost, and 10,000 IKE SAs, and how fast those are made
# beside strongSwan's (BENCHFLAGS="-only ike" for them alone), as root and in
# minutes; BENCHFLAGS=-help says what can be chosen. It fails when something is
# not as fast as is wanted.
bench:
	$(GO) run ./test/bench $(BENCHFLAGS)
