"""State of health of a cell from one discharge."""

from __future__ import annotations

import numpy as np
from evzoo import model
from evzoo.baselines import boosted
from evzoo.battery import NASA_RAW, nasa_discharges, telemetry
from evzoo.data import DataFolder, Rows
from evzoo.heads import Forest
from evzoo.recipes import Quantiles, Styles
from evzoo.signature import Derived, Signature


class Model(model.Model):
    """Capacity over rated capacity."""

    name = "battery-soh"
    task = "battery_soh"
    description = "State of health of a cell from what one discharge looked like, without measuring its charge."
    split = "GroupKFold(10) by cell"
    target = "discharge capacity over rated capacity, percent"
    folds = 10
    output = model.Output("soh", "quantiles", "percent", range=(0.0, 120.0))
    bars = {"nasa": model.Bar("mae")}
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
    recipe = Quantiles(
        point=Forest(200, 3, 0.04, more={"min_child_weight": 20, "subsample": 0.7, "colsample_bytree": 0.6, "lambda": 5}),
        spread=Forest(40, 2, 0.05, more={"min_child_weight": 100, "lambda": 5}),
        styles=Styles(("cycle_count",), copies=2),
        tiers=(0.9, 0.4, 0.0),
        folds=8,
    )
    card = {"Baseline": "XGBoost (300 trees, depth 4) on the columns of the summary, on the same folds."}

    def load(self, data: DataFolder) -> Rows:
        """Discharges of all cells."""
        table = nasa_discharges(data)
        frame = table[[i.name for i in self.signature.inputs]]
        part = np.full(len(table), "nasa")
        return Rows(frame, table["soh_pct_rated2Ah"], table["battery_id"].to_numpy(str), part, table[NASA_RAW])

    def baseline(self, train: Rows, test: Rows) -> np.ndarray:
        """XGBoost on raw columns."""
        return boosted(train.extra, train.target, test.extra, 0.05)

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
