#!/usr/bin/env bash
# Has the library that trained a model answer for rows, on standard input and output: predict.sh LIBRARY MODEL FEATURES
set -euo pipefail

library=$1
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
# shellcheck source=bench/models/environment.sh
. "$root/bench/models/environment.sh"
environment
exec "$venv/bin/python" -W ignore "$root/bench/models/predict.py" "$@"
