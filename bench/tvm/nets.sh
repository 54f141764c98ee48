#!/usr/bin/env bash
# Compiles the network of make bench-tvm that is too large to be committed, with the environment of the TVM fixtures.
#
# Needs Python 3.8 (PYTHON38, default python3.8), the last that the TVM wheels run on.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
python38=${PYTHON38:-python3.8}
requirements=$root/scripts/fixtures/requirements/tvm-hhb2.6.17.txt
venv=$root/.cache/venv-tvm-hhb2.6.17

if ! "$python38" -c 'import sys; sys.exit(sys.version_info[:2] != (3, 8))' 2>/dev/null; then
	echo "nets.sh: $python38 is not Python 3.8, which the pinned wheels are for; set PYTHON38" >&2
	exit 1
fi
if ! cmp -s "$requirements" "$venv/installed.txt"; then
	rm -rf "$venv"
	"$python38" -m venv "$venv"
	"$venv/bin/pip" install --quiet --disable-pip-version-check --no-deps --only-binary=:all: -r "$requirements"
	cp "$requirements" "$venv/installed.txt"
fi
PYTHONDONTWRITEBYTECODE=1 "$venv/bin/python" -W ignore "$root/bench/tvm/nets.py" "$root/.cache/bench/tvm/mobilenet"
