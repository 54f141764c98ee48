#!/usr/bin/env bash
# Writes captured records in each format with picket and reads them with the programs that their readers use: pandas and
# pyarrow.
#
# bin/picket is built before; the Python packages go into .cache, at pinned versions.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

requirements=(pandas==3.1.1 pyarrow==26.0.1)
venv=.cache/capture-formats/venv
if [ "$(cat "$venv/installed" 2>/dev/null)" != "${requirements[*]}" ]; then
	rm -rf "$venv"
	python3 -m venv "$venv"
	"$venv/bin/pip" install --quiet --disable-pip-version-check "${requirements[@]}"
	echo "${requirements[*]}" >"$venv/installed"
fi
picket=$PWD/bin/picket
python=$PWD/$venv/bin/python
check=$PWD/scripts/test_formats.py

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
head -c 32 /dev/urandom >key
chmod 600 key
for rows in csv json; do
	cat >"$rows.yaml" <<END
state_dir: $work/state
capture:
  destination: {directory: $work/$rows}
  upload: {compression: gzip}
  format: {kinds: [endpoint, edge, parquet], fleet: fleet, device: device, rows: $rows}
  residency:
    key: $work/key
    destinations: [{directory: $work/$rows}]
    models:
      - model: fraud
        samples: true
        columns: [amount, age, card, secret]
        features: [{feature: amount, action: allow}, {feature: age, action: bucket, bounds: [0.5]}, {feature: card, action: hash}]
        outputs: allow
        ids: allow
END
	"$picket" capture test --config "$rows.yaml" --model fraud
done
"$picket" audit --config csv.yaml --summary
"$python" "$check" "$work"
