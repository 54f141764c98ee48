"""Trains the fraud model: here, or as the entry point of a SageMaker training job in script mode.

    fraud generate -o transactions.parquet                    # a million transactions with their profiles
    python3 -m pip install -r requirements.txt
    python3 train.py --train transactions.parquet --version 2 --model-dir model

In a job the channel "train" is a folder of such files, and the model and its description become the job's artifact: the arguments' defaults are SageMaker's
variables. Hyperparameters are the arguments of the same names.

Time is split, never shuffled: the model learns from the past, the number of trees and the thresholds come from the days after a gap in which frauds would not
be known yet, and the figures from the days after another gap. The first days have no history yet and are left out. Beside the model stands VERSION.json: the features in their
order, the thresholds, the figures, and from what data, libraries and seed it all came. With --table the figures become the table in README.md.
"""

import argparse
import hashlib
import json
import os
import platform
import sys
from datetime import datetime, timezone

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import sklearn
import xgboost as xgb
from sklearn.impute import SimpleImputer
from sklearn.isotonic import IsotonicRegression
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import average_precision_score, brier_score_loss, roc_auc_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

# What a decision costs, in euros. A fraud that is approved costs its amount. One that is challenged gets through with the part PASSES. Whoever is honest and asked for
# the second factor loses FRICTION; whoever is denied calls the bank, and some of what would have been paid is paid with another card from then on.
PASSES = 0.05
FRICTION = 2.00
CALL, LOST = 6.00, 0.05

RAW = ["id", "time", "customer", "terminal", "merchant", "device", "cents", "channel", "merchant_category", "country", "latitude", "longitude", "fraud", "scenario"]


def arguments():
    p = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    p.add_argument("--train", default=os.environ.get("SM_CHANNEL_TRAIN"), help="a file of `fraud generate`, or a folder of them")
    p.add_argument("--model-dir", default=os.environ.get("SM_MODEL_DIR", "model"))
    p.add_argument("--version", default="1")
    p.add_argument("--skip-last", type=int, default=0, help="leave out so many days at the end, as if it were earlier")
    p.add_argument("--warm-days", type=int, default=38, help="days at the beginning that have no full history")
    p.add_argument("--validation-days", type=int, default=21)
    p.add_argument("--test-days", type=int, default=28)
    p.add_argument("--gap-days", type=int, default=7, help="how long it takes until a fraud is known")
    p.add_argument("--trees", type=int, default=160, help="at most")
    p.add_argument("--depth", type=int, default=5)
    p.add_argument("--learning-rate", type=float, default=0.1)
    p.add_argument("--seed", type=int, default=1)
    p.add_argument("--table", help="a Markdown file whose table between the marks 'figures' is written anew, from all descriptions in --model-dir")
    a = p.parse_args()
    if not a.train:
        p.error("say with --train where the transactions are, or run as a SageMaker job with a channel of that name")
    return a


def read(path):
    """All transactions in the order of their time, the features in the order of the model's input, and the digest of what was read."""
    files = [path] if os.path.isfile(path) else sorted(os.path.join(path, f) for f in os.listdir(path) if f.endswith((".parquet", ".csv")))
    if not files:
        sys.exit(f"reading {path}: it has no .parquet and no .csv")
    digest, parts, features = hashlib.sha256(), [], []
    for f in files:
        with open(f, "rb") as opened:
            for block in iter(lambda: opened.read(1 << 20), b""):
                digest.update(block)
        if f.endswith(".parquet"):
            parts.append(pd.read_parquet(f))
            # Its columns are ordered by name, the model's input is not.
            order = pq.read_schema(f).metadata[b"features"].decode().split(",")
        else:
            parts.append(pd.read_csv(f, parse_dates=["time"]))
            order = [c for c in parts[-1].columns if c not in RAW]
        if parts[0] is not parts[-1] and order != features:
            sys.exit(f"reading {f}: its features are not those of the files before it")
        features = order
    data = pd.concat(parts, ignore_index=True).sort_values(["time", "id"], kind="stable", ignore_index=True)
    time = pd.to_datetime(data["time"], utc=True)
    data["day"] = (time.dt.normalize() - time.iloc[0].normalize()).dt.days
    return data, features, digest.hexdigest()


def split(data, a):
    """Three stretches of days: to learn, to choose, to judge."""
    end = int(data["day"].max()) + 1 - a.skip_last
    test = end - a.test_days
    validation = test - a.gap_days - a.validation_days
    train = validation - a.gap_days
    if train <= a.warm_days + 7:
        sys.exit(f"splitting {end} days: nothing is left to learn from before day {train}; generate more days")
    day = data["day"]
    parts = {
        "train": data[(day >= a.warm_days) & (day < train)],
        "validation": data[(day >= validation) & (day < validation + a.validation_days)],
        "test": data[(day >= test) & (day < end)],
    }
    for name, part in parts.items():
        if part["fraud"].sum() < 20:
            sys.exit(f"splitting {end} days: the part to {name} has {int(part['fraud'].sum())} frauds, which is too few to mean anything; generate more transactions")
    return parts


