#!/usr/bin/env bash
# Signs packages with picket and checks them with the Python program model_signing, and the other way round: with keys on
# each curve, and with chains of certificates. What one refuses the other must refuse too.
#
# bin/picket is built before; the Python program goes into .cache, at a pinned version.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

# What model_signing needs is pinned as well, as far as it decides what is accepted.
requirements=(model-signing==1.1.1 pyopenssl==26.4.0 cryptography==50.0.2)
venv=.cache/model-signing/venv
if [ "$(cat "$venv/installed" 2>/dev/null)" != "${requirements[*]}" ]; then
	rm -rf "$venv"
	python3 -m venv "$venv"
	"$venv/bin/pip" install --quiet --disable-pip-version-check "${requirements[@]}"
	echo "${requirements[*]}" >"$venv/installed"
fi
picket=$PWD/bin/picket
go build -o .cache/release ./scripts/release
release=$PWD/.cache/release
theirs=$PWD/$venv/bin/model_signing

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"

step() { printf '%s\n' "$*"; }
fails() { # fails COMMAND...: it must not succeed
	if "$@" >output 2>&1; then
		echo "this should have been refused: $*" >&2
		cat output >&2
		exit 1
	fi
}
unpack() { # unpack FILE DIR, as anybody would
	rm -rf "$2"
	mkdir "$2"
	tar -xzf "$1" -C "$2"
}

# Two variants, so that there are folders whose order matters: model_signing compares paths part by part.
mkdir artifact fast
printf '{}' >artifact/compiled.meta
printf 'faster code' >fast/weights.bin
printf 'weights' >artifact/weights.bin
build() { "$picket" package build artifact --variant a-b=fast --variant a.b=fast --name model --version "$1" -o "model-$1.tar.gz" --no-warmup >/dev/null; }

version=0
for curve in prime256v1 secp384r1 secp521r1; do
	version=$((version + 1))
	package=model-$version.tar.gz
	build $version
	openssl ecparam -name $curve -genkey -noout -out key.pem
	openssl pkey -in key.pem -pubout -out public.pem
	openssl ecparam -name $curve -genkey -noout -out other.pem
	openssl pkey -in other.pem -pubout -out other-public.pem

	step "key on $curve: picket signs, model_signing verifies"
	"$picket" package sign $package --key key.pem >/dev/null
	unpack $package folder
	"$theirs" verify key folder --signature folder/model.sig --public_key public.pem
	fails "$theirs" verify key folder --signature folder/model.sig --public_key other-public.pem
	fails "$picket" package verify $package --key other-public.pem
	echo more >>folder/weights.bin
	fails "$theirs" verify key folder --signature folder/model.sig --public_key public.pem
	fails "$picket" package verify folder --key public.pem
	unpack $package folder
	echo more >folder/more
	fails "$theirs" verify key folder --signature folder/model.sig --public_key public.pem
	fails "$picket" package verify folder --key public.pem

	step "key on $curve: model_signing signs, picket verifies"
	build $((version + 10))
	package=model-$((version + 10)).tar.gz
	unpack $package folder
	"$theirs" sign key folder --signature folder/model.sig --private_key key.pem
	"$picket" package verify folder --key public.pem >/dev/null
	"$picket" package sign $package --bundle folder/model.sig >/dev/null
	"$picket" package verify $package --key public.pem
	fails "$picket" package verify $package --key other-public.pem
	fails "$picket" package sign model-$version.tar.gz --bundle folder/model.sig # it is of another package
done

step "certificates: a root, one that it vouches for, and a signer"
request() { openssl req -new -newkey ec -pkeyopt ec_paramgen_curve:P-384 -nodes -keyout "$1.key" -out "$1.csr" -subj "$2" 2>/dev/null; }
issue() { # issue NAME BY EXTENSIONS
	printf '%b' "$3" >extensions
	openssl x509 -req -in "$1.csr" -CA "$2.pem" -CAkey "$2.key" -CAcreateserial -days 30 -extfile extensions -out "$1.pem" 2>/dev/null
}
openssl req -x509 -newkey rsa:2048 -nodes -keyout root.key -out root.pem -subj /CN=Root -days 30 \
	-addext basicConstraints=critical,CA:TRUE -addext keyUsage=critical,keyCertSign 2>/dev/null
openssl req -x509 -newkey rsa:2048 -nodes -keyout foreign.key -out foreign.pem -subj /CN=Root -days 30 \
	-addext basicConstraints=critical,CA:TRUE -addext keyUsage=critical,keyCertSign 2>/dev/null
request middle /CN=Middle
issue middle root 'basicConstraints=critical,CA:TRUE\nkeyUsage=critical,keyCertSign\n'
request signer /O=Bank/CN=Models
issue signer middle 'keyUsage=critical,digitalSignature\nextendedKeyUsage=codeSigning\n'
request server /O=Bank/CN=Web
issue server middle 'keyUsage=critical,keyEncipherment\nextendedKeyUsage=serverAuth\n'

build 21
"$picket" package sign model-21.tar.gz --key signer.key --certificate-chain middle.pem --certificate-chain signer.pem >/dev/null
"$picket" package verify model-21.tar.gz --root root.pem --name Models
unpack model-21.tar.gz folder
"$theirs" verify certificate folder --signature folder/model.sig --certificate_chain root.pem
fails "$theirs" verify certificate folder --signature folder/model.sig --certificate_chain foreign.pem
fails "$picket" package verify model-21.tar.gz --root foreign.pem --name Models
fails "$picket" package verify model-21.tar.gz --root root.pem --name Web
fails "$picket" package sign model-21.tar.gz --key server.key --certificate-chain server.pem --certificate-chain middle.pem

build 22
unpack model-22.tar.gz folder
"$theirs" sign certificate folder --signature folder/model.sig --private_key signer.key --signing_certificate signer.pem --certificate_chain middle.pem
"$picket" package sign model-22.tar.gz --bundle folder/model.sig >/dev/null
"$picket" package verify model-22.tar.gz --root root.pem --name Models
fails "$picket" package verify model-22.tar.gz --root foreign.pem --name Models
"$theirs" sign certificate folder --signature folder/model.sig --private_key server.key --signing_certificate server.pem --certificate_chain middle.pem
fails "$theirs" verify certificate folder --signature folder/model.sig --certificate_chain root.pem
fails "$picket" package verify folder --root root.pem --name Web

step "what model_signing leaves out or hashes otherwise is no signature of a package"
"$theirs" sign key folder --signature folder/model.sig --private_key key.pem --ignore-paths folder/weights.bin
fails "$picket" package verify folder --key public.pem

step "a release: signed with what make release signs with"
mkdir release
echo programs >release/picket.tar.gz
echo digests >release/SHA256SUMS
"$release" sign --key key.pem release
"$release" verify --key public.pem release
"$theirs" verify key release --signature release/release.sig --public_key public.pem
fails "$release" verify --key other-public.pem release
echo more >>release/picket.tar.gz
fails "$theirs" verify key release --signature release/release.sig --public_key public.pem
fails "$release" verify --key public.pem release

echo "picket and model_signing agree"
