#!/usr/bin/env bash
# Puts moto, which stands for AWS in tests, and cfn-lint into .cache at pinned versions, and prints the folder of their
# programs.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

venv=.cache/moto/venv
if ! cmp -s scripts/moto-requirements.txt "$venv/installed"; then
	rm -rf "$venv"
	python3 -m venv "$venv"
	"$venv/bin/pip" install --quiet --disable-pip-version-check --no-deps -r scripts/moto-requirements.txt >&2
	cp scripts/moto-requirements.txt "$venv/installed"
fi
echo "$PWD/$venv/bin"
