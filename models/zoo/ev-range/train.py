"""Range of an electric car from what a caller knows of it."""

from __future__ import annotations

import re

import numpy as np
import pandas as pd
from evzoo import model
from evzoo.baselines import boosted
from evzoo.data import DataFolder, Rows
from evzoo.heads import Forest
from evzoo.recipes import Quantiles, Styles
from evzoo.signature import Derived, Input, Signature

SPECS = "ev_specs_evdatabase_2025"
NRCAN = "ev_range_nrcan"

TWO_WORDS = {"model", "ioniq", "amg", "mustang", "electrified", "hummer", "blazer", "bolt", "grand", "grandland", "range"}
"""First words that several model lines of a make share; the line is then the first two words."""

NRCAN_SEGMENTS = {"Sport utility vehicle: Small": "SUV small", "Sport utility vehicle: Standard": "SUV standard"}

ENCODED = ("make", "model", "drivetrain", "segment", "body_type")

NUMBERS = {
    "battery_capacity_kWh": "battery_capacity_kwh",
    "torque_nm": "torque_nm",
    "seats": "seats",
    "length_mm": "length_mm",
    "width_mm": "width_mm",
    "height_mm": "height_mm",
    "top_speed_kmh": "top_speed_kmh",
    "acceleration_0_100_s": "acceleration_0_100_kmh_s",
    "fast_charging_power_kw_dc": "fast_charging_power_kw",
    "towing_capacity_kg": "towing_capacity_kg",
    "cargo_volume_l": "cargo_volume_l",
}


def line(name: str) -> str:
    """Model line: the first word, or two where the first is shared."""
    words = re.split(r"\s+", name.strip())
    return " ".join(words[: 2 if words[0].lower() in TWO_WORDS and len(words) > 1 else 1])


def drive(name: str) -> str | None:
    """Driven axle, where an official model name says so."""
    return "AWD" if re.search(r"\b(AWD|4MATIC|xDrive\d*|quattro|Dual Motor|4X4)\b", name, re.IGNORECASE) else None


def hide_models(frame: pd.DataFrame, rng: np.random.Generator) -> pd.DataFrame:
    """Takes most model lines and some makes out, so that the trees know what to do without."""
    for name, share in (("model", 0.7), ("make", 0.2)):
        frame.loc[rng.uniform(0, 1, len(frame)) < share, name] = None
    return frame


