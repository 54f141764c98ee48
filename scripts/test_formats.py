"""Reads what picket wrote in each format of captured records, as the readers of those formats do."""

import base64
import glob
import io
import json
import re
import sys

import numpy
import pandas
import pyarrow.parquet

work = sys.argv[1]


def one(pattern):
    files = glob.glob(f"{work}/{pattern}", recursive=True)
    assert len(files) == 1, (pattern, files)
    return files[0]


# Model Monitor: lines of JSON, which Spark and pandas decompress by the name, with a row of CSV or a flat object in each.
for rows in ("csv", "json"):
    lines = pandas.read_json(one(f"{rows}/picket-test/fraud/AllTraffic/**/*.jsonl.gz"), lines=True)
    assert len(lines) == 1
    record = lines.iloc[0]
    assert str(record["eventVersion"]) == "0"
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", record["eventMetadata"]["inferenceTime"])
    given, answered = record["captureData"]["endpointInput"], record["captureData"]["endpointOutput"]
    assert given["mode"] == "INPUT" and answered["mode"] == "OUTPUT" and given["encoding"] == rows.upper()
    if rows == "csv":
        row = pandas.read_csv(io.StringIO(given["data"]), header=None).iloc[0]
    else:
        row = pandas.Series(json.loads(given["data"]))
        assert list(row.index) == ["amount", "age", "card"]
    assert row.iloc[0] == 1 and row.iloc[1] == 0.5 and re.fullmatch("[0-9a-f]{32}", str(row.iloc[2])), row

# The Edge Manager agent: base64 of raw little-endian numbers, or here CSV, as a column is hashed.
with pandas.io.common.get_handle(one("csv/picket-test/fleet/fraud/**/*.jsonl.gz"), "r", compression="gzip") as f:
    record = json.loads(f.handle.read())
assert record["eventMetadata"]["deviceId"] == "device" and record["eventMetadata"]["deviceFleetName"] == "fleet"
output = record["deviceFleetOutputs"][0]
assert re.fullmatch(r"Tensor\[(\w+); 1, 1\]", output["observedContentType"])
assert numpy.frombuffer(base64.b64decode(output["data"]), "<f4").tolist() == [1.0]
assert base64.b64decode(record["deviceFleetInputs"][0]["data"]).startswith(b"1,0.5,")

# Parquet, with two readers.
file = one("csv/picket-test/fraud/**/*.parquet")
table = pyarrow.parquet.read_table(file)
assert table.column_names[:9] == ["event_id", "inference_id", "time", "fleet", "device", "model", "model_version", "record", "row"]
assert table.column_names[9:] == ["in.amount", "in.age", "in.card", "out.output"], table.column_names
frame = pandas.read_parquet(file)
assert frame["in.amount"].dtype == numpy.float32 and frame["in.amount"][0] == 1 and frame["in.age"][0] == 0.5
assert re.fullmatch("[0-9a-f]{32}", frame["in.card"][0]) and frame["model"][0] == "fraud"
assert str(frame["time"].dt.tz) == "UTC" and frame["inference_id"].isna()[0]

print("pandas", pandas.__version__, "and pyarrow", pyarrow.__version__, "read what picket wrote")
