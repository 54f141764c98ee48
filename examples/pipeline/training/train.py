"""Trains a fraud model, in SageMaker's script mode: the same file runs in the XGBoost container and under
`picket pipeline run --local`. Rows are CSV without a header, the label first; an empty field is a missing value."""
import argparse
import glob
import os

import numpy
import xgboost


def read(folder):
    """Gives the rows of all files of a channel."""
    names = sorted(glob.glob(os.path.join(folder, "**", "*.csv"), recursive=True))
    if not names:
        raise SystemExit(f"there is no CSV file in {folder}")
    rows = numpy.concatenate([numpy.loadtxt(lines(name), delimiter=",", dtype=numpy.float32, ndmin=2) for name in names])
    return xgboost.DMatrix(rows[:, 1:], label=rows[:, 0])


def lines(name):
    """Gives the lines of a file, with a word for missing values."""
    with open(name) as f:
        for line in f:
            yield line.rstrip("\n").replace(",,", ",nan,").replace(",,", ",nan,") + ("nan" if line.endswith(",\n") else "")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--num_round", type=int, default=100)
    parser.add_argument("--max_depth", type=int, default=6)
    parser.add_argument("--eta", type=float, default=0.2)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--train", default=os.environ.get("SM_CHANNEL_TRAIN"))
    parser.add_argument("--validation", default=os.environ.get("SM_CHANNEL_VALIDATION"))
    parser.add_argument("--model-dir", default=os.environ.get("SM_MODEL_DIR"))
    options, _ = parser.parse_known_args()

    train = read(options.train)
    print(f"{train.num_row()} rows of {train.num_col()} features to train with", flush=True)
    watched = [(train, "train")]
    if options.validation:
        watched.append((read(options.validation), "validation"))
    parameters = {
        "objective": "binary:logistic", "tree_method": "hist", "eval_metric": ["auc", "logloss"],
        "max_depth": options.max_depth, "eta": options.eta, "seed": options.seed,
    }
    booster = xgboost.train(parameters, train, options.num_round, watched, verbose_eval=10)
    # The name that SageMaker's own algorithm gives, which Neo looks for.
    booster.save_model(os.path.join(options.model_dir, "xgboost-model"))


if __name__ == "__main__":
    main()
