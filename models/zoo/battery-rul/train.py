"""Remaining discharges of a cell, one body per cell family."""

from __future__ import annotations

import numpy as np
import pandas as pd
from evzoo import model
from evzoo.baselines import boosted
from evzoo.battery import HNEI_FAMILY, NASA_FAMILY, NASA_RAW, nasa_discharges, telemetry
from evzoo.data import DataFolder, Rows, group_folds
from evzoo.heads import Forest
from evzoo.recipes import Quantiles, Styles
from evzoo.signature import Derived, Input, Signature

HNEI = "battery_rul_hnei"
HNEI_COLUMNS = {
    "discharge_time_s": "discharge_duration_s",
    "decrement_36_34V_s": "discharge_duration_3v6_to_3v4_s",
    "max_voltage_discharge_V": "discharge_voltage_max_v",
    "min_voltage_charge_V": "charge_voltage_min_v",
    "time_at_415V_s": "charge_duration_above_4v15_s",
    "time_constant_current_s": "charge_duration_constant_current_s",
    "charging_time_s": "charge_duration_s",
    "total_time_s": "cycle_duration_s",
}
NASA_BASE = [*(c for c in NASA_RAW if c != "discharge_no"), "capacity_Ah"]


class Model(model.Model):
    """Remaining discharges until the end of life of the family's test."""

    name = "battery-rul"
    task = "battery_rul"
    description = "Discharges a cell has left until its end of life, from one charge and discharge, for two cell families."
    split = "by cell: every cell of one family once held out (NASA: leave one out, HNEI: GroupKFold(7))"
    target = "discharges left (NASA: until capacity is below 1.4 Ah; HNEI: until the end of the test)"
    output = model.Output("rul", "quantiles", "cycles", range=(0.0, 5000.0))
    variant_by = "cell_family"
    bars = {"nasa": model.Bar("mae"), "hnei": model.Bar("mae")}
    signature = Signature(
        (
            Input("cell_family", "Cell family.", required=True, vocabulary=(NASA_FAMILY, HNEI_FAMILY)),
            Input(
                "state_of_health_percent",
                "State of health.",
                vss="Vehicle.Powertrain.TractionBattery.StateOfHealth",
                aggregate="last",
                max_age="30d",
            ),
            telemetry("charge_duration_constant_current_ratio"),
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
        (
            "state_of_health_percent", "charge_duration_constant_current_ratio", "ambient_temperature_celsius",
            "discharge_c_rate", "discharge_voltage_min_v", "discharge_voltage_end_v", "discharge_temperature_max_celsius",
            "temperature_rise", "voltage_recovery",
        ),
    )  # fmt: skip
    nasa = Quantiles(
        point=Forest(150, 3, 0.05, more={"min_child_weight": 10, "subsample": 0.7, "colsample_bytree": 0.6, "lambda": 4}),
        spread=Forest(60, 2, 0.05, more={"min_child_weight": 30, "lambda": 5}),
        styles=Styles(("cell_family",), copies=2),
        tiers=(0.6, 0.2, 0.0),
        folds=6,
        share=0.75,
    )
    hnei = Quantiles(
        point=Forest(120, 4, 0.08, more={"min_child_weight": 20, "subsample": 0.7, "colsample_bytree": 0.7, "lambda": 4}),
        spread=Forest(80, 3, 0.06, more={"min_child_weight": 60, "lambda": 5}),
        styles=Styles(("cell_family",), copies=1, minimal=0.05, masked=0.1),
        tiers=(0.4, 0.2, 0.0),
        folds=6,
        thin=4,
    )
    card = {
        "What it answers": "How many discharges a cell has left, as a median with an 80 % interval, for the two cell families it was trained on; any other family gets no estimate.",
        "Intended use": "Planning of replacements for packs of these cells; a pattern for models of other families.",
        "Baseline": "XGBoost (300 trees, depth 4, rate 0.05) on the columns of each data set, capacity included, cycle index left out.",
        "Naive": "the mean of the training cells of the family.",
        "Minimal": "the cell family only, so the answer is the family's life as a whole; no interval can be narrow.",
        "Data": """
- `battery_aging_nasa_pcoe`: NASA Ames, public, citation requested; the 7 cells here that reach 1.4 Ah.
- `battery_rul_hnei`: Hawaii Natural Energy Institute tests, open with citation; the copy states no licence. 14 NMC-LCO cells.
""",
        "What would be a leak": """
- HNEI cells all run to nearly the same end, so their cycle index is the answer; no cycle count is an input.
- Cells are never on both sides of a split.
""",
        "How it works": """
One body per family. For HNEI, capacity and constant-current charging time are medians over the last 15 cycles over those of the same cell when new (median of cycles 6 to 45), as a fleet's feature store remembers them: that removes most of the difference between cells.
The baseline has the single cycle's columns only.
""",
        "Limits": """
- 7 and 14 laboratory cells; NASA rows after the end of life count as 0 left.
- State of health is capacity over rated (NASA) or over the same cell when new (HNEI).
- The promotion gate `baseline` is waived: of the cell family alone it knows no more than the family's mean (NASA: MAE 35.05, naive 34.82), and says so by its interval.
""",
    }

    def variants(self, rows: Rows) -> list[model.Variant]:
        """A body for each family."""
        return [
            model.Variant(NASA_FAMILY, "nasa-point.ubj", self.nasa),
            model.Variant(HNEI_FAMILY, "hnei-point.ubj", self.hnei),
        ]

    def load(self, data: DataFolder) -> Rows:
        """Cycles of both families."""
        nasa = nasa_discharges(data)
        nasa = nasa[nasa["RUL_cycles"].notna()].reset_index(drop=True)
        hnei = data.csv(f"{HNEI}/hnei_cycles.csv.gz").rename(columns=HNEI_COLUMNS)
        for name in HNEI_COLUMNS.values():
            hnei[name] = hnei[name].where(hnei[name] >= 0)
        cells = hnei.groupby("cell")
        for name in ("discharge_duration_s", "charge_duration_constant_current_s"):
            recent = cells[name].transform(lambda column: column.rolling(15, min_periods=1).median())
            hnei[f"{name}_over_new"] = recent / cells[name].transform(lambda column: column.iloc[5:45].median())
        hnei["state_of_health_percent"] = np.clip(100 * hnei["discharge_duration_s_over_new"], 0, 120)
        hnei["charge_duration_constant_current_ratio"] = hnei["charge_duration_constant_current_s_over_new"]
        frames = (
            nasa.assign(cell_family=NASA_FAMILY, state_of_health_percent=nasa["soh_pct_rated2Ah"]),
            hnei.assign(cell_family=HNEI_FAMILY, discharge_c_rate=1.5, ambient_temperature_celsius=25.0),
        )
        frame = pd.concat(frames, ignore_index=True)[[i.name for i in self.signature.inputs]]
        extra = pd.concat([nasa[NASA_BASE], hnei[list(HNEI_COLUMNS.values())]], ignore_index=True)
        group = np.concatenate([nasa["battery_id"].astype(str), "hnei-" + hnei["cell"].astype(str)])
        part = np.repeat(["nasa", "hnei"], [len(nasa), len(hnei)])
        return Rows(frame, np.concatenate([nasa["RUL_cycles"], hnei["RUL_cycles"]]), group, part, extra)

    def outer_folds(self, rows: Rows) -> list[tuple[np.ndarray, np.ndarray]]:
        """Seven folds, each with one NASA cell and two HNEI cells."""
        folds = []
        for part in ("nasa", "hnei"):
            where = np.flatnonzero(rows.part == part)
            folds.append([where[test] for _, test in group_folds(rows.group[where], 7)])
        tests = [np.sort(np.concatenate(pair)) for pair in zip(*folds)]
        return [(np.setdiff1d(np.arange(len(rows)), test), test) for test in tests]

    def baseline(self, train: Rows, test: Rows) -> np.ndarray:
        """One XGBoost per family."""
        answer = np.full(len(test), np.nan)
        for part, columns in (("nasa", NASA_BASE), ("hnei", list(HNEI_COLUMNS.values()))):
            learn, judge = train.part == part, test.part == part
            answer[judge] = boosted(train.extra.loc[learn, columns], train.target[learn], test.extra.loc[judge, columns], 0.05)
        return answer

    def golden(self) -> list[dict]:
        """Generated requests."""
        nasa = {
            "cell_family": NASA_FAMILY, "state_of_health_percent": 85.0, "ambient_temperature_celsius": 24.0,
            "discharge_c_rate": 1.0, "discharge_voltage_min_v": 2.6, "discharge_voltage_end_v": 3.3,
            "discharge_temperature_max_celsius": 39.0,
        }  # fmt: skip
        hnei = {
            "cell_family": HNEI_FAMILY, "state_of_health_percent": 88.0, "charge_duration_constant_current_ratio": 0.8,
            "ambient_temperature_celsius": 25.0, "discharge_c_rate": 1.5,
        }  # fmt: skip
        return [
            nasa,
            {"cell_family": NASA_FAMILY},
            {"cell_family": NASA_FAMILY, "state_of_health_percent": 71.0},
            nasa | {"state_of_health_percent": 92.0, "ambient_temperature_celsius": 4.0},
            nasa | {"state_of_health_percent": 120.0, "discharge_voltage_end_v": 0.0},
            hnei,
            {"cell_family": HNEI_FAMILY},
            {"cell_family": HNEI_FAMILY, "state_of_health_percent": 95.0},
            hnei | {"state_of_health_percent": 60.0, "charge_duration_constant_current_ratio": 0.35},
            {"cell_family": HNEI_FAMILY.upper(), "charge_duration_constant_current_ratio": 100.0},
            {"cell_family": "lfp_graphite_26650", "state_of_health_percent": 90.0},
        ]
