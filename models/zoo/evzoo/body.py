"""A body: heads, linear term and calibration, and how they answer."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import xgboost as xgb

from .heads import margin
from .signature import Matrix

LINKS = {
    "identity": (lambda t: t, lambda y: y),
    "exp": (np.exp, np.log),
    "expm1": (np.expm1, np.log1p),
    "pow10": (lambda t: 10.0**t, np.log10),
}
"""Link and its inverse, by name."""


@dataclass(frozen=True)
class Linear:
    """Linear term added to the point head's margin, in float64."""

    intercept: float
    terms: tuple[tuple[str, float, float], ...]
    """Column, weight and centre."""

    def apply(self, matrix: np.ndarray, names: tuple[str, ...]) -> np.ndarray:
        """The term for each row; a column that is missing adds nothing."""
        total = np.full(len(matrix), self.intercept)
        for column, weight, center in self.terms:
            x = matrix[:, names.index(column)].astype(np.float64)
            total += np.where(np.isnan(x), 0.0, weight * (x - center))
        return total


@dataclass
class Tier:
    """Calibration for requests with at least this coverage."""

    min_coverage: float
    z: tuple[float, float, float] | None = None
    slope: float = 1.0
    intercept: float = 0.0
    temperature: float = 1.0
    bias: tuple[float, ...] | None = None
    measured: dict[str, float] = field(default_factory=dict)


@dataclass
class Body:
    """What turns columns into an answer."""

    point: xgb.Booster
    tiers: list[Tier]
    method: str
    spread: xgb.Booster | None = None
    spread_floor: float = 0.0
    linear: Linear | None = None
    halfwidth: dict[str, float] = field(default_factory=dict)
    """Half width of the constant-width conformal interval, by style of request; for comparison only."""

    def tier_of(self, coverage: np.ndarray) -> np.ndarray:
        """Index of the tier that answers."""
        index = np.full(len(coverage), len(self.tiers) - 1)
        for k in reversed(range(len(self.tiers))):
            index[coverage >= self.tiers[k].min_coverage] = k
        return index

    def _margin(self, matrix: Matrix, names: tuple[str, ...]) -> np.ndarray:
        raw = margin(self.point, matrix.columns).astype(np.float64)
        return raw if self.linear is None else raw + self.linear.apply(matrix.columns, names)

    def quantiles(self, matrix: Matrix, names: tuple[str, ...], link: str, clamp: tuple[float, float]) -> np.ndarray:
        """q10, q50, q90 of each row."""
        location = self._margin(matrix, names)
        spread = np.ones(len(location))
        if self.spread is not None:
            raw = margin(self.spread, matrix.columns).astype(np.float64)
            spread = np.maximum(np.exp(raw), self.spread_floor)
        z = np.array([tier.z for tier in self.tiers])[self.tier_of(matrix.coverage)]
        answer = LINKS[link][0](location[:, None] + spread[:, None] * z)
        return np.clip(np.sort(answer, axis=1), *clamp)

    def probability(self, matrix: Matrix, names: tuple[str, ...]) -> np.ndarray:
        """Calibrated probability of each row."""
        tier = self.tier_of(matrix.coverage)
        slope = np.array([t.slope for t in self.tiers])[tier]
        intercept = np.array([t.intercept for t in self.tiers])[tier]
        return 1.0 / (1.0 + np.exp(-(slope * self._margin(matrix, names) + intercept)))

    def probabilities(self, matrix: Matrix) -> np.ndarray:
        """Calibrated probabilities of the learned classes."""
        raw = margin(self.point, matrix.columns).astype(np.float64)
        tier = self.tier_of(matrix.coverage)
        temperature = np.array([t.temperature for t in self.tiers])[tier]
        bias = np.array([t.bias or (0.0,) * raw.shape[1] for t in self.tiers])[tier]
        return softmax(raw / temperature[:, None] + bias)


def softmax(score: np.ndarray) -> np.ndarray:
    """Softmax of each row."""
    score = np.exp(score - score.max(axis=1, keepdims=True))
    return score / score.sum(axis=1, keepdims=True)
