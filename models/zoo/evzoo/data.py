"""Reads data folders and remembers exactly which bytes were read."""

from __future__ import annotations

import hashlib
import io
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd

from .errors import DataError


class DataFolder:
    """The folder given by `--data`, with one sub-folder per data set."""

    def __init__(self, path: Path):
        if not path.is_dir():
            raise DataError(f"no data folder at {path}: pass --data (or DATA= to make) the folder that holds the data sets")
        self.path = path
        self._read: dict[str, str] = {}

    def csv(self, name: str, **options) -> pd.DataFrame:
        """Reads `<data set>/<file>` and records its digest."""
        return pd.read_csv(io.BytesIO(self.read(name)), **options)

    def read(self, name: str) -> bytes:
        """Content of `<data set>/<file>`; records its digest."""
        file = self.path / name
        if not file.is_file():
            raise DataError(f"{file} is missing: {name.split('/')[0]} is one of the data sets this model is trained on")
        content = file.read_bytes()
        self._read[name] = hashlib.sha256(content).hexdigest()
        return content

    @property
    def digest(self) -> str:
        """SHA-256 over the names and digests of the files read so far."""
        lines = "".join(f"{name} {digest}\n" for name, digest in sorted(self._read.items()))
        return "sha256:" + hashlib.sha256(lines.encode()).hexdigest()

    @property
    def datasets(self) -> list[str]:
        """Names of the data sets read so far."""
        return sorted({name.split("/")[0] for name in self._read})


@dataclass
class Rows:
    """What a model learns from: requests as a caller would send them, and their answers.

    `frame` has one column per input of the model, `extra` whatever a baseline needs, `part` names the evaluated
    population of each row, and `weight` is the weight of a row in training.
    Rows with `evaluated` false are learned from but not scored.
    """

    frame: pd.DataFrame
    target: np.ndarray
    group: np.ndarray
    part: np.ndarray
    extra: pd.DataFrame
    weight: np.ndarray | None = None
    evaluated: np.ndarray | None = None
    notes: dict[str, str] = field(default_factory=dict)

    def __post_init__(self):
        self.frame = self.frame.reset_index(drop=True)
        for name, column in self.frame.items():
            if not pd.api.types.is_numeric_dtype(column):
                self.frame[name] = column.astype(object).where(column.notna(), None)
        self.extra = self.extra.reset_index(drop=True)
        for name in ("target", "group", "part"):
            setattr(self, name, np.asarray(getattr(self, name)))
        if self.weight is None:
            self.weight = np.ones(len(self.frame))
        if self.evaluated is None:
            self.evaluated = np.ones(len(self.frame), bool)

    def __len__(self) -> int:
        return len(self.frame)

    def take(self, index: np.ndarray) -> Rows:
        """The rows at these positions."""
        return Rows(
            self.frame.iloc[index],
            self.target[index],
            self.group[index],
            self.part[index],
            self.extra.iloc[index],
            self.weight[index],
            self.evaluated[index],
            self.notes,
        )


def group_folds(groups: np.ndarray, count: int, seed: int = 0) -> list[tuple[np.ndarray, np.ndarray]]:
    """Train and test positions of `count` folds that never share a group; the larger groups are dealt first."""
    names, inverse, sizes = np.unique(groups, return_inverse=True, return_counts=True)
    count = min(count, len(names))
    if count < 2:
        raise DataError(f"{len(names)} group is too few to split: the data are incomplete")
    order = np.random.default_rng(seed).permutation(len(names))
    order = order[np.argsort(-sizes[order], kind="stable")]
    load, fold_of = np.zeros(count), np.empty(len(names), int)
    for name in order:
        fold_of[name] = np.argmin(load)
        load[fold_of[name]] += sizes[name]
    fold = fold_of[inverse]
    return [(np.flatnonzero(fold != k), np.flatnonzero(fold == k)) for k in range(count)]
