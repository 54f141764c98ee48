#!/usr/bin/env bash
# Makes the archive for Windows as it is released, and has what is in it answer under Debian's Wine, as a program of the console that Ctrl-C
# stops. 300 predictions by the agent's interface and by HTTP are compared with XGBoost's. Minutes the first time: not a part of make test, which compiles for Windows (make vet-windows).
set -euo pipefail
cd "$(dirname "$0")/.."

fail() { echo "test-windows: $1" >&2; exit 1; }
wine=${WINE:-/usr/lib/wine/wine64}
[ -x "$wine" ] || fail "there is no Wine: apt-get install wine64"
server=${WINESERVER:-/usr/lib/wine/wineserver64}

# A prefix is what Wine calls an installation of its own, here one for this test.
export WINEPREFIX=$PWD/.cache/wine WINEDEBUG=${WINEDEBUG:--all} WINEDLLOVERRIDES='mscoree,mshtml=' WINESERVER=$server
unset DISPLAY
work=$(mktemp -d)
daemon=
end() {
	status=$?
	trap - EXIT
	if [ $status -ne 0 ]; then tail -n 20 "$work"/*.log >&2 || true; fi
	"$server" -k || true # with all that runs in it
	[ -z "$daemon" ] || wait "$daemon" 2>/dev/null || true
	rm -rf "$work"
	exit $status
}
trap end EXIT
trap 'exit 1' HUP INT TERM

echo "making the archive"
PLATFORMS=windows/amd64 scripts/release.sh "$work/release" >"$work/release.log" 2>&1
archive=$(echo "$work"/release/picket-*-windows-amd64.zip)
unzip -q "$archive" -d "$work/unpacked"
picket=$(echo "$work"/unpacked/*/bin/picket.exe) picketd=$(echo "$work"/unpacked/*/bin/picketd.exe)

echo "making a Windows of Wine, version $("$wine" --version)"
mkdir -p "$WINEPREFIX"
"$wine" wineboot --init >"$work/wineboot.log" 2>&1
"$server" -w
drive=$WINEPREFIX/drive_c
# Go's programs ask a library for random numbers that Windows has had since 7 and Wine since 9. Here it is one that passes the question on
# to where older ones ask.
if ! [ -e "$drive/windows/system32/bcryptprimitives.dll" ]; then
	command -v x86_64-w64-mingw32-ld >/dev/null || fail "Wine lacks a library that is made with binutils: apt-get install binutils-mingw-w64-x86-64"
	printf 'LIBRARY bcryptprimitives.dll\nEXPORTS\n  ProcessPrng = advapi32.SystemFunction036\n' >"$work/bcryptprimitives.def"
	x86_64-w64-mingw32-ld -shared -e 0 -o "$work/bcryptprimitives.dll" "$work/bcryptprimitives.def"
	cp "$work/bcryptprimitives.dll" "$drive/windows/system32/"
fi

rm -rf "$drive/picket" "$drive/ProgramData/Picket"
mkdir -p "$drive/picket/fraud" "$drive/ProgramData/Picket"
cp examples/demo/fraud.ubj "$drive/picket/fraud/"
cp "$picketd" "$picket" "$drive/picket/"
port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
picket() { "$wine" 'C:\picket\picket.exe' --sockets "tcp://127.0.0.1:$port" "$@"; }

# compare FILE: it has the 300 probabilities, one a line, that XGBoost gave.
compare() {
	tail -n +2 examples/demo/expected.csv | cut -d , -f 1 | paste "$1" - | awk '
		{ d = $1 - $2; if (d < 0) d = -d; if (NF != 2 || d > 1e-8 + 1e-5 * $2) wrong++ }
		END { if (NR != 300 || wrong) { printf "%d answers, %d of them not XGBoost'"'"'s\n", NR, wrong > "/dev/stderr"; exit 1 } }'
}

# ask: the daemon answers by both interfaces as XGBoost does.
ask() {
	picket predict fraud --json --input - <examples/demo/transactions.csv | tr -d '\r' |
		sed -n 's/.*\[\(-\{0,1\}[0-9][-+.0-9e]*\)\].*/\1/p' >"$work/answers"
	compare "$work/answers"
	curl -fsS -H 'Content-Type: text/csv' --data-binary @examples/demo/transactions.csv "http://127.0.0.1:$port/invocations" | tr ',' '\n' | sed '/^$/d' >"$work/answers"
	compare "$work/answers"
}

# ready: waits until the daemon serves.
ready() {
	for ((tries = 0; tries < 1200; tries++)); do
		if curl -fs -o "$work/ready" "http://127.0.0.1:$port/v2/health/ready"; then return; fi
		[ -z "$daemon" ] || kill -0 "$daemon" 2>/dev/null || fail "the daemon ended before it was ready"
		sleep 0.05
	done
	fail "the daemon was not ready within a minute"
}

printf 'tcp: {listen: ["127.0.0.1:%d"], agent: true}\nunsigned: true\nhost: {imds: false}\nmodels: [{name: fraud, path: C:\\picket\\fraud}]\n' "$port" >"$drive/ProgramData/Picket/picketd.yaml"

# Wine 8 has no Unix sockets, and without a port in their place the daemon says so.
if "$wine" 'C:\picket\picketd.exe' --sockets 'C:\picket\run' --unsigned >"$work/unix.log" 2>&1 || ! grep -q 'this Windows has no Unix sockets' "$work/unix.log"; then
	fail "a daemon without Unix sockets and without a port did not say what is missing"
fi
"$wine" 'C:\picket\picketd.exe' --config 'C:\ProgramData\Picket\picketd.yaml' </dev/null >"$work/console.log" 2>&1 &
daemon=$!
ready
ask
kill -INT "$daemon" # which Wine makes a Ctrl-C of
wait "$daemon" || fail "the daemon did not end well"
daemon=
grep -q 'msg=stopped' "$work/console.log" || fail "the daemon did not say that it has stopped"
echo "  console: all 300 predictions are XGBoost's, by the agent's interface and by HTTP; stopped by Ctrl-C with exit code 0"
