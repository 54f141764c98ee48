"""Trains the models that are too large for the repository, for benchmarks only.

    train.py OUT.ubj TREES DEPTH FEATURES

Same seed, same library, same model. The rows are those of scripts/fixtures.
"""

import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../../scripts/fixtures"))

import xgboost as xgb

import labels

out, trees, depth, features = sys.argv[1], *map(int, sys.argv[2:])
x, z, noise = labels.training(features, 200_000)
params = dict(objective="binary:logistic", tree_method="hist", max_depth=depth, eta=0.05, seed=7, nthread=2)
booster = xgb.train(params, xgb.DMatrix(x, label=labels.binary(z, noise)), trees)
booster.save_model(out)
print(f"trained {trees} trees of depth {depth} on {features} features with XGBoost {xgb.__version__}: {os.path.getsize(out)} bytes")