class Model(model.Model):
    """Log range, with the battery's capacity as a linear term where it is known."""

    name = "ev-range"
    task = "range"
    description = "Driving range of an electric car from make, model line and whatever else is known of it."
    split = "GroupKFold(5) by make and first word of model, both data sets together"
    target = "range in km, real-world (EV Database) or EPA cycle (Natural Resources Canada)"
    output = model.Output("range", "quantiles", "km", link="exp", range=(20.0, 1500.0))
    always = ("range_cycle",)
    bars = {"real_world": model.Bar("mae"), "epa": model.Bar("mae")}
    signature = Signature(
        (
            Input("make", "Manufacturer.", required=True, learned=True),
            Input("model", "Model line, optionally with its trim.", required=True, learned=True, match="prefix"),
            Input("range_cycle", "Which range is meant.", default="real_world", vocabulary=("real_world", "epa")),
            Input("battery_capacity_kwh", "Usable battery capacity."),
            Input("model_year", "Model year."),
            Input("motor_power_kw", "Peak motor power."),
            Input("torque_nm", "Peak motor torque."),
            Input("drivetrain", "Driven axle.", vocabulary=("FWD", "RWD", "AWD")),
            Input("segment", "Market segment.", learned=True, match="prefix"),
            Input("body_type", "Body type.", learned=True),
            Input("seats", "Number of seats."),
            Input("length_mm", "Overall length."),
            Input("width_mm", "Overall width without mirrors."),
            Input("height_mm", "Overall height."),
            Input("top_speed_kmh", "Top speed."),
            Input("acceleration_0_100_kmh_s", "Time from standstill to 100 km/h."),
            Input("fast_charging_power_kw", "Peak DC charging power."),
            Input("towing_capacity_kg", "Braked towing capacity."),
            Input("cargo_volume_l", "Cargo volume with all seats up."),
        ),
        (
            Derived("frontal_area", "product", ("width_mm", "height_mm")),
            Derived("volume", "product", ("frontal_area", "length_mm")),
            Derived("capacity_per_volume", "ratio", ("battery_capacity_kwh", "volume")),
            Derived("torque_per_capacity", "ratio", ("torque_nm", "battery_capacity_kwh")),
            Derived("charging_c_rate", "ratio", ("fast_charging_power_kw", "battery_capacity_kwh")),
            Derived("ln_capacity", "ln", ("battery_capacity_kwh",)),
            Derived("ln_frontal_area", "ln", ("frontal_area",)),
        ),
    )
    recipe = Quantiles(
        point=Forest(250, 4, 0.06, "reg:absoluteerror", more={"min_child_weight": 4, "subsample": 0.7, "colsample_bytree": 0.5, "lambda": 4}),
        spread=Forest(60, 2, 0.06, more={"min_child_weight": 40, "subsample": 0.8, "colsample_bytree": 0.6, "lambda": 5}),
        styles=Styles(("make", "model", "range_cycle"), copies=3, also=hide_models),
        tiers=(0.75, 0.36, 0.18, 0.0),
        link="exp",
        share=0.775,
        linear=("ln_capacity", "ln_frontal_area", "top_speed_kmh"),
    )
    card = {
        "What it answers": """
How far an electric car goes on a full charge, as a median with an 80 % interval.
`range_cycle` says which range is meant: `real_world` (the default; EV Database's estimate) or `epa` (the type-approval label).
""",
        "Intended use": "Planning and plausibility checks for cars whose range nobody has measured; not a promise to a driver.",
        "Baseline": "XGBoost (300 trees, depth 4, rate 0.1) on each data set's own columns without efficiency or consumption.",
        "Naive": "the mean range of the training rows of the same data set.",
        "Minimal": "`make` and `model` only, and `range_cycle` where the EPA label is asked for. Held-out model lines are unseen.",
        "Data": """
- `ev_specs_evdatabase_2025`: EV Database specifications, a Kaggle set labelled CC BY 4.0; real-world range, with capacity.
- `ev_range_nrcan`: Natural Resources Canada ratings, Open Government Licence - Canada; official range, without capacity.
""",
        "What would be a leak": """
Efficiency and consumption are range and capacity by another name; neither is an input.
Trims of one model line are nearly the same car, so a line, across both data sets, is never on both sides of a split.
""",
        "How it works": """
The forest predicts log range; capacity, frontal area and top speed enter as a linear term where they are known.
Makes and lines are coded by their shrunk mean log range of the training rows; most lines are hidden in training, as unseen ones are when served.
""",
        "Limits": """
- Every interval was calibrated on unseen model lines; for a known line it is on the wide side.
- With make and model line only, an unseen line is hardly better known than the mean car: see the minimal rows.
- No source has both capacity and the EPA range, so with the capacity given `range_cycle` changes nothing.
- Trims, wheels and weather are not told apart. Vans, sports cars and cars before 2012 are few or absent.
""",
    }

    def load(self, data: DataFolder) -> Rows:
        """Both data sets under the names of the vocabulary."""
        specs = data.csv(f"{SPECS}/ev_specs_2025.csv")
        specs["model"] = specs["model"].astype(object).where(specs["model"].notna(), specs["brand"])
        alfa = specs["brand"] == "Alfa"
        specs.loc[alfa, "model"] = specs.loc[alfa, "model"].str.replace("Romeo ", "")
        specs["brand"] = specs["brand"].replace({"Alfa": "Alfa Romeo"})
        nrcan = data.csv(f"{NRCAN}/bev_my2012_2024.csv")
        world = pd.DataFrame({new: pd.to_numeric(specs[old], errors="coerce") for old, new in NUMBERS.items()})
        world["make"], world["line"] = specs["brand"], specs["model"].map(line)
        world["drivetrain"], world["segment"], world["body_type"] = specs["drivetrain"], specs["segment"], specs["car_body_type"]
        world["range_cycle"] = "real_world"
        official = pd.DataFrame({"make": nrcan["make"].replace({"smart EQ": "Smart"}), "line": nrcan["model"].map(line)})
        official["model_year"], official["motor_power_kw"] = nrcan["model_year"].astype(float), nrcan["motor_kW"].astype(float)
        official["segment"] = nrcan["vehicle_class"].replace(NRCAN_SEGMENTS)
        official["drivetrain"] = nrcan["model"].map(drive)
        official["range_cycle"] = "epa"
        frame = pd.concat([world, official], ignore_index=True)
        names = {text.lower(): text for text in reversed(list(frame["make"]))}
        frame["make"] = frame["make"].map(lambda text: names[text.lower()])
        frame["model"] = frame.pop("line")
        group = frame["make"].str.lower() + " " + pd.concat([specs["model"], nrcan["model"]]).str.lower().str.split().str[0].to_numpy()
        frame = frame[[i.name for i in self.signature.inputs]]
        extra = pd.concat(
            [
                specs.drop(columns=["efficiency_wh_per_km", "range_km", "source_url", "model", "battery_type", "fast_charge_port"]).assign(
                    cargo_volume_l=pd.to_numeric(specs["cargo_volume_l"], errors="coerce")
                ),
                nrcan[["model_year", "motor_kW", "vehicle_class", "make"]],
            ],
            ignore_index=True,
        )
        target = np.concatenate([specs["range_km"], nrcan["range_km"]]).astype(float)
        return Rows(frame, target, group.to_numpy(str), frame["range_cycle"].to_numpy(str), extra)

    def baseline(self, train: Rows, test: Rows) -> np.ndarray:
        """One XGBoost per data set, on its own columns."""
        answer = np.full(len(test), np.nan)
        official = ["model_year", "motor_kW", "vehicle_class", "make"]
        for part, columns in (("real_world", [c for c in train.extra if c not in official]), ("epa", official)):
            learn, judge = train.part == part, test.part == part
            answer[judge] = boosted(train.extra.loc[learn, columns], train.target[learn], test.extra.loc[judge, columns], 0.1)
        return answer

    def golden(self) -> list[dict]:
        """Generated requests."""
        tesla = {"make": "Tesla", "model": "Model 3"}
        full = tesla | {
            "range_cycle": "real_world", "battery_capacity_kwh": 75.0, "model_year": 2024.0, "motor_power_kw": 220.0,
            "torque_nm": 440.0, "drivetrain": "RWD", "segment": "D - Large", "body_type": "Sedan", "seats": 5.0,
            "length_mm": 4720.0, "width_mm": 1848.0, "height_mm": 1442.0, "top_speed_kmh": 201.0,
            "acceleration_0_100_kmh_s": 5.2, "fast_charging_power_kw": 170.0, "towing_capacity_kg": 1000.0, "cargo_volume_l": 594.0,
        }  # fmt: skip
        return [
            tesla,
            tesla | {"battery_capacity_kwh": 60.0},
            tesla | {"model_year": 2021.0},
            tesla | {"model_year": 2021.0, "range_cycle": "epa"},
            tesla | {"model": "model 3 Long Range Dual Motor", "battery_capacity_kwh": 75.0, "drivetrain": "AWD"},
            full,
            full | {"range_cycle": "epa"},
            full | {"battery_capacity_kwh": 1000.0},
            full | {"battery_capacity_kwh": 1.0, "seats": 1.0},
            {"make": "Nonesuch", "model": "Phantom"},
            {"make": "Nonesuch", "model": "Phantom", "battery_capacity_kwh": 60.0},
            {"make": " tesla ", "model": "Model 33", "drivetrain": "6WD", "range_cycle": "wltp"},
            {"make": "Kia", "model": "EV6 GT", "battery_capacity_kwh": 77.4, "motor_power_kw": 239.0, "body_type": "SUV"},
            {"make": "Nissan", "model": "Leaf", "battery_capacity_kwh": 39.0},
            {"make": "Volkswagen", "model": "ID.3", "battery_capacity_kwh": 58.0, "length_mm": 4261.0, "width_mm": 1809.0},
            {"make": "Ford", "model": "Mustang Mach-E", "model_year": 2040.0, "motor_power_kw": 2500.0},
        ]
