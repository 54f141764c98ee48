"""What a team writes for itself: FastAPI on uvicorn with uvloop and httptools, orjson, XGBoost; over a Unix socket."""

import sys

import fastapi
import numpy as np
import orjson
import uvicorn
import xgboost

model, name, socket = sys.argv[1:4]
booster = xgboost.Booster(model_file=model)
app = fastapi.FastAPI(openapi_url=None)


@app.get("/v2/health/ready")
async def ready():
    return {"ready": True}


@app.post(f"/v2/models/{name}/infer")
async def infer(request: fastapi.Request):
    tensor = orjson.loads(await request.body())["inputs"][0]
    x = np.array(tensor["data"], np.float32).reshape(tensor["shape"])
    y = booster.inplace_predict(x, validate_features=False)
    output = {"name": "output", "datatype": "FP32", "shape": [len(y), 1], "data": y}
    body = orjson.dumps({"model_name": name, "outputs": [output]}, option=orjson.OPT_SERIALIZE_NUMPY)
    return fastapi.Response(body, media_type="application/json")


uvicorn.run(app, uds=socket, loop="uvloop", http="httptools", access_log=False, log_level="warning")
