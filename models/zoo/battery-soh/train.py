"""State of health of a cell from one discharge."""

from __future__ import annotations

import numpy as np
from evzoo import model
from evzoo.baselines import boosted
from evzoo.battery import NASA_HONEST, NASA_RAW, nasa_discharges, telemetry
from evzoo.data import DataFolder, Rows
from evzoo.heads import Forest
from evzoo.recipes import Quantiles, Styles
from evzoo.signature import Signature


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
            telemetry("ambient_temperature_celsius", required=True),
            telemetry("discharge_voltage_end_v", required=True),
            telemetry("discharge_c_rate"),
            telemetry("discharge_temperature_max_celsius"),
        ),
    )
    recipe = Quantiles(
        point=Forest(
            200,
            3,
            0.04,
            more={
                "min_child_weight": 20,
                "subsample": 0.7,
                "colsample_bytree": 0.6,
                "lambda": 5,
                # Warmer surroundings free more charge; an aged cell ends at a higher rest voltage and runs hotter.
                "monotone_constraints": "(0,1,-1,0,-1)",
            },
        ),
        spread=Forest(30, 1, 0.05, more={"min_child_weight": 60, "lambda": 5}),
        styles=Styles(("cycle_count", "ambient_temperature_celsius", "discharge_voltage_end_v"), copies=1, minimal=0.1, masked=0.05),
        tiers=(0.9, 0.7, 0.0),
        folds=8,
        share=0.765,
    )
    card = {
        "What it answers": "Capacity over rated capacity of a cell, from one discharge whose charge was not measured.",
        "Intended use": "Watching packs between full capacity tests.",
        "Baseline": "XGBoost (300 trees, depth 4, rate 0.05) on the columns of the summary, less the one that leaks.",
        "Minimal": "cycle count, ambient temperature and the voltage after the discharge.",
        "Data": "`battery_aging_nasa_pcoe`: NASA Ames, B. Saha and K. Goebel, Battery Data Set (2007), public, citation requested; 2 Ah 18650 cells.",
        "What would be a leak": """
- Duration of a full discharge times its current is the capacity; neither the duration nor energy is an input.
- The summary's mean current is over the whole record, with the rest after the load, so it holds that duration; the baseline gains from it (see below). The model takes the nominal load as C-rate in its place, and its baseline too.
- Discharges of a cell are alike; cells are never on both sides of a split.
""",
        "How it works": "A forest held monotone in ambient temperature, end voltage and heat, and an interval that follows its expected error.",
        "Limits": """
- One cell type of 2008 in a laboratory, 29 cells, ambient 4 to 44 degrees; capacity was measured at the test's own load and temperature, so a cold pack reads as less healthy.
- Before use on other cells, train again on their telemetry.
""",
    }

    def figures(self, rows: Rows) -> list[tuple[str, str]]:
        """The baseline with the leak left in."""
        answer = np.full(len(rows), np.nan)
        for train, test in self.outer_folds(rows):
            answer[test] = boosted(rows.extra.iloc[train][NASA_RAW], rows.target[train], rows.extra.iloc[test][NASA_RAW], 0.05)
        error = np.abs(answer - rows.target)
        fit = 1 - np.sum(error**2) / np.sum((rows.target - rows.target.mean()) ** 2)
        return [("baseline with the leaking mean current", f"MAE {error.mean():.2f} points, R2 {fit:.3f}")]

    def load(self, data: DataFolder) -> Rows:
        """Discharges of all cells."""
        table = nasa_discharges(data)
        frame = table[[i.name for i in self.signature.inputs]]
        part = np.full(len(table), "nasa")
        return Rows(frame, table["soh_pct_rated2Ah"], table["battery_id"].to_numpy(str), part, table[[*NASA_HONEST, "mean_current_A"]])

    def baseline(self, train: Rows, test: Rows) -> np.ndarray:
        """XGBoost on raw columns."""
        return boosted(train.extra[NASA_HONEST], train.target, test.extra[NASA_HONEST], 0.05)

    def golden(self) -> list[dict]:
        """Generated requests."""
        full = {
            "cycle_count": 80.0, "ambient_temperature_celsius": 24.0, "discharge_c_rate": 1.0,
            "discharge_voltage_end_v": 3.3, "discharge_temperature_max_celsius": 39.0,
        }  # fmt: skip
        least = {name: full[name] for name in self.signature.required}
        return [
            full,
            least,
            least | {"cycle_count": 0.0},
            least | {"cycle_count": 400.0},
            full | {"cycle_count": 100000.0},
            full | {"ambient_temperature_celsius": 4.0, "discharge_temperature_max_celsius": 12.0},
            full | {"ambient_temperature_celsius": 44.0, "discharge_c_rate": 2.0},
            least | {"discharge_c_rate": 1.0},
            full | {"discharge_voltage_end_v": 6.0, "ambient_temperature_celsius": -60.0},
        ]
