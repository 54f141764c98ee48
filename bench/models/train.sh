#!/usr/bin/env bash
# Makes .cache/bench/NAME.ubj (XGBoost, with NAME.model, the same in the old binary form) or NAME.txt (LightGBM), a model for
# benchmarks, unless it is there: train.sh NAME LIBRARY TREES SIZE FEATURES CLASSES
# The largest models take a few minutes.
set -euo pipefail

name=$1 library=$2
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
out=$root/.cache/bench
# shellcheck source=bench/models/environment.sh
. "$root/bench/models/environment.sh"
files="$name.model $name.ubj"
[ "$library" = xgboost ] || files="$name.txt"
complete=yes
for f in $files; do [ -f "$out/$f" ] || complete=; done
[ -z "$complete" ] || exit 0

environment
mkdir -p "$out/part"
"$venv/bin/python" -W ignore "$root/bench/models/train.py" "$out/part/$name" "${@:2}" >&2
for f in $files; do mv "$out/part/$f" "$out/$f"; done
