#!/bin/sh
# Puts a library that a Python wheel contains into .cache of this repository, for scripts/fetch-libdlr.sh and scripts/fetch-onnxruntime.sh:
#
#     fetch-library.sh PACKAGE VERSION PLATFORM PYTHON WHEEL_SHA256 MEMBER PLACE LIBRARY_SHA256
#
# PLATFORM and PYTHON are those that the wheel is tagged for, MEMBER is what the library's name in the wheel contains, and PLACE is
# where it goes, below .cache. The wheel is only an archive to us: nothing of it is installed. pip checks the wheel against its hash, this
# script checks the library itself, and nothing appears under its final name before both have passed. Nothing is done when the library is
# already there.
set -eu

package=$1 version=$2 platform=$3 python=$4 wheel_sha256=$5 member=$6 place=$7 library_sha256=$8

fail() {
	echo "fetch-library: $1" >&2
	exit 1
}

root=$(cd "$(dirname "$0")/.." && pwd)
library=$root/.cache/$place
folder=$(dirname "$library")

matches() {
	[ -f "$1" ] && [ "$(sha256sum "$1" | cut -d ' ' -f 1)" = "$library_sha256" ]
}

matches "$library" && exit 0

command -v python3 >/dev/null ||
	fail "python3 is missing; install it with its pip (Debian, Ubuntu: apt-get install python3-pip)"
python3 -m pip --version >/dev/null 2>&1 ||
	fail "pip is missing; install it (Debian, Ubuntu: apt-get install python3-pip)"

mkdir -p "$folder"
# A folder of our own beside the target: two runs at once do not meet, and the last step is an atomic rename.
work=$(mktemp -d "$folder/fetch.XXXXXX")
trap 'rm -rf "$work"' EXIT
trap 'exit 1' HUP INT TERM

echo "$package==$version --hash=sha256:$wheel_sha256" >"$work/requirements.txt"
python3 -m pip --disable-pip-version-check download --quiet --no-deps --only-binary=:all: \
	--platform "$platform" --python-version "$python" --require-hashes \
	--requirement "$work/requirements.txt" --dest "$work" ||
	fail "pip could not download $package $version; check the network, or the proxy and index in pip's configuration"

python3 - "$work" "$member" <<'PYTHON' || fail "the wheel of $package $version could not be unpacked"
import pathlib, sys, zipfile

work = pathlib.Path(sys.argv[1])
(wheel,) = work.glob("*.whl")
with zipfile.ZipFile(wheel) as archive:
    (member,) = [name for name in archive.namelist() if sys.argv[2] in name]
    (work / "library").write_bytes(archive.read(member))
PYTHON

matches "$work/library" || fail "the wheel of $package $version holds another library than the pinned one"
mv "$work/library" "$library"
echo "fetch-library: $package $version is in .cache/$place"
