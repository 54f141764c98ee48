"""LitServe with one worker, under the same path and with the same bodies as the Open Inference Protocol."""

import sys

import litserve
import numpy as np
import xgboost

model, name, http = sys.argv[1:4]


class Forest(litserve.LitAPI):
    def setup(self, device):
        self.booster = xgboost.Booster(model_file=model)

    def decode_request(self, request):
        tensor = request["inputs"][0]
        return np.array(tensor["data"], np.float32).reshape(tensor["shape"])

    def predict(self, x):
        return self.booster.inplace_predict(x, validate_features=False)

    def encode_response(self, output):
        return {"outputs": [{"name": "output", "datatype": "FP32", "shape": [len(output), 1], "data": output.tolist()}]}


if __name__ == "__main__":
    api = Forest(api_path=f"/v2/models/{name}/infer")
    server = litserve.LitServer(api, accelerator="cpu", workers_per_device=1, healthcheck_path="/v2/health/ready")
    server.run(host="127.0.0.1", port=int(http), generate_client_file=False, log_level="warning", access_log=False)
