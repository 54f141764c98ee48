#!/usr/bin/env bash
# Has the Debian package live its whole life in a fresh Debian: installed, served from as its own user until the first prediction,
# upgraded under a running daemon, removed, purged. What must stay stays, and what must go goes. Needs root, and Debian's packages
# over the network the first time.
#
#   scripts/test-deb.sh [ARCH]
#
# With arm64 on another machine everything in that Debian is emulated (scripts/arm64).
set -euo pipefail
cd "$(dirname "$0")/.."
host=$(dpkg --print-architecture)
arch=${1:-$host}

fail() { echo "test-deb: $1" >&2; exit 1; }
[ "$(id -u)" -eq 0 ] || fail "a Debian of its own needs root"
tool=.cache/deb/bin/picket # runs here
bin=.cache/deb/bin         # as they are released
if [ "$arch" = "$host" ]; then
	command -v debootstrap >/dev/null || fail "debootstrap is missing: apt-get install debootstrap"
else
	bin=.cache/deb/$arch
	[ "$arch" = arm64 ] || fail "$arch is not emulated, arm64 is"
	export DEB_COMPRESSION=gzip # unpacking xz, emulated, would take longer than all the rest
	for need in mmdebstrap qemu-aarch64-static; do command -v $need >/dev/null || fail "$need is missing: apt-get install mmdebstrap qemu-user-static"; done
	[ "${2:-}" = --emulated ] || exec go run ./scripts/arm64 exec scripts/test-deb.sh "$arch" --emulated
fi
[ -x $tool ] && [ -x $bin/picket ] && [ -x $bin/picketd ] || fail "there are no programs to pack in $bin: make deb"

work=$(mktemp -d)
root=$work/root
daemon=
devices=(null zero random urandom)
end() {
	status=$?
	trap - EXIT
	if [ -n "$daemon" ]; then kill "$daemon" 2>/dev/null || true; wait "$daemon" 2>/dev/null || true; fi
	[ $status -eq 0 ] || [ ! -s "$work/log" ] || { echo "the daemon's log:" >&2; tail -n 20 "$work/log" >&2; }
	for mounted in proc "${devices[@]/#/dev/}"; do mountpoint -q "$root/$mounted" && umount "$root/$mounted"; done
	rm -rf --one-file-system "$work"
	exit $status
}
trap end EXIT
trap 'exit 1' HUP INT TERM

base=.cache/debian-bookworm-$arch.tar
if ! [ -s "$base" ]; then
	echo "making a Debian"
	mkdir -p .cache
	if [ "$arch" = "$host" ]; then
		debootstrap --variant=minbase bookworm "$work/base" >"$work/debootstrap.log" 2>&1 || { cat "$work/debootstrap.log" >&2; exit 1; }
		tar -C "$work/base" -cf "$base.$$" --exclude='./var/cache/apt/archives/*.deb' .
	else # in a user namespace, which debootstrap does not know
		mmdebstrap --mode=root --format=tar --arch="$arch" --variant=minbase --skip=check/qemu,output/dev bookworm "$base.$$" >"$work/debootstrap.log" 2>&1 || { cat "$work/debootstrap.log" >&2; exit 1; }
	fi
	mv "$base.$$" "$base"
fi
mkdir "$root"
tar -C "$root" -xf "$base" --exclude='./dev/*'
mkdir -p "$root/dev" # mmdebstrap leaves it out with what is in it
mount -t proc proc "$root/proc"
for device in "${devices[@]}"; do
	touch "$root/dev/$device"
	mount --bind "/dev/$device" "$root/dev/$device"
done

for version in v0.0.1 v0.0.2; do
	mkdir -p "$work/$version"
	deb=$(VERSION=$version scripts/build-deb.sh "$arch" $bin "$work/$version" $tool)
	cp "$deb" "$root/$version.deb"
done
again=$(VERSION=v0.0.2 scripts/build-deb.sh "$arch" $bin "$work/again" $tool)
cmp "$again" "$root/v0.0.2.deb" || fail "the same programs give another package the second time"

# A signed package of a model, as it comes from the machine that builds.
openssl ecparam -name prime256v1 -genkey -noout -out "$work/key.pem"
mkdir -p "$work/fraud"
cp examples/demo/fraud.ubj "$work/fraud/"
$tool package build "$work/fraud" --name fraud --version 1 -o "$work/" >/dev/null
$tool package sign "$work/fraud-1.tar.gz" --key "$work/key.pem" >/dev/null

now() { echo $(($(date +%s%N) / 1000000)); }
in_root() { chroot "$root" /usr/bin/env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin DEBIAN_FRONTEND=noninteractive PICKET_IMDS=off "$@"; }
user_of() { stat -c '%U:%G:%a' "$1"; } # of the host's names
serve() {
	chroot --userspec=picket:picket "$root" /usr/bin/env -i PATH=/usr/bin PICKET_IMDS=off STATE_DIRECTORY=/var/lib/picket \
		/usr/bin/picketd --config /etc/picket/picketd.yaml 2>>"$work/log" &
	daemon=$!
	local tries=0
	until grep -q 'msg=ready' "$work/log"; do
		tries=$((tries + 1))
		if [ $tries -gt 500 ] || ! kill -0 "$daemon" 2>/dev/null; then fail "the daemon did not start"; fi
		sleep 0.02
	done
}
predict() {
	in_root picket predict fraud --input - <examples/demo/transactions.csv >"$work/answers" || fail "no predictions"
	[ "$(wc -l <"$work/answers")" -ge 300 ] || fail "not every row has an answer"
}

