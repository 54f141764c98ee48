#!/usr/bin/env bash
# Serves a model with a server that others use, until it is ended: serve.sh SERVER MODEL NAME PORT [PORT]
#
# SERVER is a folder beside this script, MODEL a file by XGBoost (mlserver and triton take an ONNX file, too), NAME what clients call it; the ports are for HTTP and gRPC
# (fastapi takes the path of a Unix socket). The server is installed into .cache/peers/SERVER on first use; `serve.sh SERVER`
# alone does no more than that.
#
# Triton's Python backend is built for Debian's Python 3.11 and finds no other's libraries, so all run on it: PYTHON_OF_SERVERS
# is /usr/bin/python3 by default.
set -euo pipefail

server=$1
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../../.." && pwd)
here=$root/bench/peers/servers/$server
venv=$root/.cache/peers/$server
if ! cmp -s "$here/requirements.txt" "$venv/installed.txt"; then
	echo "installing $server (once)" >&2
	rm -rf "$venv"
	"${PYTHON_OF_SERVERS:-/usr/bin/python3}" -m venv "$venv"
	"$venv/bin/pip" install --quiet --disable-pip-version-check --no-deps --only-binary=:all: -r "$here/requirements.txt" >&2
	cp "$here/requirements.txt" "$venv/installed.txt"
fi
[ $# -gt 1 ] || exit 0

# One thread scores a request: XGBoost's threads wait for each other longer than a second one helps with 64 rows.
export OMP_NUM_THREADS=1 PYTHONDONTWRITEBYTECODE=1
exec "$venv/bin/python" -W ignore "$here/serve.py" "${@:2}"
