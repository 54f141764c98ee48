#!/bin/bash
# Puts the library of ONNX Runtime, its licence and its notices where an image has them.
#
#   image-onnxruntime.sh amd64|arm64 DIR
set -euo pipefail

arch=$1 root=$2
case $arch in
amd64) machine=x86_64 ;;
arm64) machine=aarch64 ;;
*) echo "ONNX Runtime is not put into images for $arch" >&2; exit 1 ;;
esac
here=$(cd "$(dirname "$0")" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m pip --disable-pip-version-check download --quiet --no-deps --only-binary=:all: --platform "manylinux_2_28_$machine" \
	--python-version 3.12 --require-hashes --requirement "$here/onnxruntime-requirements.txt" --dest "$work"
unzip -q "$work"/onnxruntime-*.whl -d "$work/wheel"
lib=$root/usr/lib/$machine-linux-gnu doc=$root/usr/share/doc/onnxruntime
umask 022
mkdir -p "$lib" "$doc"
cp "$work"/wheel/onnxruntime/capi/libonnxruntime.so.* "$lib/"
(cd "$lib" && library=$(echo libonnxruntime.so.*) && ln -s "$library" libonnxruntime.so.1 && ln -s libonnxruntime.so.1 libonnxruntime.so)
cp "$work"/wheel/onnxruntime/LICENSE "$work"/wheel/onnxruntime/ThirdPartyNotices.txt "$doc/"
