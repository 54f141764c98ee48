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
. "$root/scripts/demo-daemon.sh"

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

demo() {
	prepare
	serve --sockets "$work/run" --unsigned
	client --socket "$work/run/agent.sock" --name fraud --model "$work/fraud" \
		--rows "$root/examples/demo/transactions.csv" --expected "$work/expected.csv"
}

setup
case ${1-} in
'') demo ;;
--setup) ;;
*) client "$@" ;;
esac
