"""What the public list of ranges says of each class."""

from __future__ import annotations

from ..data import DataFolder

RANGES = "ev_range_nrcan/bev_my2012_2024.csv"
NAMES = {
    "CHEVROLET_BOLT": ("Chevrolet", "Bolt EV"),
    "KIA_NIRO": ("Kia", "Niro EV"),
    "NISSAN_LEAF": ("Nissan", "LEAF"),
    "RIVIAN_R1T": ("Rivian", "R1T"),
    "TESLA_3": ("Tesla", "Model 3"),
    "TESLA_S": ("Tesla", "Model S"),
    "TESLA_X": ("Tesla", "Model X"),
    "TESLA_Y": ("Tesla", "Model Y"),
}


def labels(data: DataFolder) -> list[dict]:
    """`[[labels]]`: make, model and the ranges of all its trims and years; no range where the list has none."""
    table, found = data.csv(RANGES), []
    for name, (make, model) in NAMES.items():
        # Whole words: `Bolt EV` is not `Bolt EUV`.
        own = table["model"].str.match(rf"{model}(?:\s|$)") & (table["make"] == make)
        ranges, years = table.loc[own, "range_km"], table.loc[own, "model_year"]
        entry = {"class": name, "make": make, "model": model}
        if len(ranges):
            entry["typical_range_km"] = [float(ranges.min()), float(ranges.median()), float(ranges.max())]
            entry["range_source"] = (
                f"Natural Resources Canada fuel consumption ratings, model years {years.min()} to {years.max()}, {len(ranges)} entries"
            )
        found.append(entry)
    return found
