"""Ray Serve with one replica, under the same path and with the same bodies as the Open Inference Protocol.

A cluster of one node, without its dashboard, with Ray Serve's own settings for throughput and no log of accesses. Its processes watch
each other, and while others are measured all of them are stopped: their patience, which is set to a day here, takes that for slowness.
Requests come in on 127.0.0.1 alone. Ray's processes listen to each other on all addresses, which one cannot tell them otherwise, and ask
for a token that they make anew each time.
"""

import logging
import os
import secrets
import shutil
import signal
import sys
import tempfile

model, name, http = sys.argv[1:4]
A_DAY_S = 24 * 60 * 60
folder = tempfile.mkdtemp(prefix="ray-", dir="/tmp")  # not below $TMPDIR: the paths of Ray's sockets are long, and may not be
os.environ.update(
    {
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_AUTH_TOKEN_PATH": os.path.join(folder, "token"),
        "RAY_SERVE_THROUGHPUT_OPTIMIZED": "1",
        # Who watches whom: the head its nodes, a node the head, callers those they call, Ray Serve its proxy (its replica: below).
        "RAY_health_check_period_ms": str(1000 * A_DAY_S),
        "RAY_health_check_timeout_ms": str(1000 * A_DAY_S),
        "RAY_gcs_rpc_server_reconnect_timeout_s": str(A_DAY_S),
        "RAY_gcs_server_request_timeout_seconds": str(A_DAY_S),
        "RAY_grpc_keepalive_timeout_ms": str(1000 * A_DAY_S),
        "RAY_grpc_client_keepalive_timeout_ms": str(1000 * A_DAY_S),
        "RAY_SERVE_PROXY_HEALTH_CHECK_TIMEOUT_S": str(A_DAY_S),
        # Processes for tasks that nobody has.
        "RAY_enable_worker_prestart": "0",
        "RAY_prestart_worker_first_driver": "0",
    }
)

import numpy as np
import ray
import xgboost
from ray import serve
from ray.serve.config import HTTPOptions
from ray.serve.schema import LoggingConfig


@serve.deployment(
    num_replicas=1, max_ongoing_requests=1024, ray_actor_options={"num_cpus": 0}, health_check_period_s=A_DAY_S, health_check_timeout_s=A_DAY_S
)
class Forest:
    def __init__(self, path):
        self.booster = xgboost.Booster(model_file=path)

    async def __call__(self, request):
        tensor = (await request.json())["inputs"][0]
        x = np.array(tensor["data"], np.float32).reshape(tensor["shape"])
        y = self.booster.inplace_predict(x, validate_features=False)
        return {"outputs": [{"name": "output", "datatype": "FP32", "shape": [len(y), 1], "data": y.tolist()}]}


try:
    with open(os.environ["RAY_AUTH_TOKEN_PATH"], "x", opener=lambda path, flags: os.open(path, flags, 0o600)) as f:
        f.write(secrets.token_hex(32))
    ray.init(
        address="local", num_cpus=2, include_dashboard=False, object_store_memory=80 << 20, _temp_dir=folder, log_to_driver=False, logging_level=logging.WARNING
    )
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    quiet = LoggingConfig(log_level="WARNING", enable_access_log=False)
    serve.start(http_options=HTTPOptions(host="127.0.0.1", port=int(http)), logging_config=quiet)
    serve.run(Forest.options(logging_config=quiet).bind(os.path.abspath(model)), name="forest", route_prefix=f"/v2/models/{name}/infer")
    while True:
        signal.pause()
finally:
    ray.shutdown()
    shutil.rmtree(folder, ignore_errors=True)
