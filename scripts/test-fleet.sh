#!/usr/bin/env bash
# The sagemaker-edge client of boto3 against `picket fleet serve`: programs that were written for SageMaker Edge Manager
# work by changing an endpoint. Needs Python 3 with venv.
set -euo pipefail
cd "$(dirname "$0")/.."

# Pinned: whether botocore still has that service is what is tried here, and a later one may not.
venv=.cache/fleet-client/venv
if [ ! -x "$venv/bin/python" ] || ! "$venv/bin/python" -c 'import boto3' 2>/dev/null; then
	python3 -m venv "$venv"
	"$venv/bin/pip" install --quiet --disable-pip-version-check 'boto3==1.44.5'
fi

dir=$(mktemp -d)
server=
trap '[ -z "$server" ] || { kill "$server" 2>/dev/null; wait "$server" 2>/dev/null; } || true; rm -rf "$dir"' EXIT
export PICKET_FLEET=file://$dir/place PICKET_FLEET_KEYS=$dir/keys
openssl ecparam -name prime256v1 -genkey -noout -out "$dir/signer.pem"
mkdir "$dir/artifact"
cp internal/testkit/testdata/models/xgboost/reg-squarederror-1.7.6.json "$dir/artifact/model.json"
bin/picket package build "$dir/artifact" --name fraud --version 3 -o "$dir/fraud-3.tar.gz" > /dev/null
bin/picket package sign "$dir/fraud-3.tar.gz" --key "$dir/signer.pem" > /dev/null
bin/picket fleet init pos > /dev/null
bin/picket fleet add till-1 --credentials "$dir/devices.txt" > /dev/null
bin/picket fleet rollout "$dir/fraud-3.tar.gz" --stages 100 --name fraud > /dev/null

bin/picket fleet serve --state "$dir/state" --credentials "$dir/devices.txt" --listen 127.0.0.1:0 --page '' --interval 200ms 2> "$dir/log" &
server=$!
for _ in $(seq 100); do
	address=$(sed -n 's/.*for=devices address=\([^ ]*\).*/\1/p' "$dir/log")
	[ -z "$address" ] || break
	sleep 0.1
done
[ -n "$address" ] || { cat "$dir/log" >&2; exit 1; }

"$venv/bin/python" scripts/test_fleet.py "http://$address" "$dir/devices.txt"
for _ in $(seq 100); do
	if bin/picket fleet status | grep -q '  done  '; then echo "boto3 reported, and the rollout is done"; exit 0; fi
	sleep 0.1
done
bin/picket fleet status
echo "the rollout did not end with what boto3 reported" >&2
exit 1
