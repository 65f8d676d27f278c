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
            Derived("power", "product", ("c_rate", "cell_voltage_v")),
        ),
        (
            "ambient_temperature_celsius", "c_rate", "discharge_elapsed_s", "cell_voltage_v", "start_over_ambient",
            "charge_drawn", "power",
        ),
    )  # fmt: skip
    recipe = Quantiles(
        point=Forest(
            300,
            5,
            0.05,
            more={
                "min_child_weight": 8,
                "subsample": 0.6,
                "colsample_bytree": 0.8,
                "lambda": 4,
                # A cell that begins warmer than its surroundings gains less on the way.
                "monotone_constraints": "(0,0,0,0,-1,0,0)",
            },
        ),
        spread=Forest(60, 3, 0.05, more={"min_child_weight": 60, "lambda": 5}),
        styles=Styles(("ambient_temperature_celsius", "c_rate"), copies=1, minimal=0.03, masked=0.01),
        tiers=(0.9, 0.5, 0.0),
        folds=3,
        linear=("ambient_temperature_celsius", "start_over_ambient"),
        complete=True,
        ridge=0.001,
        share=0.76,
    )
    card = {
        "What it answers": "The temperature a cell should have at a moment of a discharge; a sensor that says otherwise is worth a look.",
        "Intended use": "Plausibility of sensors and planning of loads. Not a safety function.",
        "Baseline": "XGBoost (300 trees, depth 4, rate 0.1) on voltage, current, power, cycle number, ambient temperature and time.",
        "Minimal": "ambient temperature and C-rate.",
        "Data": "`battery_aging_nasa_pcoe`: NASA Ames, B. Saha and K. Goebel, Battery Data Set (2007), public, citation requested; every 10th discharge of 24 cells.",
        "What would be a leak": """
- Temperature statistics of the same discharge are the answer; only the temperature at its begin is an input, and samples of the first 30 s, where that is the answer, are not used.
- The baseline has no start temperature: its data set does not list it as a column.
""",
        "How it works": "Start and ambient temperature as a linear term, the rise by a forest from load, time, charge drawn and voltage.",
        "Limits": "Single 2 Ah cells in a chamber: a pack's cells heat each other and are cooled. Train again on telemetry of the pack in question.",
    }

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
