#!/usr/bin/env bash
# Contributions of features: Picket's time for a row, and that of the libraries themselves.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
for name in xgboost-3.2.0 lightgbm-4.7.0; do
	venv=.cache/venv-$name
	if ! cmp -s "scripts/fixtures/requirements/$name.txt" "$venv/installed.txt"; then
		rm -rf "$venv"
		python3 -m venv "$venv"
		"$venv/bin/pip" install --quiet --disable-pip-version-check --no-deps --only-binary=:all: -r "scripts/fixtures/requirements/$name.txt"
		cp "scripts/fixtures/requirements/$name.txt" "$venv/installed.txt"
	fi
done
export OMP_NUM_THREADS=1 PYTHONDONTWRITEBYTECODE=1
for turn in 1 2; do
	"${GO:-go}" test -run '^$' -bench '^BenchmarkRow$' ./internal/shap | grep -E '^(cpu|Benchmark)'
	for name in xgboost-3.2.0 lightgbm-4.7.0; do
		".cache/venv-$name/bin/python" -W ignore bench/explain/contributions.py
	done
done
