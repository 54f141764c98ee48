#!/bin/sh
# Regenerates the Go code of every .proto below this directory. Same input,
# same bytes: run it and look at `git status` to see whether the committed code
# is current.
set -eu
cd "$(dirname "$0")"

# Not -mod=mod, not a workspace: only the versions written in the two go.mod
# files may run. Build flags of the caller must not matter either.
export GOFLAGS=-mod=readonly GOWORK=off

go tool -modfile=../../tools/go.mod buf lint
go tool -modfile=../../tools/go.mod buf generate
