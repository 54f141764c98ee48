#!/usr/bin/env bash
# Makes .cache/bench/NAME.ubj, a model for benchmarks, unless it is there: train.sh NAME TREES DEPTH FEATURES
# Needs Python 3.11 with venv (PYTHON, default python3) and a minute.
set -euo pipefail

name=$1
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
model=$root/.cache/bench/$name.ubj
[ -f "$model" ] && exit 0

requirements=$root/scripts/fixtures/requirements/xgboost-1.7.6.txt
venv=$root/.cache/venv-xgboost-1.7.6
if ! cmp -s "$requirements" "$venv/installed.txt"; then
	rm -rf "$venv"
	"${PYTHON:-python3}" -m venv "$venv"
	"$venv/bin/pip" install --quiet --disable-pip-version-check --no-deps --only-binary=:all: -r "$requirements" >&2
	cp "$requirements" "$venv/installed.txt"
fi
mkdir -p "$root/.cache/bench"
"$venv/bin/python" -W ignore "$root/bench/models/train.py" "$model.part.ubj" "${@:2}" >&2
mv "$model.part.ubj" "$model"
