"""How often this model alone would raise an alert: on simulated normal days, and before simulated shorts.

    python models/zoo/thermal-risk/alarms.py days target/release/evsim 1 101
    python models/zoo/thermal-risk/alarms.py shorts target/release/evsim 1 301

Needs numpy and xgboost. Every reading is assessed, which is more than the server does of those that come twice a second;
the rise and the drop are those over the last 10 s, as the feature view `pack_now` has them. `docs/thermal.md` has the figures.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

import numpy as np
import xgboost as xgb

HERE = Path(__file__).parent
MANIFEST = tomllib.loads((HERE / "manifest.toml").read_text())
NAMES = [item["name"] for item in MANIFEST["inputs"]]
PACK = "Vehicle.Powertrain.TractionBattery."
SIGNALS = {
    "cell_temperature_max_celsius": PACK + "Temperature.Max",
    "cell_temperature_mean_celsius": PACK + "Temperature.Average",
    "cell_temperature_min_celsius": PACK + "Temperature.Min",
    "cell_voltage_min_v": PACK + "CellVoltage.Min",
    "pack_voltage_v": PACK + "CurrentVoltage",
    "pack_current_a": PACK + "CurrentCurrent",
    "state_of_charge_percent": PACK + "StateOfCharge.Current",
    "state_of_health_percent": PACK + "StateOfHealth",
    "ambient_temperature_celsius": "Vehicle.Exterior.AirTemperature",
}
COVERAGE_MIN = 0.3
ASSESSMENTS = 3
WATCH, WARNING, ALARM = 1, 2, 3


def finite(values: np.ndarray) -> np.ndarray:
    """Values without what is no number."""
    return np.where(np.isfinite(values), values, np.nan)


def predict(booster: xgb.Booster, inputs: dict[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Probabilities of the five classes, coverage, and whether an input is outside of what was trained."""
    columns = {name: finite(values).astype(np.float32) for name, values in inputs.items()}
    with np.errstate(all="ignore"):
        for item in MANIFEST["derived"]:
            left, right = columns[item["of"][0]], columns[item["of"][-1]]
            columns[item["name"]] = {"sum": left + right, "difference": left - right, "ratio": left / right}[item["op"]]
    matrix = finite(np.stack([columns[name] for name in MANIFEST["columns"]], 1))
    coverage = np.stack([~np.isnan(columns[name]) for name in NAMES], 1).mean(1)
    margin = booster.predict(xgb.DMatrix(matrix), output_margin=True)
    classes = np.zeros((len(matrix), 5))
    left = np.ones(len(matrix), bool)
    for tier in MANIFEST["calibration"]["tiers"]:
        chosen = left & (coverage >= tier["min_coverage"] - 1e-9)
        power = np.exp(margin[chosen] / tier["temperature"] + np.array(tier["bias"]))
        classes[chosen, 1:] = power / power.sum(1, keepdims=True)
        left &= ~chosen
    normal = np.ones(len(matrix), bool)
    for condition in MANIFEST["outputs"][0]["rules"][0]["when"]:
        value = columns[condition["input"]]
        missing = condition.get("if_missing", "fails") == "holds"
        normal &= np.where(np.isnan(value), missing, value < condition["below"])
    classes[normal, 0], classes[normal, WATCH] = classes[normal, WATCH], 0
    outside = np.zeros(len(matrix), bool)
    for item in MANIFEST["inputs"]:
        if "trained_range" in item:
            low, high = item["trained_range"]
            outside |= (columns[item["name"]] < low) | (columns[item["name"]] > high)
    return classes, coverage, outside


