#!/bin/sh
# Tests the C and Python clients of the lane against bin/picketd with the demo's
# model: the answers are XGBoost's own. Python is tested as it is installed, and
# with numpy where PICKET_NUMPY_PYTHON names an interpreter that has it.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/.." && pwd)
. "$root/scripts/demo-daemon.sh"
prepare

rows=$root/examples/demo/transactions.csv
features=$(head -n 1 "$rows" | tr ',' '\n' | wc -l)
cat >"$work/picketd.yaml" <<Y
unsigned: true
state_dir: $work/state
models: [{name: fraud, path: $work/fraud, capture: {rate: 1}}]
capture: {enabled: true}
Y
serve --sockets "$work" --config "$work/picketd.yaml"

# The rows as float32, and then the scores: what agent.sock answers. That those are
# XGBoost's is compared with its own, which are written in fewer digits.
"$root/bin/picket" predict fraud --sockets "$work" --input "$rows" >"$work/scores"
python3 - "$rows" "$work/scores" "$root/examples/demo/expected.csv" >"$work/values" <<'P'
import array, csv, sys
rows, scores, expected = ([[float(x or "nan") for x in line] for line in csv.reader(open(path)) if line[0] != "probability"] for path in sys.argv[1:])
assert len(rows) == len(scores) == len(expected) > 0
assert all(abs(s[0] - e[0]) < 1e-6 for s, e in zip(scores, expected)), "the scores are not XGBoost's"
array.array("f", [x for row in rows for x in row] + [s[0] for s in scores]).tofile(sys.stdout.buffer)
P
count=$(wc -l <"$rows")

for standard in gnu99 gnu17; do
	cc -std=$standard -Wall -Wextra -Werror -O1 -g -fsanitize=address,undefined -fno-sanitize-recover=all -o "$work/test" "$here/c/test.c"
	for socket in lane.sock lane-stream.sock; do
		"$work/test" "$work/$socket" fraud "$features" "$count" "$work/agent.sock" <"$work/values" >>"$work/names"
	done
done
echo '#include "picket_lane.h"' | c++ -x c++ -Wall -Wextra -Werror -I "$here/c" -fsyntax-only -
cc -Wall -Wextra -Werror -O2 -o "$work/example" "$here/c/example.c"
"$work/example" "$work/lane.sock" fraud <"$rows" >"$work/c"
echo "C client: answers agree, under the sanitizers too"

export PICKET_SOCKETS="$work" PICKET_MODEL=fraud PICKET_FEATURES="$features" PICKET_VALUES="$work/values" PICKET_NAMES="$work/names"
export PYTHONDONTWRITEBYTECODE=1 PYTHONPATH="$here/python"
for python in python3 ${PICKET_NUMPY_PYTHON-}; do
	"$python" "$here/python/tests/test_lane.py"
done
python3 "$here/python/example.py" "$work/lane.sock" fraud <"$rows" >"$work/python"
cmp "$work/c" "$work/python"
echo "Python client: answers agree"

# What clients are told that their predictions are called is what captured records are called.
sleep 1
"$root/bin/picket" spool cat "$work/state/capture" >"$work/captured"
while read -r name; do
	grep -q "\"$name\"" "$work/captured" || { echo "no captured record is called $name" >&2; exit 1; }
done <"$work/names"
[ "$(wc -l <"$work/names")" -ge 6 ] || { echo "the clients have named too few predictions" >&2; exit 1; }
echo "Names of predictions: the captured records have them"
