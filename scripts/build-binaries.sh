#!/usr/bin/env bash
# Compiles picket and picketd as they are released, the one place that knows how: for images, packages and archives.
#
#   scripts/build-binaries.sh OS/ARCH DIR [PROGRAM...]
#
# The same sources and compilers give the same bytes wherever they lie: no paths, no times, no symbols. VERSION and COMMIT are
# stamped; without them they are those of the checkout. Other machines than this one need a C compiler for them, CC or Debian's.
set -euo pipefail

platform=${1:?say for which OS/ARCH} out=$(realpath -m "${2:?say where to}")
shift 2
cd "$(dirname "$0")/.."
[ $# -gt 0 ] || set -- picket picketd

export GOOS=${platform%/*} GOARCH=${platform#*/}
export GOFLAGS='-trimpath -buildvcs=false -mod=readonly' GOTOOLCHAIN=local
# The oldest processors of either kind: what newer ones can do is asked at run time.
export GOAMD64=v1 GOARM64=v8.0
# Of the environment nothing may reach the C compiler.
export CGO_CFLAGS='-O2 -Wno-deprecated-declarations' CGO_CPPFLAGS='' CGO_CXXFLAGS='-O2' CGO_LDFLAGS=''

case $platform in
linux/amd64 | linux/arm64)
	export CGO_ENABLED=1
	if [ "$GOARCH" != "$(go env GOHOSTARCH)" ]; then
		case $GOARCH in
		amd64) export CC=${CC:-x86_64-linux-gnu-gcc} ;;
		arm64) export CC=${CC:-aarch64-linux-gnu-gcc} ;;
		esac
		command -v "$CC" >/dev/null || { echo "there is no $CC, which compiles C for $platform: install Debian's gcc for it, or set CC" >&2; exit 1; }
	fi
	;;
windows/amd64) export CGO_ENABLED=0 ;;
*) echo "nothing is released for $platform: linux/amd64, linux/arm64 and windows/amd64 are" >&2; exit 1 ;;
esac

version=${VERSION:-$(scripts/version.sh)}
commit=${COMMIT-$(scripts/version.sh --commit)}
mkdir -p "$out"
go build -ldflags "-s -w -X main.version=$version -X main.commit=$commit" -o "$out/" "${@/#/./cmd/}"
