"""XGBoost files: trained single-threaded with a seed, so that training again gives the same bytes."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import xgboost as xgb

LIBRARY = f"xgboost {xgb.__version__}"

FIXED = {"tree_method": "hist", "max_bin": 250, "nthread": 1, "seed": 7, "verbosity": 0}


@dataclass(frozen=True)
class Forest:
    """How a head is trained."""

    rounds: int
    depth: int
    rate: float
    objective: str = "reg:squarederror"
    more: dict = field(default_factory=dict)

    def train(self, columns: np.ndarray, target: np.ndarray, weight: np.ndarray | None = None) -> xgb.Booster:
        """Fits the forest."""
        if self.objective.startswith("reg:"):
            base = float(np.float32(np.average(target, weights=weight)))
        else:
            base = 0.5
        parameters = {
            **FIXED,
            "objective": self.objective,
            "max_depth": self.depth,
            "eta": self.rate,
            "base_score": base,
            **self.more,
        }
        data = xgb.DMatrix(columns, label=target, weight=weight, nthread=1)
        return xgb.train(parameters, data, num_boost_round=self.rounds)


def margin(head: xgb.Booster, columns: np.ndarray) -> np.ndarray:
    """Raw sum of leaves plus base margin, float32."""
    head.set_param({"nthread": 1})
    return head.predict(xgb.DMatrix(columns, nthread=1), output_margin=True)


def prediction(head: xgb.Booster, columns: np.ndarray) -> np.ndarray:
    """What the library's own predict returns, float32."""
    return head.predict(xgb.DMatrix(columns, nthread=1))
