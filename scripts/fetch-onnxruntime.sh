#!/bin/sh
# Puts ONNX Runtime 1.32.0 into .cache/onnxruntime/1.32.0/libonnxruntime.so of this repository, for the tests of backends/onnx
# and the benchmarks. It comes from the Python wheel onnxruntime. An operator installs it as docs/OPERATIONS.md says.
#
#   scripts/fetch-onnxruntime.sh [x86_64|aarch64]        # that of another machine goes into a folder of its own, 1.32.0-MACHINE
set -eu

machine=${1:-$(uname -m)}
folder=1.32.0
[ "$machine" = "$(uname -m)" ] || folder=1.32.0-$machine

case $(uname -s)/$machine in
Linux/x86_64)
	wheel_sha256=5a34fc4dfeb5a7b4a74c95dcba1e773d722abda720b474edf1b0c419dc6d163d
	library_sha256=6c1585d1bbf45b0712ea4a21b705c5fcb4ba04ff2e30f1fbf81a49faf658638f
	;;
Linux/aarch64)
	wheel_sha256=2303372a85299b6757b0e11e1cbf13e410ddf7e10c37f4b37e99d1c90e7daf7c
	library_sha256=49852228a93995158b2a813d4df487d47a1b76b0eaa894507ef49e91b6d7954a
	;;
*)
	echo "fetch-onnxruntime: the wheel is pinned for Linux on x86-64 and aarch64, this is $(uname -s) on $machine" >&2
	exit 1
	;;
esac
exec "$(dirname "$0")/fetch-library.sh" onnxruntime 1.32.0 "manylinux_2_28_$machine" 3.11 \
	"$wheel_sha256" /libonnxruntime.so. \
	"onnxruntime/$folder/libonnxruntime.so" "$library_sha256"
