#!/bin/sh
# Calls a daemon of its own, with the demo's model, as users of the Open Inference
# Protocol do: with NVIDIA's tritonclient over gRPC, HTTP and shared memory, with its
# perf_analyzer, and with schemathesis, which makes requests of every kind out of the
# OpenAPI description. The virtual environment lies below .cache/ of the repository.
#
#   run.sh          all of it
#   run.sh --setup  only prepares the environment
set -eu
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../../.." && pwd)
venv=$root/.cache/oip-client/venv
. "$root/scripts/demo-daemon.sh"

setup() {
	# The copy of requirements.txt is written last: it marks a complete environment.
	if ! cmp -s "$here/requirements.txt" "$venv/requirements.txt"; then
		echo "setting up the Python environment of the Open Inference Protocol's clients (once)"
		rm -rf "$venv"
		python3 -m venv "$venv"
		"$venv/bin/python" -m pip install --quiet --disable-pip-version-check --requirement "$here/requirements.txt"
		cp "$here/requirements.txt" "$venv/requirements.txt"
	fi
}

start() {
	prepare
	# tritonclient's HTTP client and perf_analyzer's speak TCP only. Port 0 is any
	# free one; the log says which.
	cat >"$work/picketd.yaml" <<-EOF
		sockets: {dir: $work/run, oip: {control: true}}
		tcp: {listen: ["127.0.0.1:0"], control: true, shared_memory: true}
		models: [{name: fraud, path: $work/fraud}]
		unsigned: true
		host: {imds: false}
	EOF
	serve --config "$work/picketd.yaml"
	port=$(sed -n 's/.*msg=ready.*127\.0\.0\.1:\([0-9]*\).*/\1/p' "$work/log")
}

# perf_analyzer measures nothing here that is kept: it must get through. It is
# told to be content with any figure (-s is how far they may lie apart in per cent).
perf_analyzer() {
	echo "perf_analyzer $*"
	cuda=$(echo "$venv"/lib/python3*/site-packages/nvidia/cuda_runtime/lib)
	if ! LD_LIBRARY_PATH=$cuda timeout 120 "$venv/bin/perf_analyzer" -m fraud -p 300 -s 1000 -r 10 "$@" >"$work/perf" 2>&1; then
		cat "$work/perf" >&2
		exit 1
	fi
	grep '^Concurrency' "$work/perf" | sed 's/^/  /'
}

setup
case ${1-} in
--setup) exit ;;
'') ;;
*) echo "unknown argument $1; there is --setup" >&2; exit 2 ;;
esac
start
PYTHONDONTWRITEBYTECODE=1 "$venv/bin/python" "$here/client.py" --socket "$work/run/oip.sock" --http "127.0.0.1:$port" --name fraud \
	--rows "$root/examples/demo/transactions.csv" --expected "$work/expected.csv"
perf_analyzer -i grpc -u "unix:$work/run/oip.sock" -b 8
perf_analyzer -i grpc -u "unix:$work/run/oip.sock" -b 8 --shared-memory system
perf_analyzer -i grpc -u "unix:$work/run/oip.sock" --streaming --concurrency-range 4
perf_analyzer -i http -u "127.0.0.1:$port" -b 8
perf_analyzer -i http -u "127.0.0.1:$port" -b 8 --shared-memory system
echo "schemathesis on the OpenAPI description"
if ! (cd "$work" && "$venv/bin/schemathesis" --config-file "$here/schemathesis.toml" run "http://127.0.0.1:$port/openapi.yaml" >"$work/schemathesis" 2>&1); then
	cat "$work/schemathesis" >&2
	exit 1
fi
sed -n 's/^ *\([0-9][0-9]* generated.*\)/  \1/p' "$work/schemathesis"
