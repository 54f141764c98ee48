#!/usr/bin/env bash
# Installs a peer, so that `picket bench run --targets NAME` can measure it: install.sh NAME...
#
# NAME is a server (mlserver, kserve, triton, fastapi, litserve, bentoml, rayserve), a library (xgboost, lightgbm, onnxruntime, lleaves,
# tl2cgen, gtil, onedal, libdlr), or all. Each server has an environment of its own below .cache/peers; the libraries share one,
# .cache/venv-peers. Versions are pinned in requirements.txt beside what uses them. Needs Debian's Python 3.11 with venv.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
[ $# -gt 0 ] || { echo "usage: install.sh NAME..., or all" >&2; exit 2; }

names=("$@")
if [ "$1" = all ]; then
	names=(xgboost libdlr)
	for requirements in "$here"/servers/*/requirements.txt; do
		names+=("$(basename "$(dirname "$requirements")")")
	done
fi
for name in "${names[@]}"; do
	case $name in
	libdlr)
		"$here/../../scripts/fetch-libdlr.sh"
		"$here/prepare.sh"
		;;
	xgboost | lightgbm | onnxruntime | lleaves | tl2cgen | gtil | onedal) "$here/prepare.sh" ;;
	*)
		if [[ ! $name =~ ^[a-z]+$ || ! -e $here/servers/$name/requirements.txt ]]; then
			echo "install.sh: there is no peer $name" >&2
			exit 2
		fi
		"$here/servers/serve.sh" "$name"
		;;
	esac
	echo "$name is installed"
done
