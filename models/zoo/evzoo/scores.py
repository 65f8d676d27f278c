"""Scores that need nothing but the answers."""

from __future__ import annotations

import numpy as np


def calibration_error(probability: np.ndarray, event: np.ndarray, bins: int = 10) -> float:
    """Expected calibration error over bins of equal width."""
    index = np.minimum((probability * bins).astype(int), bins - 1)
    total = 0.0
    for k in np.unique(index):
        inside = index == k
        total += inside.sum() * abs(probability[inside].mean() - event[inside].mean())
    return float(total / len(probability))