def features(times_s: np.ndarray, readings: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """What the feature store makes of a vehicle's readings, at each of them."""
    earliest = np.minimum(np.searchsorted(times_s, times_s - 10.000001), np.arange(len(times_s)))
    inputs = {name: np.full(len(times_s), np.nan) for name in NAMES} | readings
    hottest, weakest = readings["cell_temperature_max_celsius"], readings["cell_voltage_min_v"]
    with np.errstate(all="ignore"):
        passed = times_s - times_s[earliest]
        inputs["cell_temperature_rate_celsius_per_s"] = (hottest - hottest[earliest]) / passed
        drop = (weakest[earliest] - weakest) / weakest[earliest] * 100
    inputs["cell_voltage_drop_percent"] = np.where(passed > 0, drop, np.nan)
    return inputs


def held(classes: np.ndarray, coverage: np.ndarray, outside: np.ndarray, probability: float) -> np.ndarray:
    """The class that the last three assessments reach with this probability."""
    at_least = classes[:, ::-1].cumsum(1)[:, ::-1]
    sure = np.where(at_least[:, 1:] >= probability, np.arange(1, 5), 0).max(1)
    sure[(coverage < COVERAGE_MIN) | outside] = 0
    least = sure.copy()
    for before in range(1, ASSESSMENTS):
        least[before:] = np.minimum(least[before:], sure[:-before])
    least[: ASSESSMENTS - 1] = 0
    return least


def simulated(evsim: str, arguments: list[str], folder: Path) -> dict[str, tuple[np.ndarray, dict[str, np.ndarray]]]:
    """Times and readings of each vehicle of a run."""
    path = folder / "run.csv"
    subprocess.run([evsim, "run", "--format", "csv", "--output", path, *arguments], check=True)
    with path.open() as file:
        header = file.readline().strip().split(",")
    vehicles = np.loadtxt(path, delimiter=",", skiprows=1, usecols=[0], dtype=str)
    places = [header.index("time_us"), *(header.index(signal) for signal in SIGNALS.values())]
    table = np.genfromtxt(path, delimiter=",", skip_header=1, usecols=places)
    runs = {}
    for vehicle in np.unique(vehicles):
        rows = table[vehicles == vehicle]
        rows = rows[np.argsort(rows[:, 0], kind="stable")]
        runs[vehicle] = rows[:, 0] / 1e6, dict(zip(SIGNALS, rows[:, 1:].T, strict=True))
    return runs


def main(what: str, evsim: str, first: int, end: int) -> None:
    """Simulates, assesses, counts."""
    booster = xgb.Booster()
    booster.load_model(HERE / "point.ubj")
    counts = {probability: np.zeros(5, int) for probability in (0.5, 0.7, 0.9, 0.95)}
    total, readings, strange, leads = 0, 0, 0.0, []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for seed in range(first, end):
            arguments = ["--seed", str(seed)]
            if what == "days":
                arguments += ["--vehicles", "10", "--seconds", "86400"]
            else:
                start = "night" if seed % 2 else "driving"
                arguments += ["--vehicles", "1", "--seconds", "6000", "--start", start, "--fault", "0:short@900"]
                arguments += ["--truth", str(folder / "truth.jsonl")]
            for times_s, values in simulated(evsim, arguments, folder).values():
                until_s = np.inf
                if what == "shorts":
                    truth = map(json.loads, (folder / "truth.jsonl").open())
                    hot = [line["time_us"] / 1e6 for line in truth if line["hottest_cell_celsius"] >= 129]
                    if not hot:
                        continue
                    until_s = hot[0]
                classes, coverage, outside = predict(booster, features(times_s, values))
                total, readings, strange = total + 1, readings + len(times_s), strange + outside.sum()
                for probability, count in counts.items():
                    told = held(classes, coverage, outside, probability)
                    for least in (WATCH, WARNING, ALARM):
                        when = times_s[told >= least]
                        count[least] += len(when) > 0 and when[0] <= until_s
                        if probability == 0.9 and least == ALARM and len(when) and when[0] <= until_s < np.inf:
                            leads.append(until_s - when[0])
    print(f"{total} {what}, {readings} readings, {strange / max(readings, 1):.1%} outside of what was trained")
    for probability, count in counts.items():
        print(f"probability {probability}: Watch or more {count[1]}, Warning or more {count[2]}, Alarm or more {count[3]}")
    if leads:
        print(f"Alarm at 0.9: {np.median(leads):.0f} s before 129 degrees in the median")


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
