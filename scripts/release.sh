#!/usr/bin/env bash
# Makes a release: for each platform an archive (a zip for Windows), for Linux Debian packages as well, what is in them (SPDX), what has changed, the
# digests of all of it, and a signature over everything, which model_signing and `go run ./scripts/release verify` check.
#
#   scripts/release.sh DIR            with RELEASE_KEY=key.pem it is signed
#   scripts/release.sh --check DIR    builds everything again from a copy of the sources elsewhere, with an empty build cache, and compares
#
# PLATFORMS names fewer platforms than all.
set -euo pipefail
here=$(cd "$(dirname "$0")/.." && pwd)

platforms=(${PLATFORMS:-linux/amd64 linux/arm64 windows/amd64})

if [ "${1:-}" = --check ]; then
	out=$(realpath "${2:?say which release}")
	work=$(mktemp -d)
	trap 'chmod -R u+w "$work"; rm -rf "$work"' EXIT
	mkdir "$work/the same sources"
	(cd "$here" && git ls-files -co --exclude-standard -z | tar --null -T - -cf -) | tar -C "$work/the same sources" -xf -
	VERSION=${VERSION:-$("$here/scripts/version.sh")} COMMIT=$("$here/scripts/version.sh" --commit) SOURCE_DATE_EPOCH=$("$here/scripts/version.sh" --date)
	export VERSION COMMIT SOURCE_DATE_EPOCH GOCACHE=$work/cache
	RELEASE_KEY='' "$work/the same sources/scripts/release.sh" "$work/again" >"$work/log" 2>&1 || { cat "$work/log" >&2; exit 1; }
	if ! diff -u "$out/SHA256SUMS" "$work/again/SHA256SUMS" >&2; then
		echo "the same sources gave something else in another directory" >&2
		exit 1
	fi
	echo "built again in another directory from nothing: all $(wc -l <"$out/SHA256SUMS") digests are the same"
	exit
fi

out=$(realpath -m "${1:?say where to}")
cd "$here"
VERSION=${VERSION:-$(scripts/version.sh)} COMMIT=${COMMIT-$(scripts/version.sh --commit)} SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(scripts/version.sh --date)}
export VERSION COMMIT SOURCE_DATE_EPOCH TZ=UTC LC_ALL=C
umask 022
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
rm -rf "$out"
mkdir -p "$out"

go build -trimpath -o "$work/release" ./scripts/release
# The one that runs here writes the manual.
scripts/build-binaries.sh "linux/$(go env GOHOSTARCH)" "$work/linux-$(go env GOHOSTARCH)"
tool=$work/linux-$(go env GOHOSTARCH)/picket

for platform in "${platforms[@]}"; do
	os=${platform%/*} arch=${platform#*/} name=picket-$VERSION-${platform/\//-}
	echo "building $name"
	[ -e "$work/$os-$arch" ] || scripts/build-binaries.sh "$platform" "$work/$os-$arch"
	folder=$work/folder/$name
	mkdir -p "$folder/docs/formats"
	cp README.md CHANGELOG.md LICENSE "$folder/"
	cp docs/*.md "$folder/docs/"
	cp docs/formats/*.md "$folder/docs/formats/"
	"$work/release" sbom --name "picket-$os-$arch" --version "$VERSION" "$work/$os-$arch"/* >"$out/$name.spdx.json"
	cp "$out/$name.spdx.json" "$folder/sbom.spdx.json"
	mkdir -p "$folder/bin" "$folder/completions"
	cp "$work/$os-$arch"/* "$folder/bin/"
	if [ "$os" = windows ]; then
		cp cmd/picketd/picketd_windows.yaml "$folder/picketd.yaml"
		cp internal/config/example.yaml "$folder/example.yaml"
		"$tool" completion powershell >"$folder/completions/picket.ps1"
		# The time of a file in a zip is without a zone and in steps of two seconds.
		find "$folder" -exec touch -d "@$((SOURCE_DATE_EPOCH & ~1))" {} +
		(cd "$work/folder" && find "$name" -type f | sort | zip -X -9 -q -@ "$out/$name.zip")
		continue
	fi
	cp internal/config/example.yaml "$folder/picketd.yaml"
	cp -r deploy/systemd "$folder/"
	"$tool" man -o "$folder/man"
	for shell in bash zsh fish; do "$tool" completion $shell >"$folder/completions/picket.$shell"; done
	tar -C "$work/folder" --sort=name --mtime="@$SOURCE_DATE_EPOCH" --owner=0 --group=0 --numeric-owner --format=ustar -cf - "$name" | gzip -9n >"$out/$name.tar.gz"
	scripts/build-deb.sh "$arch" "$work/$os-$arch" "$out" "$tool" >/dev/null
done

# What has changed: the section of this version, or what is not released yet.
awk -v version="${VERSION#v}" '
	/^## / { inside = index($2, version) == 1; if (inside) found = 1; if ($2 == "Unreleased") { unreleased = 1 } else { unreleased = 0 }; next }
	inside { section = section $0 "\n" }
	unreleased { rest = rest $0 "\n" }
	END { printf "%s", found ? section : rest }' CHANGELOG.md >"$out/CHANGES.md"

(cd "$out" && sha256sum -- * >"$work/SHA256SUMS" && mv "$work/SHA256SUMS" .)
if [ -n "${RELEASE_KEY:-}" ]; then
	"$work/release" sign --key "$RELEASE_KEY" "$out"
	echo "signed by the key in $RELEASE_KEY"
else
	echo "not signed: RELEASE_KEY names no key"
fi
(cd "$out" && ls -l | awk 'NR > 1 { printf "  %10d  %s\n", $5, $9 }')
