"""Makes the demo's fraud model and its transactions.

Everything is synthetic and drawn from the seed below: no row describes a person. Writes, next
to this file, fraud.ubj, features.txt, transactions.csv and expected.csv; see README.md.

    python3 -m pip install xgboost==3.2.0 numpy==1.26.4 scipy==1.11.4
    python3 train.py
"""

import os

import numpy as np
import xgboost as xgb

SEED = 20240426
TRAINING = 120_000
SHOWN = 300
HERE = os.path.dirname(os.path.abspath(__file__))

# A score at or above the first is denied, at or above the second needs a second factor.
DENY, SECOND_FACTOR = 0.80, 0.30

FEATURES = [
    "amount",
    "currency_is_foreign",
    "hour",
    "day_of_week",
    "seconds_since_last",
    "count_1h",
    "count_24h",
    "amount_24h",
    "amount_vs_usual",
    "merchant_risk",
    "merchant_category",
    "merchant_is_new",
    "is_card_present",
    "is_contactless",
    "distance_home_km",
    "speed_since_last_kmh",
    "device_age_days",
    "device_is_new",
    "ip_country_matches",
    "failed_pins_24h",
    "declines_7d",
    "account_age_days",
    "customer_age_years",
    "balance",
]


def transactions(rng, n):
    """n transactions as a float32 matrix (NaN where a value is unknown) and their fraud labels."""
    # What a transaction looks like: everyday, unusual online, unusual in a shop, a new device.
    # Unusual ones are fraud only in part (the rest is a holiday, a gift, a new phone), so
    # that scores fill the whole range.
    kind = rng.choice(4, size=n, p=[0.88, 0.055, 0.03, 0.035])
    online, away, device = kind == 1, kind == 2, kind == 3
    unusual = kind > 0
    f = {}
    usual = np.exp(rng.normal(3.4, 0.6, n))
    f["amount"] = np.round(usual * np.exp(rng.normal(0, 0.8, n) + np.where(unusual, rng.normal(1.0, 0.7, n), 0)), 2)
    f["currency_is_foreign"] = rng.random(n) < np.where(online, 0.4, 0.06)
    f["hour"] = np.where(unusual & (rng.random(n) < 0.5), rng.integers(0, 6, n), np.clip(rng.normal(14, 4, n), 0, 23)).astype(int)
    f["day_of_week"] = rng.integers(0, 7, n)
    f["count_1h"] = rng.poisson(np.where(unusual, 2.0, 0.15))
    f["count_24h"] = f["count_1h"] + rng.poisson(np.where(unusual, 3.0, 2.0), n)
    f["seconds_since_last"] = np.round(np.exp(rng.normal(10, 1.2, n)) / (1 + 8 * f["count_1h"]))
    f["amount_24h"] = np.round(f["amount"] + f["count_24h"] * usual * np.exp(rng.normal(0, 0.4, n)), 2)
    f["amount_vs_usual"] = np.round(f["amount"] / usual, 3)
    f["merchant_risk"] = np.round(rng.beta(np.where(online, 3, 1.6), np.where(online, 3, 7)), 3)
    f["merchant_category"] = np.where(online, rng.choice([4, 7, 11], n), rng.integers(0, 12, n))
    f["merchant_is_new"] = rng.random(n) < np.where(unusual, 0.75, 0.2)
    f["is_card_present"] = rng.random(n) < np.where(online | device, 0.04, np.where(away, 0.95, 0.65))
    f["is_contactless"] = f["is_card_present"] & (rng.random(n) < 0.6)
    f["distance_home_km"] = np.round(np.exp(rng.normal(np.where(away, 3.6, 1.6), 1.3)), 1)
    f["speed_since_last_kmh"] = np.round(f["distance_home_km"] / np.maximum(f["seconds_since_last"] / 3600, 0.05) * rng.random(n), 1)
    f["device_age_days"] = np.round(np.where(device & (rng.random(n) < 0.8), rng.exponential(0.5, n), rng.exponential(400, n)), 1)
    f["device_is_new"] = f["device_age_days"] < 1
    f["ip_country_matches"] = rng.random(n) < np.where(online | device, 0.45, 0.96)
    f["failed_pins_24h"] = rng.poisson(np.where(away, 0.9, 0.03))
    f["declines_7d"] = rng.poisson(np.where(unusual, 0.8, 0.1))
    f["account_age_days"] = np.round(rng.exponential(1500, n))
    f["customer_age_years"] = np.clip(np.round(rng.normal(45, 16, n)), 18, 95)
    f["balance"] = np.round(np.exp(rng.normal(7.2, 1.1, n)), 2)
    risk = -1.6 + 3 * (f["merchant_risk"] - 0.4) + 0.8 * np.log(f["amount_vs_usual"] + 0.01) + 0.5 * f["count_1h"]
    risk += 0.8 * f["merchant_is_new"] + 1.2 * f["failed_pins_24h"] + 0.7 * f["declines_7d"] - 0.8 * f["ip_country_matches"]
    risk += np.where(f["hour"] < 6, 0.7, 0) + 0.8 * (f["account_age_days"] < 200)
    fraud = unusual & (rng.random(n) < 1 / (1 + np.exp(-2.5 * risk)))
    x = np.stack([np.asarray(f[name], dtype=np.float32) for name in FEATURES], axis=1)
    # Unknown values: a card in the shop has no device, and other sources fail now and then.
    at = FEATURES.index
    shop = f["is_card_present"] & (rng.random(n) < 0.9)
    for name in ("device_age_days", "device_is_new", "ip_country_matches"):
        x[shop, at(name)] = np.nan
    for name, share in (("seconds_since_last", 0.04), ("speed_since_last_kmh", 0.04), ("distance_home_km", 0.03), ("merchant_risk", 0.02), ("balance", 0.02)):
        x[rng.random(n) < share, at(name)] = np.nan
    return x, fraud.astype(np.float32)