def card_precision(part, scores, k=100):
    """The Handbook's: of the k cards a day that look worst, how many were used in a fraud; a card that was found is not looked at again. And the best that could be."""
    frame = pd.DataFrame({"day": part["day"].values, "customer": part["customer"].values, "fraud": part["fraud"].values, "score": scores})
    found, precision, best = set(), [], []
    for _, day in frame.groupby("day"):
        day = day[~day["customer"].isin(found)]
        cards = day.groupby("customer").agg(score=("score", "max"), fraud=("fraud", "max")).sort_values("score", ascending=False)
        worst = cards.head(k)
        precision.append(worst["fraud"].sum() / k)
        best.append(min(k, cards["fraud"].sum()) / k)
        found.update(worst.index[worst["fraud"] == 1])
    return float(np.mean(precision)), float(np.mean(best))


def costs(part):
    """What each verdict would cost for each transaction."""
    fraud, amount = part["fraud"].values == 1, part["cents"].values / 100
    return np.where(fraud, amount, 0), np.where(fraud, PASSES * amount, FRICTION), np.where(fraud, 0, CALL + LOST * amount)


def thresholds(scores, part):
    """The two scores from which challenging and denying cost least together, on these transactions."""
    approve, challenge, deny = costs(part)
    order = np.argsort(scores, kind="stable")
    s = scores[order]
    # below[i] is what it costs to treat the first i in one way, so all pairs of limits cost a table look-up.
    sums = [np.concatenate([[0], np.cumsum(c[order])]) for c in (approve, challenge, deny)]
    # Where scores are equal there is no limit between.
    edges = np.concatenate([[0], np.flatnonzero(s[1:] > s[:-1]) + 1, [len(s)]])
    first = sums[0][edges] - sums[1][edges]
    best_first = np.minimum.accumulate(first)
    where_first = np.maximum.accumulate(np.where(first == best_first, np.arange(len(edges)), 0))
    total = best_first + sums[1][edges] + sums[2][-1] - sums[2][edges]
    second = int(np.argmin(total))
    at = [edges[where_first[second]], edges[second]]
    return [float((s[i - 1] + s[i]) / 2) if 0 < i < len(s) else (0.0 if i == 0 else 1.0) for i in at]


def cost(scores, part, limits):
    """Cents for each transaction with these limits."""
    approve, challenge, deny = costs(part)
    return float(np.where(scores >= limits[1], deny, np.where(scores >= limits[0], challenge, approve)).mean() * 100)


def figures(scores, part, limits):
    fraud = part["fraud"].values
    precision, best = card_precision(part, scores)
    challenged, denied = (scores >= limits[0]) & (scores < limits[1]), scores >= limits[1]
    return {
        "roc_auc": roc_auc_score(fraud, scores),
        "average_precision": average_precision_score(fraud, scores),
        "card_precision_100": precision,
        "card_precision_100_best": best,
        "brier": brier_score_loss(fraud, scores),
        "cents_per_transaction": cost(scores, part, limits),
        "cents_without_a_model": float(costs(part)[0].mean() * 100),
        "challenged": float(challenged.mean()),
        "denied": float(denied.mean()),
        "frauds_stopped": float((challenged | denied)[fraud == 1].mean()),
        "honest_denied": float(denied[fraud == 0].mean()),
    }


