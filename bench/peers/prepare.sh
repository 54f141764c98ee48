#!/usr/bin/env bash
# Makes .cache/bench/peers/NAME/FORM, what one peer runs, of a model file, unless it is there: prepare.sh FORM NAME MODEL
# Without arguments it makes .cache/venv-peers, where the peers' libraries are.
# Needs Python 3.11 with venv (PYTHON, default python3), gcc, g++ (CXX), and patience: compilers of trees take minutes for a large model.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)

# venv NAME REQUIREMENTS makes the environment, unless it is complete.
venv() {
	local dir=$root/.cache/venv-$1
	if ! cmp -s "$2" "$dir/installed.txt"; then
		rm -rf "$dir"
		"${PYTHON:-python3}" -m venv "$dir"
		"$dir/bin/pip" install --quiet --disable-pip-version-check --no-deps --only-binary=:all: -r "$2" >&2
		cp "$2" "$dir/installed.txt"
	fi
}

# onedal compiles what calls oneDAL, unless it is there. oneDAL's libraries do not name those that they need themselves.
onedal() {
	local lib=$root/.cache/venv-peers/lib include=$root/.cache/venv-peers/include source=$root/bench/peers/onedal/onedal.cc
	local made
	made=$(cat "$source" "$0" "$root/bench/peers/requirements.txt" | sha256sum)
	[ ! -e "$lib/libpicket_onedal.so" ] || [ "$(cat "$lib/libpicket_onedal.made")" != "$made" ] || return 0
	# shellcheck disable=SC2016 # the linker expands it
	"${CXX:-g++}" -std=c++17 -O2 -Wall -Wextra -Werror -shared -fPIC -isystem "$include/dal" -isystem "$include" -o "$lib/libpicket_onedal.so.new" "$source" \
		-Wl,--no-as-needed "$lib"/libonedal_core.so.4 "$lib"/libonedal_thread.so.4 "$lib"/libtbb.so.12 "$lib"/libtbbmalloc.so.2 -Wl,-rpath,'$ORIGIN'
	mv "$lib/libpicket_onedal.so.new" "$lib/libpicket_onedal.so"
	echo "$made" >"$lib/libpicket_onedal.made"
}

if [ $# = 0 ]; then
	venv peers "$root/bench/peers/requirements.txt"
	onedal
	exit
fi

form=$1 out=$root/.cache/bench/peers/$2/$1
[ ! -e "$out" ] || exit 0
environment=peers
if [ "$form" = treelite093 ]; then
	environment=treelite-0.93
	venv treelite-0.93 "$root/scripts/fixtures/requirements/treelite-0.93.txt"
fi
mkdir -p "$(dirname "$out")/part"
part=$(mktemp -d "$(dirname "$out")/part/$form.XXXXXX")
trap 'rm -rf "$part"' EXIT
"$root/.cache/venv-$environment/bin/python" -W ignore "$root/bench/peers/prepare.py" "$form" "$3" "$part/$form.so" >&2
mv "$part/$form.so" "$out"
