"""Triton with its Python backend, through pytriton: the server that NVIDIA builds, in front of a function that calls XGBoost, or for a
file that ends in .onnx ONNX Runtime.

Requests that wait together become one batch; none waits for others to come.
"""

import sys

import numpy as np
from pytriton.decorators import batch
from pytriton.model_config import DynamicBatcher, ModelConfig, Tensor
from pytriton.triton import Triton, TritonConfig, TritonSecurityConfig

model, name, http, grpc = sys.argv[1:5]
if model.endswith(".onnx"):
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    entry = session.get_inputs()[0]
    features = entry.shape[1]

    def answer(data):
        return session.run(None, {entry.name: data})[0]

else:
    import xgboost

    booster = xgboost.Booster(model_file=model)
    features = booster.num_features()

    def answer(data):
        return booster.inplace_predict(data, validate_features=False).astype(np.float32, copy=False).reshape(-1, 1)


@batch
def infer(data):
    return [answer(data)]


config = TritonConfig(
    http_address="127.0.0.1", http_port=int(http), grpc_address="127.0.0.1", grpc_port=int(grpc), allow_metrics=False, exit_timeout_secs=5
)
# perf_analyzer asks for statistics, which pytriton keeps to itself otherwise.
with Triton(config=config, security_config=TritonSecurityConfig(restricted_endpoints=[])) as triton:
    triton.bind(
        model_name=name,
        infer_func=infer,
        inputs=[Tensor(name="data", dtype=np.float32, shape=(features,))],
        outputs=[Tensor(name="output", dtype=np.float32, shape=(1,))],
        config=ModelConfig(max_batch_size=1024, batcher=DynamicBatcher(max_queue_delay_microseconds=0)),
    )
    triton.serve()
