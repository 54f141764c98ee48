#!/bin/sh
# Puts ONNX Runtime 1.32.0 into .cache/onnxruntime/1.32.0/libonnxruntime.so of this repository, for the tests of backends/onnx
# and the benchmarks. An operator installs it as docs/OPERATIONS.md says.
#
# It comes from the Python wheel onnxruntime, which is only an archive to us: nothing of it is installed. pip checks the
# wheel against the hash below, this script checks the library itself, and nothing appears under its final name
# before both have passed. Nothing is done when the library is already there.
#
#   scripts/fetch-onnxruntime.sh [x86_64|aarch64]        # that of another machine goes into a folder of its own, 1.32.0-MACHINE
set -eu

version=1.32.0
machine=${1:-$(uname -m)}

fail() {
	echo "fetch-onnxruntime: $1" >&2
	exit 1
}

case $(uname -s)/$machine in
Linux/x86_64)
	wheel_sha256=5a34fc4dfeb5a7b4a74c95dcba1e773d722abda720b474edf1b0c419dc6d163d
	library_sha256=6c1585d1bbf45b0712ea4a21b705c5fcb4ba04ff2e30f1fbf81a49faf658638f
	;;
Linux/aarch64)
	wheel_sha256=2303372a85299b6757b0e11e1cbf13e410ddf7e10c37f4b37e99d1c90e7daf7c
	library_sha256=49852228a93995158b2a813d4df487d47a1b76b0eaa894507ef49e91b6d7954a
	;;
*) fail "the wheel is pinned for Linux on x86-64 and aarch64, this is $(uname -s) on $machine" ;;
esac

root=$(cd "$(dirname "$0")/.." && pwd)
folder=$version
[ "$machine" = "$(uname -m)" ] || folder=$version-$machine
folder=$root/.cache/onnxruntime/$folder
library=$folder/libonnxruntime.so

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

echo "onnxruntime==$version --hash=sha256:$wheel_sha256" >"$work/requirements.txt"
python3 -m pip --disable-pip-version-check download --quiet --no-deps --only-binary=:all: \
	--platform "manylinux_2_28_$machine" --python-version 3.11 --require-hashes \
	--requirement "$work/requirements.txt" --dest "$work" ||
	fail "pip could not download onnxruntime $version; check the network, or the proxy and index in pip's configuration"

python3 - "$work" <<'PYTHON' || fail "the wheel of onnxruntime $version could not be unpacked"
import pathlib, sys, zipfile

work = pathlib.Path(sys.argv[1])
(wheel,) = work.glob("*.whl")
with zipfile.ZipFile(wheel) as archive:
    (member,) = [name for name in archive.namelist() if "/libonnxruntime.so." in name]
    (work / "libonnxruntime.so").write_bytes(archive.read(member))
PYTHON

matches "$work/libonnxruntime.so" || fail "the wheel of onnxruntime $version holds another library than the pinned one"
mv "$work/libonnxruntime.so" "$library"
echo "fetch-onnxruntime: ONNX Runtime $version is in $folder"
