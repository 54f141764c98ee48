"""MLServer with its own XGBoost runtime, as `mlserver start` on a folder of settings.

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
parameters = dict(uri=os.path.abspath(model), version="1")
with open(os.path.join(folder, "settings.json"), "w") as f:
    json.dump(settings, f)
with open(os.path.join(folder, "model-settings.json"), "w") as f:
    json.dump(dict(name=name, implementation="mlserver_xgboost.XGBoostModel", parameters=parameters), f)
os.chdir(folder)  # it makes folders where it starts
mlserver = os.path.join(os.path.dirname(sys.executable), "mlserver")
os.execv(mlserver, [mlserver, "start", folder])
