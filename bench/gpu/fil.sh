#!/usr/bin/env bash
# Installs cuML (Forest Inference Library) from PyPI into .cache/fil, for make bench-gpu to measure beside Picket. It needs Python 3.10 or newer,
# the network, and some 5 GB of disk.
set -euo pipefail
cd "$(dirname "$0")/../.."
test -x .cache/fil/bin/python || python3 -m venv .cache/fil
.cache/fil/bin/pip install --quiet cuml-cu12 treelite numpy cupy-cuda12x
.cache/fil/bin/python -c 'import cuml; print("cuML", cuml.__version__)'
