#!/usr/bin/env bash
# Puts moto, which stands for AWS in tests, and cfn-lint into .cache at pinned versions, and prints the folder of their
# programs.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

requirements=('moto[server]==5.2.5' 'cfn-lint==1.58.0')
venv=.cache/moto/venv
if [ "$(cat "$venv/installed" 2>/dev/null)" != "${requirements[*]}" ]; then
	rm -rf "$venv"
	python3 -m venv "$venv"
	"$venv/bin/pip" install --quiet --disable-pip-version-check "${requirements[@]}" >&2
	echo "${requirements[*]}" >"$venv/installed"
fi
echo "$PWD/$venv/bin"
