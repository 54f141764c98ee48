"""Compiles MobileNet (version 1, 3x224x224, 1000 classes, weights at random) with TVM, as scripts/fixtures/tvm_nets.py compiles
its networks, into the folder that it is given."""

import json
import os
import sys

import numpy as np
import tvm
from tvm import relay

out = sys.argv[1]
os.makedirs(out, exist_ok=True)
rng = np.random.RandomState(14)
params = {}


def layer(x, ci, co, k, stride, groups):
    n = len(params)
    params[f"w{n}"] = tvm.nd.array((rng.standard_normal((co, ci // groups, k, k)) * np.sqrt(2 / (ci // groups * k * k))).astype(np.float32))
    params[f"b{n}"] = tvm.nd.array((0.1 * rng.standard_normal(co)).astype(np.float32))
    x = relay.nn.conv2d(x, relay.var(f"w{n}", shape=params[f"w{n}"].shape), kernel_size=(k, k), channels=co, strides=(stride, stride), padding=(k // 2, k // 2), groups=groups)
    return relay.nn.relu(relay.nn.bias_add(x, relay.var(f"b{n}", shape=(co,))))


x, channels = layer(relay.var("data", shape=(1, 3, 224, 224)), 3, 32, 3, 2, 1), 32
for filters, stride in [(64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2)] + [(512, 1)] * 5 + [(1024, 2), (1024, 1)]:
    x, channels = layer(layer(x, channels, channels, 3, stride, channels), channels, filters, 1, 1, 1), filters
x = relay.nn.batch_flatten(relay.nn.global_avg_pool2d(x))
params["fc"] = tvm.nd.array((rng.standard_normal((1000, channels)) / 32).astype(np.float32))
x = relay.nn.softmax(relay.nn.dense(x, relay.var("fc", shape=(1000, channels))))
module = tvm.IRModule.from_expr(relay.Function(relay.analysis.free_vars(x), x))
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
