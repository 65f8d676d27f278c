"""Trains a model and writes everything its version consists of."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from .data import DataFolder, Rows
from .errors import ZooError
from .heads import LIBRARY
from .manifest import manifest
from .measure import Part, measure, measured_tiers, pooled
from .model import Fitted, Model
from .report import card, metrics
from .served import Served


def evaluate(model: Model, data: DataFolder) -> tuple[Rows, object, list[Part]]:
    """Rows, pooled answers and figures."""
    rows = model.load(data)
    pool = pooled(model, rows)
    return rows, pool, measure(model, rows, pool)


def train(model: Model, data: DataFolder) -> list[Part]:
    """Measures the model, fits it to all rows and writes manifest, artifacts, golden cases and card."""
    rows, pool, parts = evaluate(model, data)
    fitted = model.fit(rows)
    measured_tiers(model, rows, pool, fitted.bodies)
    write(fitted, rows, parts, data)
    return parts


def write(fitted: Fitted, rows: Rows, parts: list[Part], data: DataFolder) -> None:
    """Writes the folder of a model."""
    model, folder = fitted.model, fitted.model.folder
    files: dict[str, dict[str, str]] = {}
    for variant in model.variants(rows):
        body = fitted.bodies[variant.value]
        files[variant.value] = {"point": variant.file}
        body.point.save_model(str(folder / variant.file))
        if body.spread is not None:
            files[variant.value]["spread"] = variant.file.replace("point", "spread")
            body.spread.save_model(str(folder / files[variant.value]["spread"]))
    keep = {name for heads in files.values() for name in heads.values()}
    for stale in folder.glob("*.ubj"):
        if stale.name not in keep:
            stale.unlink()
    training = {
        "datasets": data.datasets,
        "data_digest": data.digest,
        "rows": len(rows),
        "groups": len(np.unique(rows.group)),
        "split": model.split,
        **({"split_by": model.split_by} if model.split_by else {}),
        "target": model.target,
        "command": f"make train MODEL={model.name} DATA=<data folder>",
    }
    (folder / "manifest.toml").write_text(manifest(fitted, files, training, metrics(model, parts)))
    served = Served(folder)
    agree(fitted, served, rows)
    cases = [served.answer(request) for request in model.golden()]
    for case in cases:
        if case["expected"] is not None and not all(np.isfinite(v) for v in flat(case["expected"])):
            raise ZooError(f"{model.name} has no finite answer to {case['inputs']}")
    text = ",\n  ".join(json.dumps(case, ensure_ascii=False) for case in cases)
    (folder / "golden.json").write_text(f'{{"library": "{LIBRARY}",\n "cases": [\n  {text}\n]}}\n')
    (folder / "README.md").write_text(card(model, parts, training, model.figures(rows)))


def flat(expected: dict):
    """Numbers of an expected answer."""
    for value in expected.values():
        yield from flat(value) if isinstance(value, dict) else [value]


def agree(fitted: Fitted, served: Served, rows: Rows) -> None:
    """The folder as written answers exactly as what was measured; only so are the measured figures its own."""
    index = np.linspace(0, len(rows) - 1, 20).astype(int)
    frame = rows.frame.iloc[index]
    trained, _ = fitted.answer(frame)
    for row, (_, request) in enumerate(frame.iterrows()):
        given = {name: value for name, value in request.items() if value is not None and value == value}
        answer = served.answer(given)["expected"]
        if fitted.model.output.rules:
            continue
        if not np.allclose(list(flat(answer)), trained[row], rtol=1e-12, atol=0):
            raise ZooError(f"{fitted.model.name}: the written files answer {answer}, the trained model {trained[row]}")


def golden_of(folder: Path) -> dict:
    """Golden cases of a model folder."""
    return json.loads((folder / "golden.json").read_text())
