#!/usr/bin/env bash
# The fraud application with what a site has: PostgreSQL, and an S3 store at the other end of a line that can be cut. Both
# run from folders of their own, which are gone at the end. bin/picketd and bin/fraud are built before; versitygw is built
# here the first time, which takes some minutes. The rest of the command line is for `fraud run`.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

initdb=$(ls /usr/lib/postgresql/*/bin/initdb 2>/dev/null | tail -1 || true)
if [ -z "$initdb" ]; then
	echo "PostgreSQL is not on this machine: scripts/bootstrap.sh installs it (Debian's package postgresql)" >&2
	exit 1
fi
bin=$(dirname "$initdb")
gateway=.cache/versitygw/run/versitygw
echo "building versitygw (the first time takes some minutes)"
mkdir -p "$(dirname "$gateway")"
(cd tools/versitygw && "${GO:-go}" build -o "$OLDPWD/$gateway" .)

work=$(mktemp -d /tmp/picket-full-XXXXXX)
store=
as=()
if [ "$(id -u)" -eq 0 ]; then
	as=(runuser -u postgres --) # PostgreSQL refuses to run as root
	chmod 755 "$work"
fi
end() {
	trap - EXIT
	"${as[@]}" "$bin/pg_ctl" -D "$work/pg/data" -m fast -s stop || true
	[ -z "$store" ] || { kill "$store" 2>/dev/null || true; wait "$store" 2>/dev/null || true; }
	rm -rf "$work"
}
trap end EXIT
trap 'exit 130' INT TERM

mkdir "$work/pg" "$work/s3"
[ ${#as[@]} -eq 0 ] || chown postgres "$work/pg"
echo "starting PostgreSQL and versitygw"
"${as[@]}" "$bin/initdb" -D "$work/pg/data" -U postgres -A trust -E UTF8 --locale=C >/dev/null
"${as[@]}" "$bin/pg_ctl" -D "$work/pg/data" -w -s -l "$work/pg/log" -o "-k $work/pg -c listen_addresses=" start

AWS_ACCESS_KEY_ID=PICKETDEMONSTRATION
AWS_SECRET_ACCESS_KEY=$(od -An -N20 -tx1 /dev/urandom | tr -d ' \n')
export AWS_ACCESS_KEY_ID AWS_SECRET_ACCESS_KEY
mkdir "$work/s3/picket-capture" # a bucket is a folder there
mkfifo "$work/alive"
serves() { # serves ADDRESS: starts the store there, and says whether it listens
	VERSITYGW_ACCESS_KEY=$AWS_ACCESS_KEY_ID VERSITYGW_SECRET_KEY=$AWS_SECRET_ACCESS_KEY \
		"$gateway" -listen "$1" -region us-east-1 -data "$work/s3" <"$work/alive" >"$work/s3.log" 2>&1 &
	store=$!
	exec 9>"$work/alive" # it ends when its standard input does
	for _ in {1..100}; do
		grep -q listening "$work/s3.log" && return
		kill -0 "$store" 2>/dev/null || break
		sleep 0.1
	done
	exec 9>&-
	kill "$store" 2>/dev/null || true
	wait "$store" 2>/dev/null || true
	store=
	return 1
}
for port in 17070 17071 17170 27070 37070; do # one of them is free
	address=127.0.0.1:$port
	if serves "$address"; then break; fi
done
if [ -z "$store" ]; then
	echo "versitygw did not start:" >&2
	cat "$work/s3.log" >&2
	exit 1
fi
bin/fraud run --dsn "postgres://postgres@/postgres?host=$work/pg" --s3-endpoint "http://$address" --bucket picket-capture "$@"
echo "  $(find "$work/s3/picket-capture" -type f | wc -l) objects were in the bucket."
