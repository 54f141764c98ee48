#!/usr/bin/env bash
# Runs what of the tests can run on an emulated arm64 (qemu's user mode), and has the daemon as it is released answer there. Tens of
# minutes: not a part of make test, which runs the kernels and the packages that matter most (make test-neon).
#
#   scripts/test-arm64-suite.sh [daemon] [tests]        # both without any
set -euo pipefail
cd "$(dirname "$0")/.."
parts=${*:-daemon tests}
sysroot=${ARM64_SYSROOT:-/usr/aarch64-linux-gnu}
export CC=${ARM64_CC:-aarch64-linux-gnu-gcc}

# Packages that cannot be tried under qemu's user mode, and why. The rest must pass.
cannot() {
	cat <<-'LIST'
		cmd/picket                         its tests start its own executable, which this machine would run, and compile models with the machine's C compiler
		cmd/picketd                        the same; scripts/test-arm64-suite.sh daemon has it answer
		backends/dlr                       libdlr exists for x86-64 alone
		cdlr                               the same
		backends/treelite                  compiles models with the machine's C compiler, for x86-64
		packaging/compile                  the same
		internal/archtest                  reads the sources, which are the same
		internal/assemble                  compiles models with the machine's C compiler, for x86-64
		internal/hw                        reads /proc of the machine below, which is another one's
		internal/shm                       qemu does not pass SO_PEERGROUPS and System V segments as the kernel does
		internal/server                    the same, and Linux's aio of vectored messages
		internal/ring                      futexes of memory that two emulated processes share
		lane                               the same
		internal/testkit                   starts servers that are built for this machine
		internal/capture/upload            starts versitygw, which is built for this machine
		internal/transfer                  the same
		internal/fleet                     the same
		internal/cloud                     the same
		internal/pipeline                  starts Python of this machine under the emulator's environment
		internal/store                     its tests open artifacts of x86-64
		internal/trace                     needs the lane
		engine                             its tests open artifacts of x86-64
		backends/backendtest               the same
		backends/neo                       the same
		bench                              measures
		examples                           start programs of this machine
		scripts                            are for this machine
	LIST
}

if [[ $parts == *daemon* ]]; then
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
fi

if [[ $parts == *tests* ]]; then
	module=$(go list -m)
	skip=$(cannot | awk '{ print $1 }' | paste -sd '|')
	packages=$(go list ./... | grep -vE "^$module/($skip)(/|\$)")
	echo "not tried under qemu:"
	cannot | sed 's/^/  /'
	# shellcheck disable=SC2086 # a list
	GOARCH=arm64 CGO_ENABLED=0 go test -short -vet=off -count=1 -timeout 20m -exec "qemu-aarch64 -L $sysroot -cpu neoverse-n1" $packages
fi
