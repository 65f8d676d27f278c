"""The committed files answer as the golden cases say; runs without the data."""

from __future__ import annotations

import math
import tomllib

import numpy as np
import pytest
from evzoo.heads import LIBRARY
from evzoo.model import ZOO, names
from evzoo.served import Served
from evzoo.build import flat, golden_of
from evzoo.vocabulary import feature


@pytest.mark.parametrize("name", names())
def test_golden_cases_are_reproduced(name):
    golden = golden_of(ZOO / name)
    assert golden["library"] == LIBRARY
    served = Served(ZOO / name)
    for case in golden["cases"]:
        again = served.answer(case["inputs"])
        for exact in ("columns", "margin", "prediction", "spread_margin", "out_of_distribution"):
            assert again.get(exact) == case.get(exact), (exact, case["inputs"])
        assert math.isclose(again["coverage"], case["coverage"])
        if case["expected"] is None:
            assert again["expected"] is None
        else:
            assert np.allclose(list(flat(again["expected"])), list(flat(case["expected"])), rtol=1e-6, atol=1e-12)


@pytest.mark.parametrize("name", names())
def test_inputs_are_of_the_vocabulary(name):
    manifest = tomllib.loads((ZOO / name / "manifest.toml").read_text())
    for entry in manifest["inputs"]:
        spec = feature(entry["name"])
        assert entry["dtype"] == spec.dtype
        assert tuple(entry.get("range", ())) == (spec.range or ())
        assert entry.get("unit") == spec.unit
        assert len(entry.get("encode", entry.get("vocabulary", ()))) == len(entry.get("vocabulary", ()))


def test_every_thermal_class_is_reached():
    cases = golden_of(ZOO / "thermal-risk")["cases"]
    likeliest = {max(p, key=p.get) for p in (case["expected"]["probabilities"] for case in cases)}
    assert likeliest == {"Normal", "Watch", "Warning", "Alarm", "Runaway"}
