"""What a model's `train.py` states about itself."""

from __future__ import annotations

import importlib.util
import sys
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd

from .body import Body
from .data import DataFolder, Rows, group_folds
from .errors import ZooError
from .recipes import Recipe
from .signature import Signature, minimal

ZOO = Path(__file__).resolve().parents[1]


@dataclass(frozen=True)
class Rule:
    """A class the head never learned, taken from a learned one when every condition holds."""

    source: str
    to: str
    when: tuple[dict, ...]


@dataclass(frozen=True)
class Output:
    """The named answer."""

    name: str
    kind: str
    unit: str
    link: str = "identity"
    range: tuple[float, float] | None = None
    classes: tuple[str, ...] = ()
    learned: tuple[str, ...] = ()
    rules: tuple[Rule, ...] = ()


@dataclass(frozen=True)
class Variant:
    """One body of a model that holds one per value of a text input."""

    value: str
    file: str
    recipe: Recipe


@dataclass
class Bar:
    """What a part of the evaluated rows has to reach against its baseline."""

    score: str
    """`mae`, `mape`, `auc` or `macro_f1`; `mae` also passes on R2."""
    against: float | None = None
    """Upper limit that stands in place of a baseline, for a published split."""


class Model:
    """Base of all models; `train.py` holds a subclass named `Model`."""

    name: str
    task: str
    description: str
    license = "Apache-2.0"
    nature = "real"
    signature: Signature
    output: Output
    recipe: Recipe
    variant_by: str | None = None
    split: str
    split_by: str | None = None
    """What stays together in that split, where its words do not say so."""
    target: str
    folds = 5
    always: tuple[str, ...] = ()
    """Inputs that a minimal request of the evaluation keeps besides the required ones, because they put the question."""
    bars: dict[str, Bar] = {}
    card: dict[str, str] = {}
    latency = "50us"

    @property
    def folder(self) -> Path:
        """Where the model's files are."""
        return ZOO / self.name

    def load(self, data: DataFolder) -> Rows:
        """Reads the rows to learn from."""
        raise NotImplementedError

    def baseline(self, train: Rows, test: Rows) -> np.ndarray:
        """The baseline's answer to `test` after `train`; NaN where it has none."""
        raise NotImplementedError

    def naive(self, train: Rows, test: Rows) -> np.ndarray:
        """The naive answer: mean or most frequent value of the training rows of the same part."""
        answer = np.full(len(test), np.nan)
        for part in np.unique(test.part):
            chosen = (train.part == part) & train.evaluated
            answer[test.part == part] = train.target[chosen if chosen.any() else slice(None)].mean()
        return answer

    def variants(self, rows: Rows) -> list[Variant]:
        """Bodies of the model."""
        return [Variant("", "point.ubj", self.recipe)]

    def outer_folds(self, rows: Rows) -> list[tuple[np.ndarray, np.ndarray]]:
        """The folds that model and baselines are measured on."""
        return group_folds(rows.group, self.folds)

    def least(self, frame: pd.DataFrame) -> pd.DataFrame:
        """The least a caller may send."""
        return minimal(frame, [*self.signature.required, *self.always])

    def figures(self, rows: Rows) -> list[tuple[str, str]]:
        """Further measured figures for the card, as name and text."""
        return []

    def golden(self) -> list[dict]:
        """Generated requests, never rows of the data."""
        raise NotImplementedError

    def fit(self, rows: Rows) -> Fitted:
        """Fits every body."""
        if self.variant_by is None:
            signature, body = self.recipe.fit(self.signature, rows)
            return Fitted(self, signature, {"": body})
        signature, bodies = self.signature.learn(rows.frame, rows.target.astype(float)), {}
        for variant in self.variants(rows):
            chosen = np.flatnonzero(rows.frame[self.variant_by].to_numpy() == variant.value)
            _, bodies[variant.value] = variant.recipe.fit(self.signature, rows.take(chosen))
        return Fitted(self, signature, bodies)


@dataclass
class Fitted:
    """A model after training."""

    model: Model
    signature: Signature
    bodies: dict[str, Body] = field(default_factory=dict)

    def answer(self, frame: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
        """Answers (quantiles, probability or learned classes' probabilities) and the tier of each request."""
        output, names = self.model.output, self.signature.column_names
        matrix = self.signature.transform(frame)
        chosen = np.full(len(frame), "", object)
        if self.model.variant_by:
            chosen = frame[self.model.variant_by].to_numpy(object)
        width = {"quantiles": 3, "probability": 1, "classes": len(output.learned)}[output.kind]
        answer, tier = np.full((len(frame), width), np.nan), np.zeros(len(frame), int)
        for value, body in self.bodies.items():
            where = np.flatnonzero(chosen == value)
            if not len(where):
                continue
            part = type(matrix)(matrix.columns[where], matrix.coverage[where], matrix.unknown[where])
            if output.kind == "quantiles":
                answer[where] = body.quantiles(part, names, output.link, output.range)
            elif output.kind == "probability":
                answer[where] = body.probability(part, names)[:, None]
            else:
                answer[where] = body.probabilities(part)
            tier[where] = body.tier_of(part.coverage)
        return answer, tier


@cache
def load_model(name: str) -> Model:
    """The model of this name, from `<name>/train.py`."""
    file = ZOO / name / "train.py"
    if not file.is_file():
        raise ZooError(f"no model `{name}`; there are: {', '.join(names())}")
    spec = importlib.util.spec_from_file_location(f"evzoo_models.{name.replace('-', '_')}", file)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module.Model()


def names() -> list[str]:
    """Names of all models but those of photos, which `evzoo.photos` trains: they need PyTorch."""
    found = (file.parent.name for file in ZOO.glob("*/train.py"))
    return sorted(name for name in found if not name.startswith("vehicle-classifier"))
