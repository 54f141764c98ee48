"""Compiles MobileNet with TVM, as scripts/fixtures/tvm_nets.py compiles its networks, into the folder that it is given."""

import json
import os
import sys

import tvm
from tvm import relay
from tvm.relay import testing

out = sys.argv[1]
os.makedirs(out, exist_ok=True)
module, params = testing.mobilenet.get_workload(batch_size=1, num_classes=1000, image_shape=(3, 224, 224))
with tvm.transform.PassContext(opt_level=3):
    built = relay.build(module, target="llvm -mcpu=haswell", params=params)
built.get_lib().export_library(os.path.join(out, "compiled.so"), options=["-s", "-Wl,--build-id=none"])
with open(os.path.join(out, "compiled_model.json"), "w", encoding="utf-8") as f:
    f.write(built.get_graph_json())
with open(os.path.join(out, "compiled.params"), "wb") as f:
    f.write(relay.save_param_dict(built.get_params()))
with open(os.path.join(out, "compiled.meta"), "w", encoding="utf-8") as f:
    json.dump({"Requirements": {"TargetDevice": "ml_c4", "TargetDeviceType": "cpu"},
               "Model": {"Inputs": [{"name": "data", "dtype": "float32", "shape": [1, 3, 224, 224]}],
                         "Outputs": [{"name": "output", "dtype": "float32", "shape": [1, 1000]}]}}, f)
print(f"wrote {out}: TVM {tvm.__version__}")
