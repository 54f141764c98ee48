"""Times cuML's Forest Inference Library on a model file and prints engine, rows and microseconds per row, tab-separated.

FIL is given float32 rows in main memory, as Picket is, and rows that are on the GPU already, which leaves out the copies that a server has to make.
"""

import sys
import time

import cupy
import numpy
from cuml import ForestInference


def best(call, turns=15):
    took = []
    for turn in range(turns + 2):
        start = time.perf_counter()
        call()
        cupy.cuda.Device().synchronize()
        if turn > 1:
            took.append(time.perf_counter() - start)
    took.sort()
    return took[len(took) // 2]


def main():
    file, sizes = sys.argv[1], [int(n) for n in sys.argv[2:]]
    try:
        model = ForestInference.load(file, model_type="xgboost_json", output_class=True)
    except TypeError:  # newer versions name it differently
        model = ForestInference.load(file, model_type="xgboost_json", is_classifier=True)
    predict = getattr(model, "predict_proba", model.predict)
    columns = getattr(model, "num_features", 30)
    random = numpy.random.default_rng(3)
    for rows in sizes:
        host = random.standard_normal((rows, columns), dtype=numpy.float32)
        host[random.random(host.shape) < 0.05] = numpy.nan
        device = cupy.asarray(host)
        if hasattr(model, "optimize"):
            model.optimize(batch_size=rows)
        print(f"cuML FIL, from main memory\t{rows}\t{best(lambda: cupy.asnumpy(predict(cupy.asarray(host)))) * 1e6 / rows}", flush=True)
        print(f"cuML FIL, rows on the GPU\t{rows}\t{best(lambda: predict(device)) * 1e6 / rows}", flush=True)


main()
