#!/usr/bin/env bash
# Packs programs that scripts/build-binaries.sh has made into a Debian package, with units, configuration, manual pages,
# completions and documents. The same programs give the same package, byte for byte.
#
#   scripts/build-deb.sh ARCH PROGRAMS DIR TOOL
#
# PROGRAMS is the directory with picket and picketd for ARCH; TOOL is a picket of the same version that runs here, which writes its
# own manual. Prints the package's path. DEB_COMPRESSION is what nfpm calls it, xz unless it says otherwise.
set -euo pipefail

arch=${1:?say for which architecture} programs=$(realpath "${2:?say where the programs are}") out=$(realpath -m "${3:?say where to}") tool=$(realpath "${4:?say which picket runs here}")
cd "$(dirname "$0")/.."
export SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(scripts/version.sh --date)}
version=${VERSION:-$(scripts/version.sh)}

# A tag v1.2.3 is version 1.2.3, what came after it is higher, and what has no tag at all is lower than everything that has.
case $version in
v[0-9]* | [0-9]*.*) deb_version=$(sed -e 's/^v//' -e 's/-/+/' -e 's/-/./g' <<<"$version") ;;
*) deb_version=0~$(date -u -d "@$SOURCE_DATE_EPOCH" +%Y%m%d).$(sed 's/[^A-Za-z0-9.+~]/./g' <<<"$version") ;;
esac

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
umask 022
stage=$work/stage
doc=$stage/usr/share/doc/picket
install -D -m 755 -t "$stage/usr/bin" "$programs/picket" "$programs/picketd"
install -D -m 644 -t "$stage/usr/lib/systemd/system" deploy/systemd/*
install -D -m 644 internal/config/example.yaml "$work/etc/picketd.yaml"
install -D -m 644 -t "$doc" README.md docs/*.md internal/config/example.yaml
install -D -m 644 -t "$doc/formats" docs/formats/*.md
install -D -m 644 -t "$doc/prometheus" deploy/prometheus/*
install -D -m 644 -t "$doc/grafana" deploy/grafana/*
gzip -9n <CHANGELOG.md >"$doc/changelog.gz"
{
	printf 'Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/\nUpstream-Name: Picket\nSource: https://github.com/picket-ml/picket\n\n'
	printf 'Files: *\nCopyright: The Picket authors\nLicense: Apache-2.0\n On Debian systems the full text is in /usr/share/common-licenses/Apache-2.0.\n'
	printf 'Comment: The Go modules that are compiled in are listed in sbom.spdx.json.\n'
} >"$doc/copyright"
go run ./scripts/release sbom --name picket --version "$version" "$programs/picket" "$programs/picketd" >"$doc/sbom.spdx.json"

"$tool" man -o "$work/man"
for page in "$work"/man/*; do
	section=${page##*.}
	mkdir -p "$stage/usr/share/man/man$section"
	gzip -9n <"$page" >"$stage/usr/share/man/man$section/${page##*/}.gz"
done
mkdir -p "$stage/usr/share/bash-completion/completions" "$stage/usr/share/zsh/vendor-completions" "$stage/usr/share/fish/vendor_completions.d"
"$tool" completion bash >"$stage/usr/share/bash-completion/completions/picket"
"$tool" completion zsh >"$stage/usr/share/zsh/vendor-completions/_picket"
"$tool" completion fish >"$stage/usr/share/fish/vendor_completions.d/picket.fish"
find "$work" -exec touch -h -d "@$SOURCE_DATE_EPOCH" {} +

glibc=$(go run ./scripts/release glibc "$programs/picket" "$programs/picketd")
mkdir -p "$out"
package=$out/picket_${deb_version}_$arch.deb
export ARCH=$arch DEB_VERSION=$deb_version DEB_COMPRESSION=${DEB_COMPRESSION:-xz} GLIBC=$glibc STAGE=$stage STAGE_ETC=$work/etc SCRIPTS=$PWD/deploy/deb
# nfpm fills in some of the fields itself, and not those of contents.
envsubst=$(cat deploy/deb/nfpm.yaml)
for name in ARCH DEB_VERSION DEB_COMPRESSION GLIBC STAGE STAGE_ETC SCRIPTS; do envsubst=${envsubst//\$\{$name\}/${!name}}; done
printf '%s\n' "$envsubst" >"$work/nfpm.yaml"
nfpm=$PWD/.cache/nfpm
(cd tools/nfpm && go build -o "$nfpm" github.com/goreleaser/nfpm/v2/cmd/nfpm)
"$nfpm" package --config "$work/nfpm.yaml" --packager deb --target "$package" >"$work/log" || { cat "$work/log" >&2; exit 1; }
echo "$package"
