"""Makes the golden vectors of the xgboost backend: models of XGBoost 1.6, rows, and the library's own answers.

    python -m venv /tmp/xgboost-1.6 && /tmp/xgboost-1.6/bin/pip install -r requirements.txt
    /tmp/xgboost-1.6/bin/python make.py

With XGBoost 3.2 (requirements-newer.txt) it writes the files that the backend must refuse instead.
"""

import json
import pathlib

import numpy as np
import xgboost as xgb

HERE = pathlib.Path(__file__).resolve().parent
ROWS = 16


def main():
    random = np.random.RandomState(3)
    x = random.normal(size=(300, 4)).astype(np.float32)
    x[random.uniform(size=x.shape) < 0.1] = np.nan
    x[random.uniform(size=x.shape) < 0.1] = 0
    y = np.nan_to_num(x[:, 0]) * 2 + np.nan_to_num(x[:, 1] * x[:, 2])
    tree = dict(max_depth=3, nthread=1, seed=1)
    dart = dict(tree, booster="dart", rate_drop=0.4, base_score=0.31)
    classes = np.digitize(y, [-1, 1])
    if not xgb.__version__.startswith("1.6"):
        for name, parameters in {"dart-newer": dart, "gblinear-newer": dict(booster="gblinear")}.items():
            booster = xgb.train(parameters, xgb.DMatrix(x, y), 2)
            for suffix in ("json", "ubj"):
                booster.save_model(str(HERE / f"{name}.{suffix}"))
        return
    for name, parameters, target in [
        ("dart", dict(dart, objective="reg:squarederror"), y),
        ("dart-logistic", dict(dart, objective="binary:logistic"), y > 0),
        ("dart-softprob", dict(dart, objective="multi:softprob", num_class=3), classes),
        ("dart-softmax", dict(dart, objective="multi:softmax", num_class=3), classes),
        ("dart-poisson", dict(dart, objective="count:poisson"), np.floor(np.abs(y))),
        ("dart-tweedie", dict(dart, objective="reg:tweedie"), np.abs(y)),
        ("dart-huber", dict(dart, objective="reg:pseudohubererror"), y),
        ("dart-parallel", dict(dart, num_parallel_tree=2, subsample=0.5), y),
        ("gblinear", dict(booster="gblinear", objective="reg:squarederror", nthread=1), y),
        ("gblinear-softprob", dict(booster="gblinear", objective="multi:softprob", num_class=3, nthread=1), classes),
        ("gbtree", dict(tree, objective="binary:hinge"), y > 0),
    ]:
        booster = xgb.train(parameters, xgb.DMatrix(x, target), 6)
        booster.save_model(str(HERE / f"{name}.json"))
        if name == "dart":
            booster.save_model(str(HERE / f"{name}.ubj"))
        loaded = xgb.Booster({"nthread": 1}, model_file=str(HERE / f"{name}.json"))
        rows = xgb.DMatrix(x[:ROWS])
        golden = {
            "library": f"xgboost {xgb.__version__}",
            "rows": ROWS,
            "columns": [None if np.isnan(v) else float(str(v)) for v in x[:ROWS].ravel()],
            "margin": [float(str(v)) for v in loaded.predict(rows, output_margin=True).ravel()],
            "prediction": [float(str(v)) for v in loaded.predict(rows).ravel()],
        }
        (HERE / f"{name}.golden.json").write_text(json.dumps(golden) + "\n")


if __name__ == "__main__":
    main()
