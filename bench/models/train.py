"""Trains the models that are too large for the repository, for benchmarks only.

    train.py STEM LIBRARY TREES SIZE FEATURES CLASSES

LIBRARY is xgboost (SIZE is the depth; writes STEM.ubj, and STEM.model in the old binary form that Treelite 0.93 reads) or
lightgbm (SIZE is the number of leaves; writes STEM.txt). With more than two classes TREES is the number of rounds, each of
which makes a tree per class. Same seed, same library, same model. The rows are those of scripts/fixtures: 200,000 of them, so
that the trees are nearly full, and 60,000 for thousands of trees, which would take a quarter of an hour otherwise.
"""

import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "../../scripts/fixtures"))

import labels

stem, library = sys.argv[1:3]
trees, size, features, classes = map(int, sys.argv[3:])
x, z, noise = labels.training(features, 200_000 if trees <= 1000 else 60_000)
y = labels.binary(z, noise) if classes == 2 else labels.classes(z, noise)
# More trees take smaller steps, or the last ones would have little left to split.
eta = min(0.05, 25 / trees)

if library == "xgboost":
    import xgboost

    params = dict(objective="binary:logistic", tree_method="hist", max_depth=size, eta=eta, seed=7, nthread=int(os.environ.get("OMP_NUM_THREADS", 2)))
    if classes > 2:
        params.update(objective="multi:softprob", num_class=classes)
    booster = xgboost.train(params, xgboost.DMatrix(x, label=y), trees)
    # The file whose presence says that training is complete is written last, by the caller's rename.
    booster.save_model(stem + ".model")
    booster.save_model(stem + ".ubj")
else:
    import lightgbm

    params = dict(objective="binary", num_leaves=size, learning_rate=eta, seed=7, num_threads=2, deterministic=True, verbose=-1)
    booster = lightgbm.train(params, lightgbm.Dataset(x, label=y), trees)
    booster.save_model(stem + ".txt")
print(f"trained {os.path.basename(stem)} with {library}: {trees} rounds of size {size}, {features} features, {classes} classes", file=sys.stderr)