echo "install"
began=$(now)
in_root dpkg -i /v0.0.1.deb >"$work/dpkg" 2>&1 || { cat "$work/dpkg" >&2; fail "it cannot be installed"; }
uid=$(awk -F: '$1 == "picket" { print $3 }' "$root/etc/passwd")
gid=$(awk -F: '$1 == "picket" { print $3 }' "$root/etc/group")
[ -n "$uid" ] && [ -n "$gid" ] || fail "there is no user and group picket"
grep -q '^picket:.*:/usr/sbin/nologin$' "$root/etc/passwd" || fail "somebody could log in as picket"
[ "$(stat -c %u:%g:%a "$root/var/lib/picket")" = "$uid:$gid:750" ] || fail "/var/lib/picket is not picket's alone"
[ -L "$root/etc/systemd/system/multi-user.target.wants/picketd.service" ] || fail "the service does not start with the host"
in_root dpkg-query -W -f='${Conffiles}' picket | grep -q '/etc/picket/picketd.yaml' || fail "the configuration is not kept at upgrades"
for file in usr/share/man/man1/picket.1.gz usr/share/man/man8/picketd.8.gz usr/share/man/man5/picket-config.5.gz usr/share/bash-completion/completions/picket \
	usr/share/zsh/vendor-completions/_picket usr/share/fish/vendor_completions.d/picket.fish usr/share/doc/picket/copyright usr/share/doc/picket/OPERATIONS.md \
	usr/share/doc/picket/sbom.spdx.json usr/lib/systemd/system/picketd.service usr/lib/systemd/system/picketd-agent.socket; do
	[ -s "$root/$file" ] || fail "/$file is missing"
done

# What systemd would do, and the operator: directories, the key, the model.
install -d -o "$uid" -g "$gid" -m 755 "$root/run/picket"
install -d -o "$uid" -g "$gid" -m 750 "$root/var/lib/picket/packages"
openssl pkey -in "$work/key.pem" -pubout -out "$root/etc/picket/public.pem" 2>/dev/null
install -m 644 "$work/fraud-1.tar.gz" "$root/var/lib/picket/packages/"
sed -i -e 's|^packages: ""|packages: /var/lib/picket/packages|' -e 's|^  keys: \[\]|  keys: [/etc/picket/public.pem]|' -e 's|^models: \[\]|models: [{name: fraud, path: fraud}]|' "$root/etc/picket/picketd.yaml"
cp "$root/etc/picket/picketd.yaml" "$work/config"
serve
predict
echo "  from the package to 300 predictions in $(($(now) - began)) ms"

echo "upgrade"
in_root dpkg -i /v0.0.2.deb >"$work/dpkg" 2>&1 || { cat "$work/dpkg" >&2; fail "it cannot be upgraded"; }
cmp -s "$work/config" "$root/etc/picket/picketd.yaml" || fail "the upgrade has changed the configuration"
[ -s "$root/var/lib/picket/accepted.json" ] || fail "the upgrade has lost the state"
predict # the old process, whose program is gone, serves on
kill -USR2 "$daemon" # what the package does where systemd runs
wait "$daemon" || fail "the old daemon did not hand over"
daemon=$(sed -n 's/.*msg="a new process was started" pid=\([0-9]*\).*/\1/p' "$work/log")
[ -n "$daemon" ] && kill -0 "$daemon" || fail "no new process has taken over"
predict
kill "$daemon"
tail --pid="$daemon" -f /dev/null
daemon=

echo "remove"
in_root dpkg -r picket >"$work/dpkg" 2>&1 || { cat "$work/dpkg" >&2; fail "it cannot be removed"; }
[ ! -e "$root/usr/bin/picketd" ] || fail "the program is still there"
cmp -s "$work/config" "$root/etc/picket/picketd.yaml" || fail "the configuration is gone before the purge"
[ -s "$root/var/lib/picket/accepted.json" ] || fail "the state is gone before the purge"

echo "purge"
rm "$root/etc/picket/public.pem" # what the operator has put there is not the package's to delete
in_root dpkg -P picket >"$work/dpkg" 2>&1 || { cat "$work/dpkg" >&2; fail "it cannot be purged"; }
left=$(find "$root" -xdev \( -path "$root/proc" -o -path "$root/var/log" \) -prune -o -iname '*picket*' -print)
[ -z "$left" ] || fail "the purge leaves $left"
if grep -q picket "$root/etc/passwd" "$root/etc/group"; then fail "the purge leaves the user"; fi
echo "the Debian package installs, serves, upgrades and goes away"
