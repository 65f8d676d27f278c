"""From named values to the float32 row the heads see: the reference of the manifest's first three steps."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from .vocabulary import feature

F32 = np.float32


@dataclass(frozen=True)
class Input:
    """One named value of a request; names, units and ranges come from the feature vocabulary."""

    name: str
    description: str
    required: bool = False
    default: str | float | None = None
    vocabulary: tuple[str, ...] | None = None
    encode: tuple[float, ...] | None = None
    match: str = "exact"
    learned: bool = False
    """The vocabulary and its encoding are learned from the training rows."""
    trained_range: tuple[float, float] | None = None
    max_age: str | None = None
    if_stale: str | None = None
    vss: str | None = None
    aggregate: str | None = None

    @property
    def dtype(self) -> str:
        """Data type as the manifest spells it."""
        return feature(self.name).dtype


@dataclass(frozen=True)
class Derived:
    """A column computed from inputs or earlier derived columns."""

    name: str
    op: str
    of: tuple[str, ...]


@dataclass
class Matrix:
    """Requests after preprocessing."""

    columns: np.ndarray
    """float32, one row per request; NaN where a value was not given."""
    coverage: np.ndarray
    """Share of the inputs that were given."""
    unknown: np.ndarray
    """Inputs outside of what was trained, one flag per request and input."""


def lookup(text: str, known: dict[str, float], match: str) -> float | None:
    """Code of a text, or None when the vocabulary does not hold it."""
    text = text.strip().lower()
    if match == "exact":
        return known.get(text)
    for end in range(len(text), 0, -1):
        if (end == len(text) or not text[end].isalnum()) and text[:end] in known:
            return known[text[:end]]
    return None


def apply(op: str, a: np.ndarray, b: np.ndarray | None) -> np.ndarray:
    """One derived column; a result that is not finite is missing."""
    with np.errstate(all="ignore"):
        if op == "ratio":
            value = a / b
        elif op == "product":
            value = a * b
        elif op == "sum":
            value = a + b
        elif op == "difference":
            value = a - b
        elif op in ("ln", "log10"):
            # Through float64, so that the float32 result does not depend on whose logarithm it is.
            function = np.log if op == "ln" else np.log10
            value = function(np.where(a > 0, a, np.nan).astype(np.float64)).astype(F32)
        else:
            raise ValueError(f"unknown operation {op}")
    return np.where(np.isfinite(value), value, F32(np.nan)).astype(F32)


@dataclass(frozen=True)
class Signature:
    """Inputs, derived columns and column order of a model."""

    inputs: tuple[Input, ...]
    derived: tuple[Derived, ...] = ()
    columns: tuple[str, ...] | None = None

    @property
    def column_names(self) -> tuple[str, ...]:
        """Names of the heads' features."""
        return self.columns or tuple(i.name for i in self.inputs) + tuple(d.name for d in self.derived)

    @property
    def required(self) -> list[str]:
        """Names of the inputs without which there is no answer."""
        return [i.name for i in self.inputs if i.required]

    def learn(self, frame: pd.DataFrame, target: np.ndarray, prior_weight: float = 2.0) -> Signature:
        """Fits vocabularies, their target-ordered codes and trained ranges to training rows."""
        inputs = []
        for item in self.inputs:
            if item.dtype == "BYTES" and item.learned:
                given = frame[item.name].notna().to_numpy()
                texts = frame[item.name][given].astype(str).str.strip()
                # The server ignores case, so spellings that differ in nothing else are one text: the first in order.
                spelling = texts.sort_values().groupby(texts.str.lower()).first()
                sums = pd.Series(target[given]).groupby(texts.str.lower().map(spelling).to_numpy()).agg(["sum", "size"])
                codes = (sums["sum"] + prior_weight * target.mean()) / (sums["size"] + prior_weight)
                item = replace(item, vocabulary=tuple(codes.index), encode=tuple(round(float(c), 4) for c in codes))
            elif item.dtype == "FP32" and frame[item.name].notna().any():
                values = frame[item.name].to_numpy(F32)
                low, high = (float(str(edge)) for edge in (np.nanmin(values), np.nanmax(values)))
                item = replace(item, trained_range=item.trained_range or (low, high))
            inputs.append(item)
        return replace(self, inputs=tuple(inputs))

    def transform(self, frame: pd.DataFrame) -> Matrix:
        """Preprocesses requests; a column of `frame` is an input, None or NaN is "not given"."""
        values: dict[str, np.ndarray] = {}
        given = np.zeros((len(frame), len(self.inputs)), bool)
        unknown = np.zeros((len(frame), len(self.inputs)), bool)
        for k, item in enumerate(self.inputs):
            column = frame[item.name] if item.name in frame else pd.Series([None] * len(frame))
            present = column.notna().to_numpy()
            if item.dtype == "BYTES":
                number, found = self._encode(item, column.to_numpy(object), present)
                unknown[:, k] = present & ~found
                given[:, k] = present & found
            else:
                number = column.astype("float64").to_numpy().astype(F32)
                given[:, k] = present
                if item.trained_range and item.dtype == "FP32":
                    low, high = F32(item.trained_range[0]), F32(item.trained_range[1])
                    unknown[:, k] = present & ((number < low) | (number > high))
                if item.default is not None:
                    number = np.where(present, number, F32(item.default))
            values[item.name] = number.astype(F32)
        for column in self.derived:
            operands = [values[name] for name in column.of]
            values[column.name] = apply(column.op, operands[0], operands[1] if len(operands) > 1 else None)
        names = self.column_names
        matrix = np.stack([values[name] for name in names], axis=1) if names else np.empty((len(frame), 0), F32)
        return Matrix(np.ascontiguousarray(matrix, F32), given.mean(axis=1), unknown)

    @staticmethod
    def _encode(item: Input, texts: np.ndarray, present: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        codes = item.encode or tuple(float(k) for k in range(len(item.vocabulary)))
        known = {text.strip().lower(): code for text, code in zip(item.vocabulary, codes)}
        seen: dict[str, float | None] = {}
        number, found = np.full(len(texts), np.nan, F32), np.zeros(len(texts), bool)
        for row, text in enumerate(texts):
            if not present[row]:
                text = item.default
                if text is None:
                    continue
            if text not in seen:
                seen[text] = lookup(text, known, item.match)
            if seen[text] is not None:
                number[row], found[row] = seen[text], present[row]
        return number, found


def minimal(frame: pd.DataFrame, keep: list[str]) -> pd.DataFrame:
    """The least a caller may send: everything but these inputs taken out."""
    least = frame.copy()
    for name in least.columns.difference(keep):
        least[name] = None if least[name].dtype == object else np.nan
    return least


def masked(frame: pd.DataFrame, keep: list[str], rng: np.random.Generator) -> pd.DataFrame:
    """Requests from which a random share of the optional inputs was left out."""
    partial = frame.copy()
    share = rng.uniform(0, 1, len(frame))
    for name in frame.columns:
        if name not in keep:
            gone = rng.uniform(0, 1, len(frame)) > share
            partial.loc[gone, name] = None if partial[name].dtype == object else np.nan
    return partial
