"""The manifest's pipeline as a reference: reads a model folder the way the server does and answers requests."""

from __future__ import annotations

import tomllib
from pathlib import Path

import numpy as np
import pandas as pd
import xgboost as xgb

from .body import Body, Linear, Tier
from .heads import margin, prediction
from .signature import Derived, Input, Matrix, Signature


class Served:
    """A model version as it lies in its folder."""

    def __init__(self, folder: Path):
        self.manifest = tomllib.loads((folder / "manifest.toml").read_text())
        self.output = self.manifest["outputs"][0]
        self.signature = Signature(
            tuple(_input(entry) for entry in self.manifest["inputs"]),
            tuple(Derived(d["name"], d["op"], tuple(d["of"])) for d in self.manifest.get("derived", [])),
            tuple(self.manifest["columns"]),
        )
        self.variant_by = self.manifest.get("variant_by")
        variants = self.manifest.get("variants") or [{**self.manifest, "value": ""}]
        self.bodies = {variant["value"]: _body(variant, folder) for variant in variants}

    def answer(self, request: dict) -> dict:
        """A golden case: the request with every intermediate value and the answer."""
        columns = {i.name: [request.get(i.name)] for i in self.signature.inputs}
        matrix = self.signature.transform(pd.DataFrame(columns, dtype=object))
        case = {
            "inputs": request,
            "columns": [number(v) for v in matrix.columns[0]],
            "coverage": float(matrix.coverage[0]),
            "out_of_distribution": [i.name for i, off in zip(self.signature.inputs, matrix.unknown[0]) if off],
        }
        variant = str(request.get(self.variant_by)).strip().lower() if self.variant_by else ""
        body = {value.lower(): body for value, body in self.bodies.items()}.get(variant)
        if body is None:
            return case | {"expected": None}
        case["margin"] = [number(v) for v in np.ravel(margin(body.point, matrix.columns))]
        case["prediction"] = [number(v) for v in np.ravel(prediction(body.point, matrix.columns))]
        if body.spread is not None:
            case["spread_margin"] = number(margin(body.spread, matrix.columns)[0])
        return case | {"expected": self._expected(body, matrix, request)}

    def _expected(self, body: Body, matrix: Matrix, request: dict) -> dict:
        names = self.signature.column_names
        if self.output["kind"] == "quantiles":
            answer = body.quantiles(matrix, names, self.output["link"], self.output["range"])[0]
            return dict(zip(("q10", "q50", "q90"), map(float, answer)))
        if self.output["kind"] == "probability":
            return {"probability": float(body.probability(matrix, names)[0])}
        answer = dict.fromkeys(self.output["classes"], 0.0)
        answer |= zip(self.output["learned"], map(float, body.probabilities(matrix)[0]))
        for rule in self.output.get("rules", []):
            if all(holds(condition, request.get(condition["input"])) for condition in rule["when"]):
                answer[rule["to"]] += answer[rule["from"]]
                answer[rule["from"]] = 0.0
        return {"probabilities": answer}


def holds(condition: dict, value: float | None) -> bool:
    """Whether a rule's condition holds for the value of its input."""
    if value is None:
        return condition.get("if_missing", "fails") == "holds"
    if "below" in condition:
        return np.float32(value) < np.float32(condition["below"])
    return np.float32(value) >= np.float32(condition["at_least"])


def number(value: np.float32) -> float | None:
    """A float32 in the shortest decimal that reads back bit for bit; None for NaN."""
    return None if np.isnan(value) else float(str(np.float32(value)))


def _input(entry: dict) -> Input:
    return Input(
        entry["name"],
        entry["description"],
        required=entry.get("required", False),
        default=entry.get("default"),
        vocabulary=tuple(entry["vocabulary"]) if "vocabulary" in entry else None,
        encode=tuple(entry["encode"]) if "encode" in entry else None,
        match=entry.get("match", "exact"),
        trained_range=tuple(entry["trained_range"]) if "trained_range" in entry else None,
    )


def _body(entry: dict, folder: Path) -> Body:
    heads = {head["name"]: xgb.Booster(model_file=str(folder / head["file"])) for head in entry["heads"]}
    linear = None
    if "linear" in entry:
        terms = tuple((t["column"], t["weight"], t["center"]) for t in entry["linear"]["terms"])
        linear = Linear(entry["linear"]["intercept"], terms)
    tiers = [
        Tier(
            t["min_coverage"],
            z=tuple(t["z"]) if "z" in t else None,
            slope=t.get("slope", 1.0),
            intercept=t.get("intercept", 0.0),
            temperature=t.get("temperature", 1.0),
            bias=tuple(t["bias"]) if "bias" in t else None,
        )
        for t in entry["calibration"]["tiers"]
    ]
    floor = entry["calibration"].get("spread_floor", 0.0)
    return Body(heads["point"], tiers, entry["calibration"]["method"], heads.get("spread"), floor, linear)
