"""Times NVIDIA's Forest Inference Library on a model file and prints engine, rows and microseconds per row, tab-separated.

python fil.py MODEL ROWS COLUMNS ANSWERS SIZE...

ROWS holds float32 rows of so many columns. FIL is given the first of them three ways: in main memory as an array of numpy's is, in pinned
memory as Picket has them, and on the GPU already, which leaves out the copies that a server has to make. Its answers for the most rows are
written to ANSWERS as float32, for the caller to compare.

The library is nvforest, or cuML of the versions that had it.
"""

import sys
import time

import cupy
import cupyx
import numpy


def load(file):
    """The model, with a function that chooses the layout and chunk size that are best for so many rows."""
    try:
        import nvforest
    except ImportError:
        from cuml import ForestInference

        model = ForestInference.load(file, model_type="xgboost_json", is_classifier=True)

        def tuned(rows):
            model.optimize(batch_size=rows)
            return model
    else:
        model = nvforest.load_model(file, model_type="xgboost_json", device="gpu", precision="single")

        def tuned(rows):
            return model.optimize(batch_size=rows, unique_batches=2)

    return tuned


def median(call, turns=15):
    took = []
    for turn in range(turns + 2):
        start = time.perf_counter()
        call()
        cupy.cuda.Device().synchronize()
        if turn > 1:  # the first warm it up
            took.append(time.perf_counter() - start)
    took.sort()
    return took[len(took) // 2]


def pinned(like):
    array = cupyx.empty_pinned(like.shape, dtype=like.dtype)
    array[...] = like
    return array


def main():
    file, columns, sizes = sys.argv[1], int(sys.argv[3]), sorted(int(n) for n in sys.argv[5:])
    everything = numpy.fromfile(sys.argv[2], dtype=numpy.float32).reshape(-1, columns)
    tuned = load(file)
    for rows in sizes:
        predict = tuned(rows).predict_proba
        host = everything[:rows]
        device = cupy.asarray(host)
        last = predict(device)
        ours, theirs = pinned(host), cupyx.empty_pinned(last.shape, dtype=last.dtype)

        def from_pinned():
            device.set(ours)
            predict(device).get(out=theirs)

        for name, call in (
            ("FIL, from main memory", lambda: cupy.asnumpy(predict(cupy.asarray(host)))),
            ("FIL, from pinned memory", from_pinned),
            ("FIL, rows on the GPU", lambda: predict(device)),
        ):
            print(f"{name}\t{rows}\t{median(call) * 1e6 / rows}", flush=True)
    cupy.asnumpy(last).reshape(len(host), -1)[:, -1].astype(numpy.float32).tofile(sys.argv[4])


main()
