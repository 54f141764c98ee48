#!/usr/bin/env bash
# Runs picket pipeline whole, twice: on this machine alone, and against emulators of AWS (moto for SageMaker, versitygw for
# S3); trains with XGBoost on 200,000 generated transactions, kills the command in each step, and compares what picketd
# answers in the end with what XGBoost does.
#
# bin/picket and bin/picketd are built before; the Python program goes into .cache, at a pinned version.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

programs=$(scripts/moto.sh)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
${GO:-go} run ./examples/pipeline/generate -out "$work/data"
${GO:-go} test -count=1 -timeout 15m -run '^TestWhole' -v ./internal/pipeline -args \
	-whole.bin "$PWD/bin" -whole.data "$work/data" -whole.moto "$programs/moto_server"
