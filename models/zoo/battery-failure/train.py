"""Probability that a cell falls below 70 % of its rated capacity within the next ten discharges."""

from __future__ import annotations

import numpy as np
import pandas as pd
from evzoo import model
from evzoo.baselines import boosted
from evzoo.battery import NASA_RAW, nasa_discharges, telemetry
from evzoo.data import DataFolder, Rows
from evzoo.heads import Forest
from evzoo.recipes import Probability, Styles
from evzoo.signature import Derived, Signature

END_AH = 1.4
AHEAD = 10


class Model(model.Model):
    """Falls below 1.4 Ah soon."""

    name = "battery-failure"
    task = "battery_failure"
    description = "Probability that a cell falls below 1.4 Ah (70 % of rated) within its next 10 discharges."
    split = "GroupKFold(10) by cell; scored on discharges of cells that have not failed yet"
    target = "capacity below 1.4 Ah within the next 10 discharges"
    folds = 10
    output = model.Output("failure", "probability", "1")
    bars = {"nasa": model.Bar("auc")}
    signature = Signature(
        (
            telemetry("cycle_count", required=True),
            telemetry("ambient_temperature_celsius"),
            telemetry("discharge_c_rate"),
            telemetry("discharge_voltage_min_v"),
            telemetry("discharge_voltage_end_v"),
            telemetry("discharge_temperature_max_celsius"),
        ),
        (
            Derived("temperature_rise", "difference", ("discharge_temperature_max_celsius", "ambient_temperature_celsius")),
            Derived("voltage_recovery", "difference", ("discharge_voltage_end_v", "discharge_voltage_min_v")),
        ),
    )
    recipe = Probability(
        point=Forest(100, 3, 0.05, "binary:logistic", {"min_child_weight": 5, "subsample": 0.7, "colsample_bytree": 0.6, "lambda": 5}),
        styles=Styles(("cycle_count",), copies=2),
        tiers=(0.9, 0.4, 0.0),
        folds=8,
    )
    card = {"Baseline": "XGBoost (300 trees, depth 4) on the columns of the summary, on the same folds."}

    def load(self, data: DataFolder) -> Rows:
        """Discharges with a label for what follows, marked whether the cell has failed before."""
        table = nasa_discharges(data)
        soon, alive = [], []
        for _, cell in table.groupby("battery_id", sort=False):
            low = cell["capacity_Ah"].to_numpy() < END_AH
            soon += [low[k + 1 : k + 1 + AHEAD].any() for k in range(len(low))]
            alive += list(~np.logical_or.accumulate(low))
        frame = table[[i.name for i in self.signature.inputs]]
        target, group = np.array(soon, float), table["battery_id"].to_numpy(str)
        return Rows(frame, target, group, np.full(len(table), "nasa"), table[NASA_RAW], evaluated=np.array(alive))

    def baseline(self, train: Rows, test: Rows) -> np.ndarray:
        """XGBoost on raw columns."""
        return boosted(train.extra[train.evaluated], train.target[train.evaluated], test.extra, 0.05, "binary")

    def golden(self) -> list[dict]:
        """Generated requests."""
        full = {
            "cycle_count": 80.0, "ambient_temperature_celsius": 24.0, "discharge_c_rate": 1.0, "discharge_voltage_min_v": 2.6,
            "discharge_voltage_end_v": 3.3, "discharge_temperature_max_celsius": 39.0,
        }  # fmt: skip
        return [
            full,
            {"cycle_count": 10.0},
            {"cycle_count": 400.0},
            full | {"cycle_count": 0.0},
            full | {"ambient_temperature_celsius": 4.0, "discharge_temperature_max_celsius": 12.0},
            full | {"ambient_temperature_celsius": 44.0, "discharge_c_rate": 2.0},
            {"cycle_count": 120.0, "ambient_temperature_celsius": 24.0, "discharge_c_rate": 1.0},
            full | {"discharge_voltage_end_v": 6.0, "discharge_voltage_min_v": 0.0},
        ]
