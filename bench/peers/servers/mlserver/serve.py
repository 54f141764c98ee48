"""MLServer with its own XGBoost runtime, or for a file that ends in .onnx with the one in onnx_runtime.py, as `mlserver start` on a folder of settings.

What would slow it down is off: the log of accesses, metrics, compression, and a second process for the model, which one model
on two cores is better off without.
"""

import json
import os
import sys
import tempfile

model, name, http, grpc = sys.argv[1:5]
folder = tempfile.mkdtemp()
settings = dict(
    host="127.0.0.1", http_port=int(http), grpc_port=int(grpc), metrics_endpoint=None, debug=False, parallel_workers=0, gzip_enabled=False
)
implementation = "mlserver_xgboost.XGBoostModel"
if model.endswith(".onnx"):
    implementation = "onnx_runtime.ONNXModel"
    os.environ["PYTHONPATH"] = os.path.dirname(os.path.abspath(__file__))
parameters = dict(uri=os.path.abspath(model), version="1")
with open(os.path.join(folder, "settings.json"), "w") as f:
    json.dump(settings, f)
with open(os.path.join(folder, "model-settings.json"), "w") as f:
    json.dump(dict(name=name, implementation=implementation, parameters=parameters), f)
os.chdir(folder)  # it makes folders where it starts
mlserver = os.path.join(os.path.dirname(sys.executable), "mlserver")
os.execv(mlserver, [mlserver, "start", folder])
