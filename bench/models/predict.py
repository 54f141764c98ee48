"""What the library that trained a model answers: predict.py LIBRARY MODEL FEATURES, rows on standard input, answers on standard
output, both float32 and row-major."""

import sys

import numpy as np

library, model, features = sys.argv[1], sys.argv[2], int(sys.argv[3])
x = np.frombuffer(sys.stdin.buffer.read(), np.float32).reshape(-1, features)
if library == "xgboost":
    import xgboost

    y = xgboost.Booster(model_file=model).predict(xgboost.DMatrix(x))
else:
    import lightgbm

    y = lightgbm.Booster(model_file=model).predict(x)
sys.stdout.buffer.write(np.ascontiguousarray(y, np.float32).tobytes())
