#!/usr/bin/env bash
# Compiles MLPerf Inference's own load generator, from the pinned source distribution of mlcommons-loadgen on PyPI, with mlperf/drive.cc, into
# .cache/loadgen/drive. Needs Python with pip (PYTHON, default python3), to fetch it alone, and a C++ compiler (CXX, default g++).
set -euo pipefail
root=$(cd "$(dirname "$0")/../.." && pwd)
here=$root/bench/loadgen
cache=$root/.cache/loadgen
made=$(cat "$here/install.sh" "$here/mlperf/drive.cc" "$here/requirements.txt" "$root/clients/c/picket_lane.h" | sha256sum)
[ -x "$cache/drive" ] && [ "$(cat "$cache/made" 2>/dev/null)" = "$made" ] && exit 0
sources=$cache/sources
if ! cmp -s "$here/requirements.txt" "$sources/requirements.txt"; then
	rm -rf "$sources"
	mkdir -p "$sources"
	"${PYTHON:-python3}" -m pip download --quiet --disable-pip-version-check --no-deps --no-binary :all: --require-hashes -r "$here/requirements.txt" -d "$sources" >&2
	tar -xzf "$sources"/mlcommons_loadgen-*.tar.gz -C "$sources" --strip-components=1
	cp "$here/requirements.txt" "$sources/requirements.txt"
fi
IFS=. read -r major minor _ <"$sources/VERSION.txt"
lib=()
for s in early_stopping issue_query_controller loadgen logging test_settings_internal utils version results generated/version_generated; do lib+=("$sources/$s.cc"); done
"${CXX:-g++}" -std=c++17 -O2 -pthread -static-libstdc++ -static-libgcc -w "-DMAJOR_VERSION=$major" "-DMINOR_VERSION=$minor" -I "$sources" -I "$root/clients/c" \
	-o "$cache/drive.new" "$here/mlperf/drive.cc" "${lib[@]}"
mv "$cache/drive.new" "$cache/drive"
echo "$made" >"$cache/made"
echo "compiled MLPerf's load generator into .cache/loadgen/drive" >&2
