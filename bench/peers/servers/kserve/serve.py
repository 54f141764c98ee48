"""KServe's Python server with a model of one's own: a kserve.Model around XGBoost, as its documentation shows.

What would slow it down is off: the logs of accesses, of calls and of latencies.
"""

import logging
import sys

model, name, http, grpc = sys.argv[1:5]
sys.argv[1:] = []  # kserve reads the command line when it is imported

import kserve
import numpy as np
import xgboost


class Forest(kserve.Model):
    def load(self):
        self.booster = xgboost.Booster(model_file=model)
        self.ready = True

    def predict(self, payload, headers=None, response_headers=None):
        x = payload.inputs[0].as_numpy()
        y = self.booster.inplace_predict(x, validate_features=False).astype(np.float32, copy=False).reshape(-1, 1)
        output = kserve.InferOutput(name="output", shape=list(y.shape), datatype="FP32")
        output.set_data_from_numpy(y, binary_data=payload.use_binary_outputs)
        return kserve.InferResponse(response_id=payload.id or "", model_name=name, infer_outputs=[output])


if __name__ == "__main__":
    forest = Forest(name)
    forest.load()
    server = kserve.ModelServer(http_port=int(http), grpc_port=int(grpc), enable_latency_logging=False)
    for logger in ("kserve", "kserve.trace", "uvicorn.access"):
        logging.getLogger(logger).setLevel(logging.WARNING)
    server.start([forest])
