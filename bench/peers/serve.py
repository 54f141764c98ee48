"""Runs a library that only Python calls, one command per line on standard input, one answer per line on standard output.

    {"do": "open", "engine": "onedal" or "ydf", "model": PATH, "file": PATH, "features": N, "outputs": N, "threads": N}
        file holds the rows, float32, row-major; the answer is {"note": how the engine is called, "hot_only": whether it has no "call"}
    {"do": "answers", "from": I, "rows": N, "out": PATH}           predicts rows into a file of float32
    {"do": "turn", "from": I, "rows": N, "seconds": S, "least": N} calls with N rows, from row I on, again and again: {"ns": [each call]}
    {"do": "call", "from": I, "rows": N}                           one call: {"ns": [it]}

Times are taken here, around the call itself, so that what it costs to talk to this process is outside.
"""

import importlib.metadata
import json
import os
import re
import sys
import time

import numpy as np

# Libraries print; the answers need the real standard output for themselves.
answers = os.fdopen(os.dup(1), "w")
os.dup2(2, 1)


class OneDAL:
    hot_only = False

    def __init__(self, c):
        import daal4py

        if c["model"].endswith(".txt"):
            import lightgbm

            booster = lightgbm.Booster(model_file=c["model"])
        else:
            import xgboost

            booster = xgboost.Booster(model_file=c["model"])
        daal4py.daalinit(c["threads"])
        self.model = daal4py.mb.convert_model(booster)
        self.single = c["outputs"] == 1
        self.note = f"oneDAL {importlib.metadata.version('daal')} through daal4py's predict_proba"

    def call(self, x):
        return self.model.predict_proba(x)

    def answers(self, x):
        y = self.call(x)
        return y[:, 1] if self.single else y

    def turn(self, x, start, n, seconds, least):
        times, at, end = [], start, time.perf_counter() + seconds
        while len(times) < least or time.perf_counter() < end:
            at = at if at + n <= len(x) else start
            times.append(self.once(x[at : at + n]))
            at += n
        return times

    def once(self, x):
        start = time.perf_counter_ns()
        self.model.predict_proba(x)
        return time.perf_counter_ns() - start


class YDF:
    """The model's own trees in a YDF model, timed by YDF's benchmark in C++."""

    hot_only = True

    def __init__(self, c):
        import ydf
        from ydf.model import tree

        self.ydf, self.threads = ydf, c["threads"]
        random = np.random.default_rng(1)
        self.features = c["features"]
        sample = np.fromfile(c["file"], np.float32).reshape(-1, self.features)[:2000]
        classes = max(2, c["outputs"])
        learner = ydf.GradientBoostedTreesLearner(label="y", num_trees=1, max_depth=2, validation_ratio=0.0, early_stopping="NONE")
        self.model = learner.train({"x": sample, "y": random.integers(0, classes, len(sample))}, verbose=0)
        columns = [c.column_idx for c in self.model.input_features()]
        means = [self.model.data_spec().columns[i].numerical.mean for i in columns]

        def leaf(value):
            return tree.Leaf(value=tree.RegressionValue(num_examples=1.0, value=float(value)))

        def split(feature, threshold, less, rest):
            # The fast engines put the column's mean in the place of missing values; they take no direction per split.
            condition = tree.NumericalHigherThanCondition(
                missing=bool(means[feature] >= threshold), score=1.0, attribute=columns[feature], threshold=float(threshold)
            )
            value = tree.RegressionValue(num_examples=1.0, value=0.0)
            return tree.NonLeaf(value=value, condition=condition, pos_child=rest, neg_child=less)

        margin = [0.0] * (classes if classes > 2 else 1)
        roots = []
        if c["model"].endswith(".txt"):
            import lightgbm

            def grow(n):
                if "leaf_value" in n:
                    return leaf(n["leaf_value"])
                # x <= t for a float32 x is x < the first float32 above t.
                t = np.float32(n["threshold"])
                if float(t) <= n["threshold"]:
                    t = np.nextafter(t, np.float32(np.inf))
                return split(n["split_feature"], t, grow(n["left_child"]), grow(n["right_child"]))

            for t in lightgbm.Booster(model_file=c["model"]).dump_model()["tree_info"]:
                roots.append(grow(t["tree_structure"]))
        else:
            import xgboost

            document = json.loads(bytes(xgboost.Booster(model_file=c["model"]).save_raw("json")))
            score = np.array(json.loads(document["learner"]["learner_model_param"]["base_score"])).reshape(-1)[0]
            margin = [float(score)] * len(margin) if classes > 2 else [float(np.log(score / (1 - score)))]
            for t in document["learner"]["gradient_booster"]["model"]["trees"]:
                left, right, at, by = t["left_children"], t["right_children"], t["split_conditions"], t["split_indices"]

                def grow(i):
                    return leaf(at[i]) if left[i] < 0 else split(by[i], at[i], grow(left[i]), grow(right[i]))

                roots.append(grow(0))
        while self.model.num_trees() > 1:
            self.model.remove_tree(self.model.num_trees() - 1)
        self.model.set_tree(0, tree.Tree(root=roots[0]))
        for root in roots[1:]:
            self.model.add_tree(tree.Tree(root=root))
        self.model.set_initial_predictions(np.array(margin, np.float32))
        engine = self.model.list_compatible_engines()[0]
        self.single = c["outputs"] == 1
        self.note = (
            f"YDF {ydf.__version__}, {engine.removeprefix('GradientBoostedTrees')}, with the same splits and leaves, but the column's mean for missing values: "
            "answers are compared on rows without; timed by its own benchmark in C++, which repeats calls, so it is never shuffled"
        )
        self.data = {}

    def answers(self, x):
        return self.model.predict({"x": x})

    def turn(self, x, start, n, seconds, least):
        if (start, n) not in self.data:
            self.data[start, n] = self.ydf.create_vertical_dataset(
                {"x": x[start : start + max(n, 2048)]}, data_spec=self.model.data_spec(), required_columns=self.model.input_feature_names()
            )
        threads = self.threads if self.threads > 1 else None
        r = self.model.benchmark(self.data[start, n], benchmark_duration=seconds, warmup_duration=max(0.005, seconds / 5), batch_size=n, num_threads=threads)
        us = dict(re.findall(r"(Single|Multi)-thread inference time per example: ([0-9.]+) us", str(r)))
        return [float(us["Multi" if threads else "Single"]) * 1e3 * n]



peer = x = None
for line in sys.stdin:
    c = json.loads(line)
    try:
        reply = {}
        if c["do"] == "open":
            peer = {"onedal": OneDAL, "ydf": YDF}[c["engine"]](c)
            x = np.fromfile(c["file"], np.float32).reshape(-1, c["features"])
            reply.update(note=peer.note, hot_only=peer.hot_only)
        elif c["do"] == "answers":
            np.ascontiguousarray(peer.answers(x[c["from"] : c["from"] + c["rows"]]), np.float32).tofile(c["out"])
        elif c["do"] == "turn":
            reply["ns"] = [int(t) for t in peer.turn(x, c["from"], c["rows"], c["seconds"], c["least"])]
        elif c["do"] == "call":
            reply["ns"] = [peer.once(x[c["from"] : c["from"] + c["rows"]])]
    except Exception as e:  # whatever a library throws is an answer
        reply = {"error": f"{type(e).__name__}: {e}"[:500]}
    print(json.dumps(reply), file=answers, flush=True)
