"""The server's feature vocabulary, read from its source so that names, units and ranges exist once."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from .errors import ZooError

SOURCE = Path(__file__).resolve().parents[3] / "server/domain/src/features.rs"
ENTRY = re.compile(r'^\s*\w+ = "(\w+)", (?:number "([^"]*)" (-?[\d.]+) (-?[\d.]+)|(text) (\d+)|(flag));', re.MULTILINE)


@dataclass(frozen=True)
class Feature:
    """One entry: `dtype` as the manifest spells it, unit and range of a number."""

    dtype: str
    unit: str | None = None
    range: tuple[float, float] | None = None


@cache
def vocabulary() -> dict[str, Feature]:
    """Every feature by name."""
    found = {}
    for name, unit, low, high, text, _, flag in ENTRY.findall(SOURCE.read_text()):
        if text or flag:
            found[name] = Feature("BYTES" if text else "BOOL")
        else:
            found[name] = Feature("FP32", unit, (float(low), float(high)))
    return found


def feature(name: str) -> Feature:
    """The feature of this name."""
    try:
        return vocabulary()[name]
    except KeyError:
        raise ZooError(f"`{name}` is not in the feature vocabulary ({SOURCE.name}): add it there first") from None
