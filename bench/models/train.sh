#!/usr/bin/env bash
# Makes .cache/bench/NAME.ubj (XGBoost, with NAME.model, the same in the old binary form) or NAME.txt (LightGBM), a model for
# benchmarks, unless it is there: train.sh NAME LIBRARY TREES SIZE FEATURES CLASSES
# Needs Python 3.11 with venv (PYTHON, default python3); the largest models take a few minutes.
set -euo pipefail

name=$1 library=$2
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
out=$root/.cache/bench
case $library in
xgboost) version=1.7.6 files="$name.model $name.ubj" ;;
lightgbm) version=3.3.5 files="$name.txt" ;;
*) echo "train.sh: no library $library" >&2; exit 1 ;;
esac
complete=yes
for f in $files; do [ -f "$out/$f" ] || complete=; done
[ -z "$complete" ] || exit 0

requirements=$root/scripts/fixtures/requirements/$library-$version.txt
venv=$root/.cache/venv-$library-$version
if ! cmp -s "$requirements" "$venv/installed.txt"; then
	rm -rf "$venv"
	"${PYTHON:-python3}" -m venv "$venv"
	"$venv/bin/pip" install --quiet --disable-pip-version-check --no-deps --only-binary=:all: -r "$requirements" >&2
	cp "$requirements" "$venv/installed.txt"
fi
mkdir -p "$out/part"
"$venv/bin/python" -W ignore "$root/bench/models/train.py" "$out/part/$name" "${@:2}" >&2
for f in $files; do mv "$out/part/$f" "$out/$f"; done
