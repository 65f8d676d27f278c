"""What the battery models share: inputs with their signals, and the NASA discharges."""

from __future__ import annotations

import numpy as np
import pandas as pd

from .data import DataFolder
from .signature import Input

PACK = "Vehicle.Powertrain.TractionBattery"
NASA = "battery_aging_nasa_pcoe"
RATED_AH = 2.0
"""Rated capacity of the NASA cells (their README)."""
NASA_FAMILY = "nasa_18650_2000mah"
HNEI_FAMILY = "nmc_lco_18650_2800mah"

SIGNALS = {
    "cycle_count": ("AccumulatedChargedThroughput", "last, over rated capacity", "Discharges of the cell so far."),
    "ambient_temperature_celsius": (
        "Vehicle.Exterior.AirTemperature",
        "mean over discharge",
        "Temperature around the pack.",
    ),
    "discharge_c_rate": ("CurrentCurrent", "mean under load over discharge, over rated capacity", "Load of the discharge."),
    "discharge_voltage_min_v": ("CellVoltage.Min", "min over discharge", "Voltage at which the discharge ended."),
    "discharge_voltage_max_v": ("CellVoltage.Max", "max over discharge", "Voltage at which the discharge began."),
    "discharge_voltage_end_v": (
        "CellVoltage.Min",
        "last within the discharge session, load gone",
        "Voltage the cell has come back to when the load was gone.",
    ),
    "discharge_temperature_max_celsius": ("Temperature.Max", "max over discharge", "Hottest moment of the discharge."),
    "discharge_duration_s": ("CurrentCurrent", "duration of discharge", "Duration of the discharge."),
    "discharge_duration_3v6_to_3v4_s": ("CellVoltage.Min", "time between 3.6 V and 3.4 V", "Time from 3.6 V to 3.4 V."),
    "charge_voltage_min_v": ("CellVoltage.Min", "min over charge", "Voltage at which the charge began."),
    "charge_duration_s": ("CurrentCurrent", "duration of charge", "Duration of the charge."),
    "charge_duration_constant_current_s": (
        "CurrentCurrent",
        "duration of the constant-current part of charge",
        "Time the charge ran at constant current.",
    ),
    "charge_duration_constant_current_ratio": (
        "CurrentCurrent",
        "median over 15 charges, over the median of charges 6 to 45",
        "Time at constant current over that of the cell when new.",
    ),
    "charge_duration_above_4v15_s": ("CellVoltage.Max", "time at or above 4.15 V over charge", "Time at or above 4.15 V."),
    "cycle_duration_s": ("CurrentCurrent", "duration of charge and discharge with rests", "Duration of the full cycle."),
    "cell_voltage_v": ("CellVoltage.CellVoltages", "mean, last", "Cell voltage now."),
    "c_rate": ("CurrentCurrent", "last, over rated capacity", "Current now, positive when discharging."),
    "discharge_elapsed_s": ("CurrentCurrent", "duration of discharge so far", "Time since the discharge began."),
    "discharge_temperature_start_celsius": (
        "Temperature.Average",
        "first over discharge",
        "Cell temperature when the discharge began.",
    ),
}
"""Signal below the traction battery, aggregate and description of each input."""


def telemetry(name: str, **options) -> Input:
    """An input that pack telemetry yields."""
    signal, aggregate, description = SIGNALS[name]
    vss = signal if signal.startswith("Vehicle.") else f"{PACK}.{signal}"
    return Input(name, description, vss=vss, aggregate=aggregate, max_age="30d", **options)


def nasa_discharges(data: DataFolder) -> pd.DataFrame:
    """Plausible discharges of the NASA cells, with input names for columns that are inputs."""
    table = data.csv(f"{NASA}/nasa_discharge_summary_34cells.csv.gz")
    table = table[table["valid"] == 1].sort_values(["battery_id", "discharge_no"], kind="stable").reset_index(drop=True)
    amperes = -table["mean_current_A"]
    load = np.select([amperes < 1.1, amperes < 2.3], [1.0, 2.0], 4.0)
    return table.assign(
        cycle_count=table["discharge_no"].astype(float),
        ambient_temperature_celsius=table["ambient_temperature_C"],
        discharge_c_rate=load / RATED_AH,
        discharge_voltage_min_v=table["min_voltage_V"],
        discharge_voltage_end_v=table["final_voltage_V"],
        discharge_temperature_max_celsius=table["max_temperature_C"],
    )


NASA_RAW = ["ambient_temperature_C", "mean_current_A", "min_voltage_V", "final_voltage_V", "max_temperature_C", "discharge_no"]
"""Columns the data set's own baselines use."""
"""Columns of the summary that its own baselines use.

The mean current is over the whole record, the rest after the load included, so it holds the discharge's duration and
with it the capacity.
"""
NASA_HONEST = [*(c for c in NASA_RAW if c != "mean_current_A"), "discharge_c_rate"]
"""The same without that leak."""
