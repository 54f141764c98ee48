"""Triton with its Python backend, through pytriton: the server that NVIDIA builds, in front of a function that calls XGBoost.

Requests that wait together become one batch; none waits for others to come.
"""

import sys

import numpy as np
import xgboost
from pytriton.decorators import batch
from pytriton.model_config import DynamicBatcher, ModelConfig, Tensor
from pytriton.triton import Triton, TritonConfig, TritonSecurityConfig

model, name, http, grpc = sys.argv[1:5]
booster = xgboost.Booster(model_file=model)


@batch
def infer(data):
    return [booster.inplace_predict(data, validate_features=False).astype(np.float32, copy=False).reshape(-1, 1)]


config = TritonConfig(
    http_address="127.0.0.1", http_port=int(http), grpc_address="127.0.0.1", grpc_port=int(grpc), allow_metrics=False, exit_timeout_secs=5
)
# perf_analyzer asks for statistics, which pytriton keeps to itself otherwise.
with Triton(config=config, security_config=TritonSecurityConfig(restricted_endpoints=[])) as triton:
    triton.bind(
        model_name=name,
        infer_func=infer,
        inputs=[Tensor(name="data", dtype=np.float32, shape=(booster.num_features(),))],
        outputs=[Tensor(name="output", dtype=np.float32, shape=(1,))],
        config=ModelConfig(max_batch_size=1024, batcher=DynamicBatcher(max_queue_delay_microseconds=0)),
    )
    triton.serve()
