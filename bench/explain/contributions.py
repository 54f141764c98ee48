"""How long XGBoost and LightGBM take to tell what the features of a row contribute, on one thread.

The shortest of several runs, over the rows and models of the Go benchmark beside which run.sh runs it.
"""

import os
import sys
import time

ROOT = os.path.normpath(os.path.join(os.path.dirname(os.path.abspath(__file__)), "../.."))
sys.path.insert(0, os.path.join(ROOT, "scripts/fixtures"))
import rows

MODELS = os.path.join(ROOT, "internal/testkit/testdata/models")


def shortest(f, n, runs):
    best = float("inf")
    for _ in range(runs):
        began = time.perf_counter()
        f()
        best = min(best, (time.perf_counter() - began) / n)
    return best * 1e6


x = rows.rows(2000, 30)
try:
    import xgboost as library

    path = os.path.join(MODELS, "xgboost/fraud-1.7.6.ubj")
    model = library.Booster({"nthread": 1}, model_file=path)
    ask = lambda n: (lambda d: lambda: model.predict(d, pred_contribs=True))(library.DMatrix(x[:n], nthread=1))
except ImportError:
    import lightgbm as library

    path = os.path.join(MODELS, "lightgbm/binary-3.3.5.txt")
    model = library.Booster(model_file=path, params=dict(num_threads=1))
    ask = lambda n: lambda: model.predict(x[:n], pred_contrib=True, num_threads=1)
for n, runs in ((1, 200), (2000, 10)):
    print(f"{library.__name__} {library.__version__}, {os.path.basename(path)}, {n} rows a call: {shortest(ask(n), n, runs):.1f} us a row")
