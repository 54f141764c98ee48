#!/bin/bash
# Lays out what an image holds besides Picket: the GNU C library and what native models are linked against, authorities, time zones,
# a user, and directories of its own. Everything comes from Debian's packages for the image's architecture, with their licences and
# their control files, in which scanners look for known weaknesses. No shell, and nothing that installs anything.
#
#   scripts/image-root.sh amd64|arm64 DIR
set -euo pipefail

arch=$1 root=$2
case $arch in
amd64) triplet=x86_64-linux-gnu loader=ld-linux-x86-64.so.2 loader_dir=lib64 ;;
arm64) triplet=aarch64-linux-gnu loader=ld-linux-aarch64.so.1 loader_dir=lib ;;
*) echo "no image is made for $arch: amd64 and arm64 are" >&2; exit 1 ;;
esac

export DEBIAN_FRONTEND=noninteractive
[ "$(dpkg --print-architecture)" = "$arch" ] || dpkg --add-architecture "$arch"
apt-get update -qq
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
chmod 755 . # apt-get downloads as another user
apt-get download -qq "libc6:$arch" "libgcc-s1:$arch" "libstdc++6:$arch" "libgomp1:$arch" ca-certificates tzdata 2>/dev/null

umask 022
mkdir -p "$root/usr/lib/$triplet" "$root/usr/share/doc" "$root/var/lib/dpkg/status.d" "$root/etc/ssl/certs" "$root/usr/share" \
	"$root/etc/picket" "$root/run/picket" "$root/var/lib/picket" "$root/tmp"
for deb in *.deb; do
	name=$(dpkg-deb --field "$deb" Package)
	dpkg-deb --extract "$deb" "$name"
	dpkg-deb --field "$deb" >"$root/var/lib/dpkg/status.d/$name"
	mkdir -p "$root/usr/share/doc/$name"
	cp -L "$name/usr/share/doc/$name/copyright" "$root/usr/share/doc/$name/" 2>/dev/null ||
		cp "$name/usr/share/doc/"*/copyright "$root/usr/share/doc/$name/" 2>/dev/null ||
		rmdir "$root/usr/share/doc/$name" # of libgcc-s1 and others it is a link to a package that is here, or to gcc-12-base
done
# The licence of the compiler's libraries is in a package without files.
if ! [ -e "$root/usr/share/doc/libgcc-s1/copyright" ]; then
	apt-get download -qq "gcc-12-base:$arch" 2>/dev/null
	dpkg-deb --extract gcc-12-base_*.deb base
	for name in libgcc-s1 libstdc++6 libgomp1; do
		mkdir -p "$root/usr/share/doc/$name"
		cp base/usr/share/doc/gcc-12-base/copyright "$root/usr/share/doc/$name/"
	done
fi

# From the C library only what programs load: no tools, no conversions.
for library in libc.so.6 libm.so.6 libdl.so.2 libpthread.so.0 librt.so.1 libresolv.so.2 "$loader"; do
	cp -L "libc6/lib/$triplet/$library" "$root/usr/lib/$triplet/"
done
cp -L "libgcc-s1/lib/$triplet/libgcc_s.so.1" "libstdc++6/usr/lib/$triplet/libstdc++.so.6" "libgomp1/usr/lib/$triplet/libgomp.so.1" "$root/usr/lib/$triplet/"
ln -s usr/lib "$root/lib"
if [ "$loader_dir" = lib64 ]; then
	mkdir "$root/usr/lib64"
	ln -s usr/lib64 "$root/lib64"
	ln -s "../lib/$triplet/$loader" "$root/usr/lib64/$loader"
else
	ln -s "$triplet/$loader" "$root/usr/lib/$loader"
fi

find ca-certificates/usr/share/ca-certificates/mozilla -name '*.crt' -print0 | sort -z | xargs -0 cat >"$root/etc/ssl/certs/ca-certificates.crt"
cp -a tzdata/usr/share/zoneinfo "$root/usr/share/"
rm -rf "$root/usr/share/zoneinfo/right" "$root/usr/share/zoneinfo/posix"

echo 'root:x:0:0:root:/:/nonexistent
picket:x:65532:65532:Picket:/var/lib/picket:/nonexistent' >"$root/etc/passwd"
echo 'root:x:0:
picket:x:65532:' >"$root/etc/group"
echo 'hosts: files dns' >"$root/etc/nsswitch.conf"
cp /etc/debian_version "$root/etc/"
cp /etc/os-release "$root/etc/os-release" # by which scanners know whose packages these are
chown 65532:65532 "$root/run/picket" "$root/var/lib/picket"
chmod 755 "$root/run/picket"
chmod 750 "$root/var/lib/picket"
chmod 1777 "$root/tmp"
