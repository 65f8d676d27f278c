"""Temperature of a cell during a discharge."""

from __future__ import annotations

import numpy as np
import pandas as pd
from evzoo import model
from evzoo.baselines import boosted
from evzoo.battery import NASA, RATED_AH, telemetry
from evzoo.data import DataFolder, Rows
from evzoo.heads import Forest
from evzoo.recipes import Quantiles, Styles
from evzoo.signature import Derived, Signature

RAW = ["voltage_V", "current_A", "power_W", "cycle_number", "ambient_temperature_C", "time_s"]


class Model(model.Model):
    """Temperature at a moment of a discharge."""

    name = "battery-temperature"
    task = "battery_temperature"
    description = "Temperature of a cell at a moment of a discharge, from load, voltage, time and surroundings."
    split = "GroupKFold(8) by cell"
    target = "cell temperature, degrees Celsius, at least 30 s into a discharge"
    folds = 8
    output = model.Output("temperature", "quantiles", "celsius", range=(-60.0, 300.0))
    bars = {"nasa": model.Bar("mae")}
    signature = Signature(
        (
            telemetry("ambient_temperature_celsius", required=True),
            telemetry("c_rate", required=True),
            telemetry("discharge_elapsed_s"),
            telemetry("cell_voltage_v"),
            telemetry("discharge_temperature_start_celsius"),
        ),
        (
            Derived("start_over_ambient", "difference", ("discharge_temperature_start_celsius", "ambient_temperature_celsius")),
            Derived("charge_drawn", "product", ("c_rate", "discharge_elapsed_s")),
            Derived("c_rate_squared", "product", ("c_rate", "c_rate")),
            Derived("heat", "product", ("c_rate_squared", "discharge_elapsed_s")),
        ),
    )
    recipe = Quantiles(
        point=Forest(200, 4, 0.05, more={"min_child_weight": 15, "subsample": 0.7, "colsample_bytree": 0.7, "lambda": 4}),
        spread=Forest(60, 3, 0.05, more={"min_child_weight": 80, "lambda": 5}),
        styles=Styles(("ambient_temperature_celsius", "c_rate"), copies=2),
        tiers=(0.9, 0.5, 0.0),
        linear=("ambient_temperature_celsius", "start_over_ambient"),
    )
    card = {"Baseline": "XGBoost (300 trees, depth 4) on the columns of the time series, on the same folds."}

    def load(self, data: DataFolder) -> Rows:
        """Samples of discharges under load."""
        series = data.csv(f"{NASA}/nasa_discharge_timeseries_sampled.csv.gz")
        series["power_W"] = series["voltage_V"] * series["current_A"]
        first = series.groupby(["battery_id", "cycle_number"])
        series["start"] = first["temperature_C"].transform("first")
        series = series[(series["time_s"] >= 30) & (series["voltage_V"] > 0)].reset_index(drop=True)
        frame = pd.DataFrame(
            {
                "ambient_temperature_celsius": series["ambient_temperature_C"].astype(float),
                "c_rate": -series["current_A"] / RATED_AH,
                "discharge_elapsed_s": series["time_s"],
                "cell_voltage_v": series["voltage_V"],
                "discharge_temperature_start_celsius": series["start"],
            }
        )
        part = np.full(len(series), "nasa")
        return Rows(frame, series["temperature_C"], series["battery_id"].to_numpy(str), part, series[RAW])

    def baseline(self, train: Rows, test: Rows) -> np.ndarray:
        """XGBoost on raw columns."""
        return boosted(train.extra, train.target, test.extra, 0.1)

    def golden(self) -> list[dict]:
        """Generated requests."""
        least = {"ambient_temperature_celsius": 24.0, "c_rate": 1.0}
        full = least | {"discharge_elapsed_s": 1800.0, "cell_voltage_v": 3.6, "discharge_temperature_start_celsius": 25.0}
        return [
            least,
            full,
            full | {"ambient_temperature_celsius": 4.0, "discharge_temperature_start_celsius": 5.0},
            full | {"ambient_temperature_celsius": 44.0, "c_rate": 2.0},
            least | {"discharge_elapsed_s": 600.0},
            full | {"c_rate": -20.0, "ambient_temperature_celsius": -60.0},
            full | {"c_rate": 0.0, "discharge_elapsed_s": 0.0},
            least | {"ambient_temperature_celsius": 70.0, "discharge_temperature_start_celsius": 300.0},
        ]
