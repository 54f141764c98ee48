#!/usr/bin/env bash
# Has systemd read the unit files: nothing in them may surprise it, and what is left open to a model's code must stay below
# the exposure that the specification promises. No systemd has to run for it.
set -euo pipefail
cd "$(dirname "$0")/.."

limit=25 # tenths
bin=$PWD/bin
[ -x "$bin/picketd" ] && [ -x "$bin/picket" ] || { echo "build bin/picketd and bin/picket first: make build" >&2; exit 1; }
units=$(mktemp -d)
trap 'rm -rf "$units"' EXIT
# The programs of a unit must exist for it to be right.
for unit in deploy/systemd/*.service deploy/systemd/*.socket; do
	sed -e "s|/usr/bin/|$bin/|" "$unit" >"$units/${unit##*/}"
done

# An unknown key or value is a line on standard error, and no failure.
said=$(cd "$units" && SYSTEMD_UNIT_PATH="$units:" SYSTEMD_LOG_LEVEL=warning systemd-analyze verify --man=no ./*.service ./*.socket 2>&1) || true
if [ -n "$said" ]; then
	printf 'systemd-analyze verify says of deploy/systemd:\n%s\n' "$said" >&2
	exit 1
fi
SYSTEMD_UNIT_PATH="$units:" systemd-analyze security --no-pager --offline=true --threshold=$limit "$units/picketd.service" >"$units/security" || {
	cat "$units/security" >&2
	echo "picketd.service leaves more open than $limit tenths" >&2
	exit 1
}
tail -n 1 "$units/security"
