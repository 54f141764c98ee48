#!/bin/sh
# Says which version the sources are: the nearest tag, or the commit. With --commit which commit, and with --date when that was
# made, in seconds since 1970: the time that everything in a release has. A tarball has no history, and must not take the one of a
# repository it was unpacked in.
set -eu
root=$(cd "$(dirname "$0")/.." && pwd)
export GIT_CEILING_DIRECTORIES="${root%/*}"
case ${1:-} in
--commit) git -C "$root" rev-parse HEAD 2>/dev/null || true ;;
--date) git -C "$root" log -1 --format=%ct 2>/dev/null || echo 0 ;;
*) git -C "$root" describe --tags --always --dirty 2>/dev/null || echo unversioned ;;
esac
