#!/usr/bin/env bash
# Has MLPerf Inference's own load generator (mlcommons-loadgen on PyPI) and a loop of the form that `picket bench run` has drive
# one lane through the Python client, in turns, and prints both figures of SingleStream and Offline with their ratio.
# Needs Python 3.10 or later with venv (PYTHON, default python3) and bin/picketd.
set -euo pipefail
root=$(cd "$(dirname "$0")/../.." && pwd)
venv=$root/.cache/loadgen
requirements=$root/bench/loadgen/requirements.txt
if ! cmp -s "$requirements" "$venv/installed.txt"; then
	rm -rf "$venv"
	"${PYTHON:-python3}" -m venv "$venv"
	"$venv/bin/pip" install --quiet --disable-pip-version-check --only-binary=:all: -r "$requirements" >&2
	cp "$requirements" "$venv/installed.txt"
fi
dir=$(mktemp -d)
trap 'kill "$daemon" 2>/dev/null && wait "$daemon" || true; rm -rf "$dir"' EXIT
mkdir "$dir/model"
cp "$root/examples/demo/fraud.ubj" "$dir/model/model.ubj"
"$root/bin/picketd" --sockets "$dir" --unsigned --model fraud="$dir/model" 2> "$dir/log" &
daemon=$!
for _ in $(seq 200); do [ -S "$dir/lane.sock" ] && break; sleep 0.05; done
cd "$dir"
PYTHONPATH=$root/clients/python "$venv/bin/python" "$root/bench/loadgen/drive.py" "$dir/lane.sock" fraud "$@"
