"""The bundled models as their authors left them: golden requests, and XGBoost's own answers."""

import dataclasses
import json
import pathlib
import tomllib

import numpy as np
import xgboost

ROOT = pathlib.Path(__file__).resolve().parents[2]
ZOO = ROOT / "models" / "zoo"


def _models(of_pictures):
    manifests = {path.parent.name: tomllib.loads(path.read_text(encoding="utf-8")) for path in ZOO.glob("*/manifest.toml")}
    task = "image_classification"
    return sorted(name for name, manifest in manifests.items() if (manifest["model"]["task"] == task) == of_pictures)


# Those whose rows are numbers and text, which `Model` below reads.
MODELS = _models(of_pictures=False)
# Those that take photos: `vision.py`.
PICTURE_MODELS = _models(of_pictures=True)


@dataclasses.dataclass
class Case:
    """One golden request."""

    inputs: dict
    columns: np.ndarray
    known: bool


class Model:
    """A bundled model's manifest, golden requests and point heads."""

    def __init__(self, name):
        self.name = name
        self.folder = ZOO / name
        self.manifest = tomllib.loads((self.folder / "manifest.toml").read_text(encoding="utf-8"))
        self.output = self.manifest["outputs"][0]
        golden = json.loads((self.folder / "golden.json").read_text(encoding="utf-8"))
        self.cases = [
            Case(
                case["inputs"],
                np.array([np.nan if value is None else value for value in case["columns"]], dtype=np.float32),
                case.get("expected") is not None,
            )
            for case in golden["cases"]
        ]
        self._boosters = {}

    def datatype(self, name):
        """An input's datatype, such as FP32."""
        return next(entry["dtype"] for entry in self.manifest["inputs"] if entry["name"] == name)

    def xgboost_prediction(self, case):
        """What XGBoost itself predicts with the point head for this row."""
        heads = self.manifest.get("heads")
        if heads is None:
            value = case.inputs[self.manifest["variant_by"]].strip().lower()
            heads = next(variant["heads"] for variant in self.manifest["variants"] if variant["value"].lower() == value)
        file = next(head["file"] for head in heads if head["name"] == "point")
        if file not in self._boosters:
            booster = xgboost.Booster({"nthread": 1})
            booster.load_model(self.folder / file)
            self._boosters[file] = booster
        matrix = xgboost.DMatrix(case.columns.reshape(1, -1), missing=np.nan, nthread=1)
        return self._boosters[file].predict(matrix, validate_features=False).astype(np.float32).reshape(-1)
