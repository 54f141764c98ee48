"""BentoML with one worker, under the same path and with the same bodies as the Open Inference Protocol."""

import os
import socket
import sys

if __name__ == "__main__":
    # `bentoml serve` imports this file again, with what it needs in its environment.
    model, name, http = sys.argv[1:4]
    os.environ.update(PICKET_BENCH_MODEL=os.path.abspath(model), PICKET_BENCH_NAME=name, BENTOML_DO_NOT_TRACK="True")
    os.environ["BENTOML_HOME"] = os.path.join(os.environ["TMPDIR"], "bentoml")
    bentoml = os.path.join(os.path.dirname(sys.executable), "bentoml")
    os.chdir(os.path.dirname(os.path.abspath(__file__)))
    os.execv(bentoml, [bentoml, "serve", "serve:Forest", "--host", "127.0.0.1", "--port", http])

import bentoml
import numpy as np
import xgboost


@bentoml.service(workers=1, traffic={"timeout": 60}, logging={"access": {"enabled": False}}, metrics={"enabled": False})
class Forest:
    def __init__(self):
        # Its worker takes over a socket that its server does not know to be TCP, and leaves Nagle's algorithm on: every answer would
        # wait 40 ms for the client's kernel. Accepted connections inherit what is set here.
        listener = socket.socket(fileno=os.dup(int(sys.argv[sys.argv.index("--fd") + 1])))
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        listener.close()
        self.booster = xgboost.Booster(model_file=os.environ["PICKET_BENCH_MODEL"])

    @bentoml.api(route=f"/v2/models/{os.environ['PICKET_BENCH_NAME']}/infer")
    def infer(self, inputs: list[dict]) -> dict:
        x = np.array(inputs[0]["data"], np.float32).reshape(inputs[0]["shape"])
        y = self.booster.inplace_predict(x, validate_features=False)
        return {"outputs": [{"name": "output", "datatype": "FP32", "shape": [len(y), 1], "data": y.tolist()}]}
