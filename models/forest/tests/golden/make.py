"""Makes the golden vectors: small models trained by several versions of XGBoost, rows, and the library's own answers.

    python make.py            # a virtual environment per version under --venvs, then all vectors
    python make.py --only 3.2.0

Each version writes <version>/<name>.json (and .ubj, from 1.6), the model, and <name>.golden.json: the columns of
some rows (null is NaN), the margin and the prediction of each row. Answers come from the saved file, loaded again.
Rows hold the model's own thresholds, their neighbours, both zeros, denormals and missing values.
"""

import argparse
import json
import pathlib
import subprocess
import sys
import tempfile

HERE = pathlib.Path(__file__).resolve().parent
VERSIONS = ["1.0.2", "1.1.1", "1.3.3", "1.6.2", "2.1.4", "3.2.0"]
ROWS = 24


def cases(version):
    """Training parameters by name: (parameters, rounds, columns, target)."""
    yield "squarederror", dict(objective="reg:squarederror", max_depth=6), 6, 5, "number"
    yield "base-score", dict(objective="reg:squarederror", max_depth=3, base_score=0.7382914), 6, 5, "number"
    yield "binary-logistic", dict(objective="binary:logistic", max_depth=4), 8, 5, "bit"
    yield "tail", dict(objective="binary:logistic", max_depth=3), 3, 5, "bit"
    yield "softprob", dict(objective="multi:softprob", num_class=4, max_depth=3), 4, 5, "class"
    yield "poisson", dict(objective="count:poisson", max_depth=3), 4, 5, "count"
    if version not in ("1.0.2", "1.6.2", "3.2.0"):
        return
    yield "squaredlogerror", dict(objective="reg:squaredlogerror", max_depth=3), 4, 5, "positive"
    yield "reg-logistic", dict(objective="reg:logistic", max_depth=3, base_score=0.31), 4, 5, "bit"
    yield "logitraw", dict(objective="binary:logitraw", max_depth=3, base_score=0.31), 4, 5, "bit"
    yield "hinge", dict(objective="binary:hinge", max_depth=3), 4, 5, "bit"
    yield "softmax", dict(objective="multi:softmax", num_class=3, max_depth=3), 4, 5, "class3"
    yield "gamma", dict(objective="reg:gamma", max_depth=3), 4, 5, "positive"
    yield "tweedie", dict(objective="reg:tweedie", max_depth=3), 4, 5, "positive"
    yield "pairwise", dict(objective="rank:pairwise", max_depth=3), 4, 5, "count"
    yield "parallel", dict(objective="reg:squarederror", max_depth=3, num_parallel_tree=3, subsample=0.5), 3, 5, "number"
    yield "early", dict(objective="reg:squarederror", max_depth=4, eta=0.9, early=2), 30, 5, "noise"
    yield "stump", dict(objective="reg:squarederror", max_depth=1), 3, 2, "number"
    yield "deep", dict(objective="reg:squarederror", max_depth=11, min_child_weight=0), 2, 3, "noise"
    yield "mixed", dict(objective="reg:squarederror", max_depth=8, min_child_weight=20), 5, 5, "number"
    yield "wide", dict(objective="reg:squarederror", max_depth=4, colsample_bytree=0.3), 12, 70, "sum"
    if version == "1.0.2":
        return
    # XGBoost 1.0 does not load its own file of a pruned tree.
    yield "pruned", dict(objective="reg:squarederror", max_depth=4, gamma=30.0, tree_method="exact"), 4, 5, "number"
    yield "pseudohuber", dict(objective="reg:pseudohubererror", max_depth=3), 4, 5, "number"
    yield "targets", dict(objective="reg:squarederror", max_depth=3), 3, 5, "targets"
    yield "fine", dict(objective="reg:squarederror", max_depth=6, tree_method="exact", min_child_weight=0, subsample=0.4), 18, 1, "noise"
    if version == "1.6.2":
        return
    yield "absoluteerror", dict(objective="reg:absoluteerror", max_depth=3), 4, 5, "number"
    yield "quantile", dict(objective="reg:quantileerror", quantile_alpha=0.7, max_depth=3), 4, 5, "number"
    yield "quantiles", dict(objective="reg:quantileerror", quantile_alpha=[0.1, 0.5, 0.9], max_depth=3), 4, 5, "number"


