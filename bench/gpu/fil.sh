#!/usr/bin/env bash
# Installs NVIDIA's Forest Inference Library (nvforest, which was a part of cuML) from PyPI into .cache/fil, for make bench-gpu to measure beside
# Picket. It needs Python 3.11 or newer, the network, and some 5 GB of disk. FIL_CUDA=13 takes the build for CUDA 13, which wants driver 580 or newer.
set -euo pipefail
cd "$(dirname "$0")/../.."
cuda=${FIL_CUDA:-12}
test -x .cache/fil/bin/python || python3 -m venv .cache/fil
.cache/fil/bin/pip install --quiet "nvforest-cu$cuda==26.10.0" treelite==4.8.1 "cupy-cuda${cuda}x[ctk]>=14.0.1,!=14.1.0"
.cache/fil/bin/python -c 'import nvforest; print("nvforest", nvforest.__version__)'
