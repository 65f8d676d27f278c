"""Charging sessions a day that a station will see."""

from __future__ import annotations

import numpy as np
import pandas as pd
from evzoo import model
from evzoo.baselines import ridge
from evzoo.data import DataFolder, Rows
from evzoo.heads import Forest
from evzoo.recipes import Quantiles, Styles
from evzoo.signature import Derived, Input, Signature

EVENTS = "charging_events_uk_us"
RAW = ["region", "city_type", "charger_type", "power_kW", "num_connectors"]
CITIES = {"Boulder (US-CO)": "Boulder", "Dundee (UK)": "Dundee", "Perth & Kinross (UK)": "Perth & Kinross"}


class Model(model.Model):
    """Log sessions a day."""

    name = "charging-utilization"
    task = "utilization"
    description = "Charging sessions a day that a station will see, from where it is and what it offers."
    split = "GroupKFold(10) by region and site"
    target = "sessions a day"
    folds = 10
    output = model.Output("utilization", "quantiles", "sessions_per_day", link="expm1", range=(0.0, 500.0))
    bars = {"station": model.Bar("mae")}
    signature = Signature(
        (
            Input("region", "City or area of the station.", required=True, vocabulary=tuple(CITIES.values())),
            Input("city_type", "Kind of place.", required=True, vocabulary=("rural", "suburban", "urban")),
            Input("charger_type", "Kind of current.", required=True, vocabulary=("AC", "DC")),
            Input("station_power_kw", "Power of the station's strongest connector."),
            Input("connector_count", "Connectors of the station."),
            Input("stations_at_site", "Stations at the same site, this one included."),
        ),
    )
    recipe = Quantiles(
        point=Forest(120, 3, 0.05, more={"min_child_weight": 5, "subsample": 0.8, "colsample_bytree": 0.7, "lambda": 3}),
        spread=Forest(30, 2, 0.05, more={"min_child_weight": 20, "lambda": 5}),
        styles=Styles(("region", "city_type", "charger_type"), copies=2),
        tiers=(0.9, 0.55, 0.0),
        link="expm1",
    )
    card = {"Baseline": "ridge on log1p of the five listed columns, on the same folds."}

    def load(self, data: DataFolder) -> Rows:
        """Stations."""
        stations = data.csv(f"{EVENTS}/stations.csv", dtype={"station_id": str})
        site = stations["region"] + " " + stations["site"]
        frame = pd.DataFrame(
            {
                "region": stations["region"].map(CITIES),
                "city_type": stations["city_type"],
                "charger_type": stations["charger_type"],
                "station_power_kw": stations["power_kW"],
                "connector_count": stations["num_connectors"].astype(float),
                "stations_at_site": site.map(site.value_counts()).astype(float),
            }
        )
        return Rows(frame, stations["sessions_per_day"], site.to_numpy(str), np.full(len(frame), "station"), stations[RAW])

    def baseline(self, train: Rows, test: Rows) -> np.ndarray:
        """Ridge on log1p."""
        return np.expm1(ridge(train.extra, np.log1p(train.target), test.extra))

    def golden(self) -> list[dict]:
        """Generated requests."""
        least = {"region": "Dundee", "city_type": "urban", "charger_type": "DC"}
        return [
            least,
            {"region": "Berlin", "city_type": "urban", "charger_type": "DC", "station_power_kw": 150.0, "connector_count": 4.0},
            least | {"station_power_kw": 50.0, "connector_count": 3.0, "stations_at_site": 2.0},
            {"region": "boulder", "city_type": "urban", "charger_type": "AC", "station_power_kw": 7.0, "connector_count": 2.0},
            {"region": "Perth & Kinross", "city_type": "rural", "charger_type": "DC", "stations_at_site": 1000.0},
            {"region": "Nowhere", "city_type": "lunar", "charger_type": "wireless"},
            least | {"station_power_kw": 1.0, "connector_count": 1.0, "stations_at_site": 1.0},
            least | {"station_power_kw": 4000.0, "connector_count": 500.0},
        ]