def target(kind, x, random):
    import numpy as np

    signal = np.nan_to_num(x[:, 0]) + np.nan_to_num(x[:, 1 % x.shape[1]]) * np.nan_to_num(x[:, -1])
    return {
        "number": lambda: signal * 3 + 10,
        "noise": lambda: signal + random.normal(size=len(x)),
        "sum": lambda: np.nan_to_num(x).sum(axis=1),
        "bit": lambda: (signal > 0.2).astype(float),
        "class": lambda: np.digitize(signal, [-1, 0, 1]),
        "class3": lambda: np.digitize(signal, [-0.5, 0.5]),
        "count": lambda: np.floor(np.abs(signal) * 3),
        "positive": lambda: np.abs(signal) + 0.1,
        "targets": lambda: np.stack([signal, -2 * signal + 1, signal**2], axis=1),
    }[kind]()


def rows(document, columns, random):
    """Rows that probe the splits of a model."""
    import numpy as np

    thresholds = [[np.float32(0)] for _ in range(columns)]
    for tree in document["learner"]["gradient_booster"]["model"]["trees"]:
        splits = zip(tree["left_children"], tree["split_indices"], tree["split_conditions"])
        for left, column, threshold in splits:
            if left >= 0:
                thresholds[column].append(np.float32(threshold))
    x = np.empty((ROWS, columns), dtype=np.float32)
    for row in range(ROWS):
        for column in range(columns):
            threshold = thresholds[column][random.randint(len(thresholds[column]))]
            x[row, column] = [
                np.float32("nan"),
                threshold,
                threshold,
                np.nextafter(threshold, np.float32("-inf")),
                np.nextafter(threshold, np.float32("inf")),
                np.float32(-0.0),
                np.float32(1e-45),
                np.float32(random.normal()),
                np.float32(random.normal()),
                np.float32(random.normal() * 100),
            ][random.randint(10)]
    return x


def numbers(array):
    """Float32 values as texts that read back bit for bit."""
    import numpy as np

    text = {"nan": "null"}
    return "[" + ",".join(text.get(str(v), str(v)) for v in np.asarray(array, dtype=np.float32).ravel()) + "]"


