#!/bin/sh
# Puts a real libdlr 1.6.0 into .cache/libdlr/1.6.0/libdlr.so of this repository, for the tests of cdlr and backends/dlr.
#
# It comes from the Python wheel dlr 1.6.0, the last one that contains the library. The wheel is tagged for Python 3.7,
# but only an archive to us: nothing of it is installed. pip checks the wheel against the hash below, this script
# checks the library itself, and nothing appears under its final name before both have passed. Nothing is
# done when the library is already there.
set -eu

version=1.6.0
wheel_sha256=cb9672db941537567005d6c5ea98a03ede8ca4c8f8c51db4fcfa49d83d3c75cf
library_sha256=570d8e462cd1f4f6d997e150d6d0eea0026010098194bef62d1ad4f8e1196ca7

fail() {
	echo "fetch-libdlr: $1" >&2
	exit 1
}

root=$(cd "$(dirname "$0")/.." && pwd)
folder=$root/.cache/libdlr/$version
library=$folder/libdlr.so

matches() {
	[ -f "$1" ] && [ "$(sha256sum "$1" | cut -d ' ' -f 1)" = "$library_sha256" ]
}

matches "$library" && exit 0

if [ "$(uname -s)/$(uname -m)" != Linux/x86_64 ]; then
	fail "libdlr $version was published for Linux on x86-64 only, this is $(uname -s) on $(uname -m)"
fi
command -v python3 >/dev/null ||
	fail "python3 is missing; install it with its pip (Debian, Ubuntu: apt-get install python3-pip)"
python3 -m pip --version >/dev/null 2>&1 ||
	fail "pip is missing; install it (Debian, Ubuntu: apt-get install python3-pip)"

mkdir -p "$folder"
# A folder of our own beside the target: two runs at once do not meet, and the last step is an atomic rename.
work=$(mktemp -d "$folder/fetch.XXXXXX")
trap 'rm -rf "$work"' EXIT
trap 'exit 1' HUP INT TERM

echo "dlr==$version --hash=sha256:$wheel_sha256" >"$work/requirements.txt"
python3 -m pip --disable-pip-version-check download --quiet --no-deps --only-binary=:all: \
	--platform manylinux1_x86_64 --python-version 3.7 --require-hashes \
	--requirement "$work/requirements.txt" --dest "$work" ||
	fail "pip could not download dlr $version; check the network, or the proxy and index in pip's configuration"

python3 - "$work" <<'PYTHON' || fail "the wheel of dlr $version could not be unpacked"
import pathlib, sys, zipfile

work = pathlib.Path(sys.argv[1])
(wheel,) = work.glob("*.whl")
with zipfile.ZipFile(wheel) as archive:
    (member,) = [name for name in archive.namelist() if name.endswith("/libdlr.so")]
    (work / "libdlr.so").write_bytes(archive.read(member))
PYTHON

matches "$work/libdlr.so" || fail "the wheel of dlr $version holds another libdlr.so than the pinned one"
mv "$work/libdlr.so" "$library"
echo "fetch-libdlr: libdlr $version is in .cache/libdlr/$version"
