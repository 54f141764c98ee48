#!/usr/bin/env bash
# Compiles the kernels of backends/cuda again and wants the committed PTX; then has NVIDIA's assembler, from its wheel on PyPI, make code of it for
# every generation of GPUs from Volta on, as the driver does when a model is loaded.
set -euo pipefail
cd "$(dirname "$0")/.."
command -v clang-14 >/dev/null || { echo "clang-14 is not installed: apt-get install clang-14" >&2; exit 1; }
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
scripts/cuda-kernels.sh "$work/forest.ptx"
diff -q "$work/forest.ptx" backends/cuda/kernel/forest.ptx >/dev/null || { echo "backends/cuda/kernel/forest.ptx is not what forest.cu compiles to: run scripts/cuda-kernels.sh" >&2; exit 1; }
cache=.cache/ptxas
if [ ! -x $cache/ptxas ]; then
	mkdir -p $cache
	python3 -m pip download --quiet --no-deps --only-binary :all: --platform manylinux2014_x86_64 --platform manylinux2010_x86_64 -d "$work" nvidia-cuda-nvcc-cu12==12.9.86
	python3 -c 'import sys, zipfile; zipfile.ZipFile(sys.argv[1]).extract("nvidia/cuda_nvcc/bin/ptxas", sys.argv[2])' "$work"/*.whl "$work"
	install -m 755 "$work/nvidia/cuda_nvcc/bin/ptxas" $cache/ptxas
fi
for arch in 70 75 80 86 89 90 100; do
	$cache/ptxas -arch=sm_$arch backends/cuda/kernel/forest.ptx -o "$work/forest.cubin"
	echo "sm_$arch: $(stat -c %s "$work/forest.cubin") bytes of code"
done
