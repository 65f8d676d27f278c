"""Charging sessions a day that a station will see."""

from __future__ import annotations

import numpy as np
import pandas as pd
from evzoo import model
from evzoo.baselines import ridge
from evzoo.data import DataFolder, Rows
from evzoo.heads import Forest
from evzoo.measure import pooled
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
            Input("region", "City or area of the station.", required=True, learned=True),
            Input("city_type", "Kind of place.", required=True, vocabulary=("rural", "suburban", "urban")),
            Input("charger_type", "Kind of current.", required=True, vocabulary=("AC", "DC")),
            Input("station_power_kw", "Power of the station's strongest connector."),
            Input("connector_count", "Connectors of the station."),
            Input("stations_at_site", "Stations at the same site, this one included."),
        ),
        (Derived("region_and_current", "product", ("region", "charger_type")),),
        ("region", "city_type", "charger_type", "stations_at_site", "region_and_current"),
    )
    recipe = Quantiles(
        point=Forest(
            200, 2, 0.05, "reg:absoluteerror", {"min_child_weight": 8, "subsample": 0.8, "colsample_bytree": 0.7, "lambda": 3}
        ),
        spread=Forest(60, 2, 0.08, more={"min_child_weight": 3, "lambda": 2}),
        styles=Styles(("region", "city_type", "charger_type"), copies=1, minimal=0.1, masked=0.05, hidden="region"),
        tiers=(0.9, 0.6, 0.45, 0.0),
        link="expm1",
        share=0.75,
        damping=(0.4,),
        linear=("region", "charger_type", "region_and_current"),
        complete=True,
        # Codes around 0, so that the weight of the current is that of the mean city where the region is unknown.
        encode_as=lambda rows: np.log1p(rows.target) - np.log1p(rows.target).mean(),
    )
    card = {
        "What it answers": "How many charging sessions a day a station will see in the long run, as a median with an 80 % interval.",
        "Intended use": "Comparing sites before a station is built. Not for forecasting the next day of a running station.",
        "Baseline": "ridge on log1p sessions with region, city type, charger type, power and connectors.",
        "Naive": "the mean of the training stations.",
        "Minimal": "region, city type and charger type only.",
        "Data": """
`charging_events_uk_us`: Dundee and Perth & Kinross (Open Government Licence v3.0), Boulder (City of Boulder open data), 2016 to 2021.
Dundee was free of charge then, and Boulder's 2020 holds the pandemic.
""",
        "What would be a leak": "Several stations share a site; a site is never on both sides of a split. Energy and plugged hours are the answer's siblings and no inputs.",
        "How it works": """
On log sessions a linear term of region, current and their product, and a small forest that adds kind of place and the stations at the site. Extra training rows without a region, judged by models that never saw their city, widen the interval for a new city.
Power and connector count are accepted and checked but do not move the answer: in these three cities they say nothing beyond AC or DC, and as columns they made unseen sites worse.
""",
        "Limits": """
- 110 stations in 55 sites of three cities: figures move by several percent with another deal of folds.
- Levels do not carry over between cities: see leave-one-city-out. A new city is flagged and answered with the other cities' level.
- Stations above 50 kW or with more than 3 connectors were never seen and are flagged.
- Intervals narrower on average than a constant width are bought with the few busy stations: they hold far fewer of Dundee's DC stations than of the rest (see below).
- Recent sessions are not an input: a station that has run for a month knows its own level better than this model.
""",
    }

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

    def figures(self, rows: Rows) -> list[tuple[str, str]]:
        """Every city once left out."""
        pool, found = pooled(self, rows), []
        inside = (rows.target >= pool.answer["full"][:, 0]) & (rows.target <= pool.answer["full"][:, 2])
        for kind, chosen in rows.frame.groupby(["region", "charger_type"]).indices.items():
            found.append((f"{' '.join(kind)}, unseen sites", f"q10..q90 covers {inside[chosen].mean():.0%} of {len(chosen)}"))
        for city in np.unique(rows.frame["region"]):
            away = (rows.frame["region"] == city).to_numpy()
            test, train = rows.take(np.flatnonzero(away)), rows.take(np.flatnonzero(~away))
            answer, _ = self.fit(train).answer(test.frame)
            error, base = np.abs(answer[:, 1] - test.target), np.abs(self.baseline(train, test) - test.target)
            inside = np.mean((test.target >= answer[:, 0]) & (test.target <= answer[:, 2]))
            text = f"MAE {error.mean():.2f} (baseline {base.mean():.2f}) sessions/day, q10..q90 covers {inside:.0%} of {len(test)}"
            found.append((f"{city} left out", text))
        return found

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
