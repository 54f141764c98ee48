#!/usr/bin/env bash
# Makes the archive for Windows as it is released, and has what is in it answer under Debian's Wine: as a program of the console that Ctrl-C
# stops, and as a service that is installed, started, stopped and removed. 300 predictions by the agent's interface and by HTTP are compared with XGBoost's, and what
# Windows cannot have is asked for. Minutes the first time: not a part of make test, which compiles for Windows (make vet-windows).
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
if grep -qsF 'Services\\picketd]' "$WINEPREFIX/system.reg"; then rm -rf "$WINEPREFIX"; fi # what a test that failed has left
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

# Wine ends its services, and its server, with the last program, and starts them with the first: a shell that waits stays until the end. Without
# it now and then a program meets a server that is just ending, and ends without a word.
mkfifo "$work/session"
"$wine" cmd <"$work/session" >"$work/session.log" 2>&1 &
exec 9>"$work/session"

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

base=$(printf 'tcp: {listen: ["127.0.0.1:%d"], agent: true}\nunsigned: true\nhost: {imds: false}' "$port")
printf '%s\nmodels: [{name: fraud, path: C:\\picket\\fraud}]\n' "$base" >"$drive/ProgramData/Picket/picketd.yaml"

# refused CONFIG TEXT: a daemon does not start with it, and says so in one line with TEXT.
refused() {
	printf '%s\n' "$1" >"$drive/picket/refused.yaml"
	if timeout 60 "$wine" 'C:\picket\picketd.exe' --config 'C:\picket\refused.yaml' </dev/null >"$work/refused.log" 2>&1; then fail "a daemon has started and ended with $1"; fi
	grep -q "$2" "$work/refused.log" && [ "$(wc -l <"$work/refused.log")" -eq 1 ] || fail "a daemon that was asked for $1 did not say in one line: $2"
}
refused 'unsigned: true' 'this Windows has no Unix sockets' # which Wine 8 has not
refused "$base
sockets: {oip: {group: staff}}" 'sockets.oip.group: a socket has no group on Windows'
refused "$base
sockets: {control: {allow_users: [\"1000\"]}}" 'sockets.control.allow_users and allow_groups: Windows does not say who is at the other end'
refused "$base
limits: {max_connections_per_user: 3}" 'limits.max_connections_per_user: Windows does not say who is at the other end'
refused "${base/agent: true/agent: true, shared_memory: true}" 'tcp.shared_memory: Windows has no POSIX shared memory'
if "$wine" 'C:\picket\picket.exe' bench run local >"$work/refused.log" 2>&1 || ! grep -q 'picketd and what is measured beside it run on Linux' "$work/refused.log"; then fail "a suite of benchmarks is not refused"; fi
# What is asked for of a model keeps that model out, and not the daemon from serving.
mkdir -p "$drive/picket/compiled"
cp internal/testkit/testdata/treelite/fraud-tl2cgen1.0.0/* "$drive/picket/compiled/"
cat >"$drive/picket/models.yaml" <<YAML
$base
models:
  - {name: fraud, path: C:\picket\fraud}
  - {name: bound, path: C:\picket\fraud, cores: "0"}
  - {name: pinned, path: C:\picket\fraud, pin: true}
  - {name: compiled, path: C:\picket\compiled}
YAML
"$wine" 'C:\picket\picketd.exe' --config 'C:\picket\models.yaml' </dev/null >"$work/models.log" 2>&1 &
daemon=$!
for ((tries = 0; tries < 1200; tries++)); do
	if grep -q 'msg=ready' "$work/models.log"; then break; fi
	kill -0 "$daemon" 2>/dev/null || fail "the daemon ended because of what a model wants"
	sleep 0.05
done
ask
kill -INT "$daemon"
wait "$daemon" || fail "the daemon did not end well"
daemon=
while IFS='|' read -r model text; do
	grep 'msg="loading a model"' "$work/models.log" | grep "model=$model " | grep -q "$text" || fail "it is not said of model $model: $text"
done <<'TEXTS'
bound|CPU affinity is read on Linux only
pinned|that is done on Unix systems only, and this is windows
compiled|native libraries cannot be loaded: this program was built without cgo or for another system than Linux
TEXTS
echo "  refused: what Windows cannot have, each in one sentence"

"$wine" 'C:\picket\picketd.exe' --config 'C:\ProgramData\Picket\picketd.yaml' </dev/null >"$work/console.log" 2>&1 &
daemon=$!
ready
ask
kill -INT "$daemon" # which Wine makes a Ctrl-C of
wait "$daemon" || fail "the daemon did not end well"
daemon=
grep -q 'msg=stopped' "$work/console.log" || fail "the daemon did not say that it has stopped"
echo "  console: all 300 predictions are XGBoost's, by the agent's interface and by HTTP; stopped by Ctrl-C with exit code 0"

# The account of its own that a service has by default is Windows's to make: here it is the system's. Access lists and events are Wine's, which keeps few of them.
"$wine" 'C:\picket\picketd.exe' service install --account 'NT AUTHORITY\SYSTEM' >"$work/service.log" 2>&1 || fail "the service cannot be installed"
cmp -s "$drive/ProgramData/Picket/picketd.yaml" <(printf '%s\nmodels: [{name: fraud, path: C:\\picket\\fraud}]\n' "$base") || fail "installing the service has changed its configuration"
if "$wine" 'C:\picket\picketd.exe' service install >"$work/refused.log" 2>&1 || ! grep -q 'there is a service picketd already' "$work/refused.log"; then fail "a second service is not refused"; fi
# state NAME: waits until the service manager tells that it is in it.
state() {
	for ((tries = 0; tries < 100; tries++)); do
		if "$wine" sc query picketd 2>/dev/null | tr -d '\r' | grep -q "STATE .* $1"; then return; fi
		sleep 0.1
	done
	fail "the service is not $1"
}
"$wine" sc start picketd >>"$work/service.log" 2>&1 || fail "the service cannot be started"
state RUNNING
ready
ask
"$wine" sc stop picketd >>"$work/service.log" 2>&1 || fail "the service cannot be stopped"
state STOPPED
if curl -fs -o "$work/ready" "http://127.0.0.1:$port/v2/health/ready"; then fail "the service serves after its end"; fi
"$wine" 'C:\picket\picketd.exe' service uninstall >>"$work/service.log" 2>&1 || fail "the service cannot be removed"
if "$wine" sc query picketd >>"$work/service.log" 2>&1; then fail "the service is still there"; fi
[ -s "$drive/ProgramData/Picket/picketd.yaml" ] || fail "the service has taken its configuration along"
echo "  service: installed, started, the same 300 predictions, stopped, and removed"
