#!/usr/bin/env bash
# Compiles picket and picketd for arm64 as they are released, and has them answer on an emulated one (qemu's user mode): as a core of
# 2012 and as one of 2019, which has dot products. Minutes: not a part of make test, which runs the kernels (make test-neon).
set -euo pipefail
cd "$(dirname "$0")/.."
sysroot=${ARM64_SYSROOT:-/usr/aarch64-linux-gnu}
export CC=${ARM64_CC:-aarch64-linux-gnu-gcc}

work=$(mktemp -d)
daemon=
trap 'status=$?; [ -z "$daemon" ] || kill "$daemon" 2>/dev/null || true; [ $status -eq 0 ] || cat "$work/log" >&2 2>/dev/null; rm -rf "$work"; exit $status' EXIT
trap 'exit 1' HUP INT TERM
echo "compiling picket and picketd for linux/arm64, as they are released"
scripts/build-binaries.sh linux/arm64 .cache/arm64
mkdir -p "$work/fraud"
cp examples/demo/fraud.ubj "$work/fraud/"
for core in cortex-a53 neoverse-n1; do
	: >"$work/log"
	PICKET_IMDS=off qemu-aarch64 -L "$sysroot" -cpu $core .cache/arm64/picketd --unsigned --sockets "$work/run" --model fraud="$work/fraud" 2>"$work/log" &
	daemon=$!
	for ((tries = 0; tries < 1200; tries++)); do
		if grep -q 'msg=ready' "$work/log"; then break; fi
		kill -0 $daemon 2>/dev/null || { echo "the daemon ended before it was ready" >&2; exit 1; }
		sleep 0.05
	done
	qemu-aarch64 -L "$sysroot" -cpu $core .cache/arm64/picket --sockets "$work/run" predict fraud --json --input - <examples/demo/transactions.csv |
		sed -n 's/.*\[\(-\{0,1\}[0-9][-+.0-9e]*\)\].*/\1/p' >"$work/answers"
	tail -n +2 examples/demo/expected.csv | cut -d , -f 1 | paste "$work/answers" - | awk '
		{ d = $1 - $2; if (d < 0) d = -d; if (NF != 2 || d > 1e-8 + 1e-5 * $2) wrong++ }
		END { if (NR != 300 || wrong) { printf "%d answers, %d of them not XGBoost'"'"'s\n", NR, wrong > "/dev/stderr"; exit 1 } }'
	kill -TERM $daemon
	wait $daemon || { echo "the daemon did not end well" >&2; exit 1; }
	daemon=
	echo "  $core: all 300 predictions are XGBoost's; stopped by SIGTERM with exit code 0"
done