def main():
    a = arguments()
    if not a.version.isalnum():
        sys.exit(f"naming the model: --version is {a.version!r}, and only letters and digits are allowed")
    data, features, digest = read(a.train)
    parts = split(data, a)
    x = {k: v[features].to_numpy(np.float32) for k, v in parts.items()}
    y = {k: v["fraud"].to_numpy() for k, v in parts.items()}
    for k, v in parts.items():
        print(f"{k}: days {v['day'].min()} to {v['day'].max()}, {len(v)} transactions, {y[k].mean():.2%} fraud", flush=True)

    # No weights for the rare class: the scores stay probabilities.
    model = xgb.XGBClassifier(
        n_estimators=a.trees, max_depth=a.depth, learning_rate=a.learning_rate, min_child_weight=5, subsample=0.8, colsample_bytree=0.6, reg_lambda=3, gamma=1.0, tree_method="hist",
        objective="binary:logistic", eval_metric="aucpr", early_stopping_rounds=40, random_state=a.seed, n_jobs=max(1, min(2, os.cpu_count() or 1)),
    )
    model.fit(x["train"], y["train"], eval_set=[(x["validation"], y["validation"])], verbose=False)
    model = model.get_booster()[: model.best_iteration + 1]
    score = {k: model.inplace_predict(v) for k, v in x.items()}

    baseline = make_pipeline(SimpleImputer(strategy="median", add_indicator=True, keep_empty_features=True), StandardScaler(), LogisticRegression(max_iter=300, C=0.1))
    baseline.fit(x["train"], y["train"])
    simple = {k: baseline.predict_proba(v)[:, 1] for k, v in x.items()}

    limits = thresholds(score["validation"], parts["validation"])
    result = figures(score["test"], parts["test"], limits)
    compared = figures(simple["test"], parts["test"], thresholds(simple["validation"], parts["validation"]))
    calibration = IsotonicRegression(out_of_bounds="clip").fit(score["validation"], y["validation"])

    os.makedirs(os.path.join(a.model_dir, a.version), exist_ok=True)
    path = os.path.join(a.model_dir, a.version, "fraud.ubj")
    model.feature_names = None  # their order is in the description; the engine needs no names
    model.save_model(path)
    with open(path, "rb") as f:
        model_digest = hashlib.sha256(f.read()).hexdigest()
    description = {
        "version": a.version,
        "trained": datetime.now(timezone.utc).isoformat(timespec="seconds").replace("+00:00", "Z"),
        "features": features,
        "challenge_from": limits[0],
        "deny_from": limits[1],
        # What the validation days say about those two scores: how many of such transactions were fraud.
        "calibrated": {"challenge_from": float(calibration.predict([limits[0]])[0]), "deny_from": float(calibration.predict([limits[1]])[0])},
        "costs": {"passes": PASSES, "friction": FRICTION, "call": CALL, "lost": LOST},
        "figures": result,
        "logistic_regression": compared,
        "by_scenario": {s: float((score["test"][(parts["test"]["scenario"] == s).values] >= limits[0]).mean()) for s in sorted(parts["test"]["scenario"].unique()) if s != "honest"},
        "provenance": {
            "data_sha256": digest,
            "model_sha256": model_digest,
            "days": {k: [int(v["day"].min()), int(v["day"].max())] for k, v in parts.items()},
            "transactions": {k: len(v) for k, v in parts.items()},
            "trees": model.num_boosted_rounds(),
            "arguments": {k: getattr(a, k) for k in ("skip_last", "warm_days", "validation_days", "test_days", "gap_days", "trees", "depth", "learning_rate", "seed")},
            "libraries": {"xgboost": xgb.__version__, "scikit-learn": sklearn.__version__, "numpy": np.__version__, "python": platform.python_version()},
        },
    }
    with open(os.path.join(a.model_dir, a.version + ".json"), "w") as f:
        json.dump(description, f, indent=1)
        f.write("\n")
    print(json.dumps({k: description[k] for k in ("challenge_from", "deny_from", "calibrated", "figures", "logistic_regression", "by_scenario")}, indent=1))
    print(f"{path}: {os.path.getsize(path)} bytes, {model.num_boosted_rounds()} trees")
    if a.table:
        write_table(a.table, a.model_dir)


def write_table(readme, model_dir):
    """The figures of every description, between two marks of a Markdown file."""
    columns = []
    for name in sorted(f for f in os.listdir(model_dir) if f.endswith(".json")):
        with open(os.path.join(model_dir, name)) as f:
            d = json.load(f)
        days = d["provenance"]["days"]["test"]
        columns.append((f"XGBoost, version {d['version']}, days {days[0]} to {days[1]}", d["figures"]))
        columns.append(("logistic regression, the same days", d["logistic_regression"]))
    rows = [
        ("ROC AUC", lambda f: f"{f['roc_auc']:.4f}"),
        ("average precision", lambda f: f"{f['average_precision']:.3f}"),
        ("card precision at 100 (the best possible)", lambda f: f"{f['card_precision_100']:.3f} ({f['card_precision_100_best']:.3f})"),
        ("Brier score", lambda f: f"{f['brier']:.5f}"),
        ("cost of a transaction, in cents (without a model)", lambda f: f"{f['cents_per_transaction']:.1f} ({f['cents_without_a_model']:.1f})"),
        ("asked for a 2nd factor, denied", lambda f: f"{f['challenged']:.2%}, {f['denied']:.2%}"),
        ("frauds that were asked or denied", lambda f: f"{f['frauds_stopped']:.1%}"),
        ("honest transactions denied", lambda f: f"{f['honest_denied']:.3%}"),
    ]
    lines = ["| | " + " | ".join(n for n, _ in columns) + " |", "|---" * (len(columns) + 1) + "|"]
    lines += [f"| {label} | " + " | ".join(cell(f) for _, f in columns) + " |" for label, cell in rows]
    begin, end = "<!-- figures: written by train.py --table -->\n", "<!-- end of figures -->"
    with open(readme) as f:
        text = f.read()
    if begin not in text or end not in text:
        sys.exit(f"writing the table: {readme} has no place for it, which is between the lines {begin.strip()!r} and {end!r}")
    text = text[: text.index(begin) + len(begin)] + "\n".join(lines) + "\n" + text[text.index(end) :]
    with open(readme, "w") as f:
        f.write(text)


if __name__ == "__main__":
    main()
