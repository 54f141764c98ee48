#!/usr/bin/env bash
# Makes a release, signs it with a key of its own, has the signature checked, and a change noticed,
# and builds everything again elsewhere from nothing. PLATFORMS names fewer platforms than all, which takes less time.
set -euo pipefail
cd "$(dirname "$0")/.."

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
trap 'exit 1' HUP INT TERM
openssl ecparam -name prime256v1 -genkey -noout -out "$work/key.pem"
openssl pkey -in "$work/key.pem" -pubout -out "$work/public.pem" 2>/dev/null

RELEASE_KEY=$work/key.pem scripts/release.sh "$work/release"
(cd "$work/release" && sha256sum --quiet -c SHA256SUMS)
go run ./scripts/release verify --key "$work/public.pem" "$work/release"
echo x >>"$work/release/SHA256SUMS"
if go run ./scripts/release verify --key "$work/public.pem" "$work/release" 2>/dev/null; then
	echo "a release that was changed after it was signed is taken for sound" >&2
	exit 1
fi
sed -i '$d' "$work/release/SHA256SUMS"
scripts/release.sh --check "$work/release"