def text(value):
    """The shortest decimal that reads back as the same float32; empty for unknown."""
    if np.isnan(value):
        return ""
    return str(int(value)) if value == int(value) else str(value)


def main():
    rng = np.random.default_rng(SEED)
    x, y = transactions(rng, TRAINING)
    params = dict(objective="binary:logistic", tree_method="hist", max_depth=5, eta=0.08, min_child_weight=5, nthread=1, seed=SEED)
    booster = xgb.train(params, xgb.DMatrix(x, y, feature_names=FEATURES), 100)
    path = os.path.join(HERE, "fraud.ubj")
    booster.save_model(path)

    shown, truth = transactions(rng, SHOWN)
    saved = xgb.Booster({"nthread": 1}, model_file=path)
    d = xgb.DMatrix(shown, feature_names=FEATURES)
    probability, margin = saved.predict(d), saved.predict(d, output_margin=True)
    with open(os.path.join(HERE, "features.txt"), "w", encoding="utf-8") as f:
        f.write("\n".join(FEATURES) + "\n")
    with open(os.path.join(HERE, "transactions.csv"), "w", encoding="utf-8") as f:
        f.writelines(",".join(text(v) for v in row) + "\n" for row in shown)
    with open(os.path.join(HERE, "expected.csv"), "w", encoding="utf-8") as f:
        f.write("probability,margin\n")
        f.writelines(f"{p:.9g},{m:.9g}\n" for p, m in zip(probability, margin))

    # What was written must read back as what was scored.
    lines = [line.rstrip("\n").split(",") for line in open(os.path.join(HERE, "transactions.csv"), encoding="utf-8")]
    read = np.array([[np.float32(c) if c else np.nan for c in line] for line in lines], dtype=np.float32)
    assert read.shape == shown.shape and ((read == shown) | (np.isnan(read) & np.isnan(shown))).all()
    numbers = np.loadtxt(os.path.join(HERE, "expected.csv"), delimiter=",", skiprows=1).astype(np.float32)
    assert (numbers[:, 0] == probability).all() and (numbers[:, 1] == margin).all()

    deny, ask = probability >= DENY, (probability >= SECOND_FACTOR) & (probability < DENY)
    print(f"fraud.ubj {os.path.getsize(path)} bytes; {len(FEATURES)} features; {np.isnan(shown).sum()} unknown values in {SHOWN} rows")
    print(f"deny {deny.sum()} (fraud {int(truth[deny].sum())}), second factor {ask.sum()} (fraud {int(truth[ask].sum())}), "
          f"approve {SHOWN - deny.sum() - ask.sum()} (fraud {int(truth[~deny & ~ask].sum())}); fraud in all {int(truth.sum())}")
    print("probability quantiles", np.round(np.quantile(probability, [0, 0.5, 0.8, 0.9, 0.95, 1]), 4))


if __name__ == "__main__":
    main()
