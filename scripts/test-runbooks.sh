#!/usr/bin/env bash
# Runs every runbook of docs/runbooks.md against a real daemon in which its fault was produced. Mounts (a disk that gets full) are in
# a namespace of this run alone.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

if [ ! -x bin/picketd ] || [ ! -x bin/picket ]; then
	echo "build bin/picketd and bin/picket first: make build" >&2
	exit 1
fi
programs=$(scripts/moto.sh)
as=(--mount)
[ "$(id -u)" -eq 0 ] || as+=(--map-root-user)
exec unshare "${as[@]}" --propagation private -- "$programs/python" scripts/test_runbooks.py "$programs" "$@"
