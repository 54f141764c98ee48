#!/usr/bin/env bash
# Compiles the kernels of backends/cuda to PTX, which is committed and which the driver compiles for the GPU it finds. Give a file name to write
# it there instead. It needs clang 14 and nothing of NVIDIA's (Debian: apt-get install clang-14); the same clang gives the same bytes.
set -euo pipefail
cd "$(dirname "$0")/../backends/cuda/kernel"
out=${1:-forest.ptx}
# sm_70 and PTX 6.0: Volta, Turing (the T4 of g4dn) and later, and every driver since 2017. Multiplications are not fused with additions, and
# divisions and subnormal numbers are IEEE's, so that the bits are those of the host's code.
clang-14 -x cuda --cuda-device-only -nocudainc -nocudalib --cuda-gpu-arch=sm_70 -Xclang -target-feature -Xclang +ptx60 -Wno-unknown-cuda-version \
	-O3 -ffp-contract=off -fno-cuda-flush-denormals-to-zero -nostdinc -isystem "$(clang-14 -print-resource-dir)/include" -Wall -Wextra -Werror -Wno-unused-command-line-argument -S -o "$out.tmp" forest.cu
# Comments hold the name of the compiler's build, which differs from one Debian to the next.
grep -vE '^\s*(//.*)?$' "$out.tmp" > "$out"
rm "$out.tmp"