def make(version):
    import numpy as np
    import xgboost as xgb

    assert xgb.__version__ == version, xgb.__version__
    folder = HERE / version
    folder.mkdir(exist_ok=True)
    has_ubjson = tuple(map(int, version.split("."))) >= (1, 6, 0)
    for name, parameters, rounds, columns, kind in cases(version):
        random = np.random.RandomState(len(name) * 7 + columns)
        x = random.normal(size=(500, columns)).astype(np.float32)
        x[random.uniform(size=x.shape) < 0.1] = np.nan
        y = target(kind, x, random)
        parameters = dict(parameters, seed=1, nthread=1)
        early = parameters.pop("early", None)
        # Enough rows for more thresholds of a column than 8 bits tell apart.
        trained = 500 if name == "fine" else 300
        train = xgb.DMatrix(x[:trained], y[:trained])
        if kind == "count" and "rank" in parameters["objective"]:
            train.set_group([30] * 10)
        watch = dict(evals=[(xgb.DMatrix(x[300:], y[300:]), "e")], early_stopping_rounds=early) if early else {}
        booster = xgb.train(parameters, train, rounds, verbose_eval=False, **watch)
        path = folder / f"{name}.json"
        booster.save_model(str(path))
        document = json.loads(path.read_text())
        if name == "tail":
            for tree in document["learner"]["gradient_booster"]["model"]["trees"]:
                for node, left in enumerate(tree["left_children"]):
                    if left < 0:
                        value = np.float32(tree["split_conditions"][node]) * np.float32(120)
                        tree["split_conditions"][node] = float(value)
            path.write_text(json.dumps(document, separators=(",", ":")))
            booster.load_model(str(path))
        if early:
            assert booster.best_iteration < rounds - 1
        files = [path]
        if has_ubjson and name not in ("base-score", "tail"):
            booster.save_model(str(folder / f"{name}.ubj"))
            files.append(folder / f"{name}.ubj")
        probe = rows(document, columns, random)
        answers = []
        for file in files:
            loaded = xgb.Booster({"nthread": 1})
            loaded.load_model(str(file))
            margin = loaded.predict(xgb.DMatrix(probe), output_margin=True)
            prediction = loaded.predict(xgb.DMatrix(probe))
            answers.append((numbers(margin), numbers(prediction)))
        assert all(answer == answers[0] for answer in answers)
        # Large models are kept in one format only.
        if len(files) == 2 and files[0].stat().st_size > 9_000:
            files[0].unlink()
        golden = f'{{"library":"xgboost {version}","rows":{ROWS},"columns":{numbers(probe)},\n'
        golden += f'"margin":{answers[0][0]},\n"prediction":{answers[0][1]}}}\n'
        (folder / f"{name}.golden.json").write_text(golden)
    if version == "3.2.0":
        refused(HERE / "refused")


def refused(folder):
    """Models that the forest refuses."""
    import numpy as np
    import xgboost as xgb

    folder.mkdir(exist_ok=True)
    random = np.random.RandomState(0)
    x = random.normal(size=(200, 3))
    common = dict(max_depth=2, nthread=1)
    for name, parameters in {
        "dart": dict(booster="dart", rate_drop=0.5),
        "gblinear": dict(booster="gblinear"),
        "vector-leaf": dict(multi_strategy="multi_output_tree"),
    }.items():
        y = x[:, :2] if name == "vector-leaf" else x[:, 0]
        if name == "gblinear":
            booster = xgb.train(dict(parameters, nthread=1), xgb.DMatrix(x, y), 2)
        else:
            booster = xgb.train(dict(common, **parameters), xgb.DMatrix(x, y), 2)
        for suffix in ("json", "ubj"):
            booster.save_model(str(folder / f"{name}.{suffix}"))
    x[:, 1] = random.randint(0, 6, size=200)
    data = xgb.DMatrix(x, x[:, 1] % 2, feature_types=["q", "c", "q"], enable_categorical=True)
    booster = xgb.train(dict(common, max_cat_to_onehot=1), data, 2)
    for suffix in ("json", "ubj"):
        booster.save_model(str(folder / f"categorical.{suffix}"))
    booster = xgb.train(dict(common, objective="survival:cox"), xgb.DMatrix(x, np.abs(x[:, 0])), 1)
    booster.save_model(str(folder / "objective.json"))


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", help="a single version")
    parser.add_argument("--here", action="store_true", help="use the XGBoost of this interpreter")
    parser.add_argument("--venvs", default=str(pathlib.Path(tempfile.gettempdir()) / "evserve-golden"))
    arguments = parser.parse_args()
    for version in [arguments.only] if arguments.only else VERSIONS:
        if arguments.here:
            make(version)
            continue
        venv = pathlib.Path(arguments.venvs) / version
        if not venv.exists():
            subprocess.run([sys.executable, "-m", "venv", venv], check=True)
            requirements = HERE / f"requirements-{version}.txt"
            subprocess.run([venv / "bin" / "pip", "install", "-q", "-r", requirements], check=True)
        subprocess.run([venv / "bin" / "python", __file__, "--here", "--only", version], check=True)
        print(version)


if __name__ == "__main__":
    main()
