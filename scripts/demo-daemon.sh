# For the tests of clients, which source it with root set to the repository: a daemon of their own with the demo's model.
#
#   prepare     makes $work, a directory that is short enough for a socket's path wherever the repository lies and gone at the
#               end however that comes, with the artifact fraud and the scores that it is to give, expected.csv
#   serve ...   starts picketd with these arguments; its log is $work/log
# shellcheck shell=sh

prepare() {
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
}

serve() {
	"$root/bin/picketd" "$@" 2>"$work/log" &
	daemon=$!
	tries=0
	until grep -q 'msg=ready' "$work/log"; do
		tries=$((tries + 1))
		if [ $tries -gt 200 ] || ! kill -0 "$daemon" 2>/dev/null; then
			echo "the daemon did not start" >&2
			exit 1
		fi
		sleep 0.1
	done
}

end() {
	status=$?
	trap - EXIT
	if [ -n "$daemon" ]; then
		kill "$daemon" 2>/dev/null || true
		wait "$daemon" || { [ $status -ne 0 ] || status=1; echo "the daemon did not end well" >&2; }
		[ $status -eq 0 ] || { echo "the daemon's log:" >&2; cat "$work/log" >&2; }
	fi
	rm -rf "$work"
	exit $status
}
