#!/bin/sh
# Runs client.py in a virtual environment of its own, with fresh stubs, all below
# .cache/ of the repository.
#
#   run.sh                    starts bin/picketd on sockets of its own with the
#                             demo's model, and checks the answers against XGBoost's
#   run.sh --socket PATH ...  calls a daemon that is already running; the
#                             arguments are those of client.py
#   run.sh --setup            only prepares the environment and the stubs
set -eu
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../../.." && pwd)
cache=$root/.cache/python-client
venv=$cache/venv
stubs=$cache/stubs

setup() {
	mkdir -p "$cache"
	# The copy of requirements.txt is written last: it marks a complete environment.
	if ! cmp -s "$here/requirements.txt" "$venv/requirements.txt"; then
		echo "setting up the Python environment (once)"
		rm -rf "$venv"
		python3 -m venv "$venv"
		"$venv/bin/python" -m pip install --quiet --disable-pip-version-check --requirement "$here/requirements.txt"
		cp "$here/requirements.txt" "$venv/requirements.txt"
	fi
	rm -rf "$stubs"
	PYTHON=$venv/bin/python "$here/generate.sh" "$stubs"
}

client() {
	PYTHONDONTWRITEBYTECODE=1 PYTHONPATH=$stubs "$venv/bin/python" "$here/client.py" "$@"
}

# A daemon of our own, in a directory that is short enough for a socket's path
# wherever the repository lies, and gone at the end however that comes.
demo() {
	for binary in picket picketd; do
		if [ ! -x "$root/bin/$binary" ]; then
			echo "bin/$binary is not there: run \`make build\` first" >&2
			exit 1
		fi
	done
	work=$(mktemp -d)
	daemon=
	trap 'end' EXIT
	trap 'exit 1' HUP INT TERM

	"$root/bin/picket" compile "$root/examples/demo/fraud.ubj" -o "$work/fraud"
	# XGBoost's probabilities are the first column, below a header.
	tail -n +2 "$root/examples/demo/expected.csv" | cut -d , -f 1 >"$work/expected.csv"

	"$root/bin/picketd" --sockets "$work/run" --unsigned 2>"$work/log" &
	daemon=$!
	tries=0
	until [ -S "$work/run/agent.sock" ]; do
		tries=$((tries + 1))
		if [ $tries -gt 100 ] || ! kill -0 "$daemon" 2>/dev/null; then
			echo "the daemon did not start; its log:" >&2
			cat "$work/log" >&2
			exit 1
		fi
		sleep 0.1
	done

	client --socket "$work/run/agent.sock" --name fraud --model "$work/fraud" \
		--rows "$root/examples/demo/transactions.csv" --expected "$work/expected.csv"
}

end() {
	status=$?
	trap - EXIT
	if [ -n "$daemon" ]; then
		kill "$daemon" 2>/dev/null || true
		wait "$daemon" || { [ $status -ne 0 ] || status=1; echo "the daemon did not end well; its log:" >&2; cat "$work/log" >&2; }
	fi
	rm -rf "$work"
	exit $status
}

setup
case ${1-} in
'') demo ;;
--setup) ;;
*) client "$@" ;;
esac
