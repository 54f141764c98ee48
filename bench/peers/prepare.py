"""Turns a model file into the form that one peer runs: prepare.py FORM MODEL OUT

MODEL is XGBoost's (.ubj, with the old binary form .model beside it) or LightGBM's (.txt).
"""

import os
import subprocess
import sys
import tempfile

form, model, out = sys.argv[1:]
lightgbm = model.endswith(".txt")
# gcc takes hours for hundreds of thousands of branches at -O3, which the compilers of trees ask for by themselves.
options = ["-O1"] if os.path.getsize(model) > 8 << 20 else []


def treelite093():
    import treelite

    m = treelite.Model.load(model if lightgbm else model.removesuffix(".ubj") + ".model", "lightgbm" if lightgbm else "xgboost")
    os.makedirs(out)
    m.export_lib(toolchain="gcc", libpath=os.path.join(out, "compiled.so"), params={"parallel_comp": 32}, nthread=2, options=options, verbose=False)


def tl2cgen():
    import tl2cgen
    import treelite

    m = treelite.frontend.load_lightgbm_model(model) if lightgbm else treelite.frontend.load_xgboost_model(model)
    tl2cgen.export_lib(m, toolchain="gcc", libpath=out, params={"parallel_comp": 32}, nthread=2, options=options, verbose=False)


def lleaves():
    import lleaves

    with tempfile.TemporaryDirectory() as folder:
        compiled = os.path.join(folder, "forest.o")
        lleaves.Model(model).compile(cache=compiled)
        subprocess.run(["cc", "-shared", "-o", out, compiled, "-lm"], check=True)


def onnx():
    import numpy
    import onnxmltools
    import onnxruntime
    from onnxmltools.convert.common.data_types import FloatTensorType

    if lightgbm:
        import lightgbm as library

        m = library.Booster(model_file=model)
        features, ours = m.num_feature(), m.predict
        converted = onnxmltools.convert_lightgbm(m, initial_types=[("x", FloatTensorType([None, features]))], zipmap=False)
    else:
        import xgboost as library

        m = library.Booster(model_file=model)
        features, ours = m.num_features(), m.inplace_predict
        converted = onnxmltools.convert_xgboost(m, initial_types=[("x", FloatTensorType([None, features]))])
    data = converted.SerializeToString()
    # Of a Booster the converter guesses what kind of model it is, and can be wrong: by whole numbers in its statistics.
    rows = numpy.random.default_rng(1).random((256, features), numpy.float32)
    rows[::2, ::3] = numpy.nan
    session = onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])
    theirs = session.run(None, {"x": rows})[-1].reshape(len(rows), -1)
    expected = numpy.asarray(ours(rows)).reshape(len(rows), -1)
    far = numpy.abs(theirs[:, -expected.shape[1] :] - expected).max(axis=1) > 1e-4
    # A threshold of LightGBM's that float32 cannot hold sends a row astray now and then.
    if far.sum() > len(rows) / 50:
        sys.exit(f"onnxmltools makes something else of the model: {far.sum()} of {len(rows)} rows are answered otherwise, {theirs[0]} instead of {expected[0]}")
    with open(out, "wb") as f:
        f.write(data)


def onedal():
    import daal4py

    if lightgbm:
        import lightgbm as library
    else:
        import xgboost as library
    # Its state is oneDAL's own archive of the model, which C++ reads as well.
    with open(out, "wb") as f:
        f.write(daal4py.mb.convert_model(library.Booster(model_file=model)).daal_model_.__getstate__())


{"treelite093": treelite093, "tl2cgen": tl2cgen, "lleaves": lleaves, "onnx": onnx, "onedal": onedal}[form]()
