"""Trains a photo model and writes everything its version consists of; measures what is written."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field

import numpy as np
import tomllib
from scipy.special import softmax
from torch import nn
from tqdm import tqdm

from .. import toml
from ..data import DataFolder
from . import pictures
from .card import card
from .chain import opened
from .data import FOLDS, VEHICLES, Photos
from .facts import labels
from .figures import Figures, Unknown, cross_calibrated, figures, matrix, temperature, unknown
from .fitting import each
from .model import Corpus, PhotoModel

SPLIT = f"StratifiedGroupKFold({FOLDS}) of the training photos, near duplicates together"
TEST = "supplied test photos"
CALIBRATION_ERROR = 0.1
TOLERANCE = 1e-3


@dataclass
class Side:
    """Model, baseline and naive answer on the same photos."""

    name: str
    model: Figures
    baseline: Figures
    naive: Figures
    matrix: np.ndarray
    failures: list[str] = field(default_factory=list)


@dataclass
class Measured:
    """All that a card says."""

    sides: list[Side]
    heat: float
    raw_error: float
    """Calibration error out of fold before scaling."""
    unknown: Unknown
    variants: list[dict]
    minutes: float
    photos: int
    groups: int
    classes: tuple[str, ...]
    size: int
    unknown_test: float = 0.0


def train(model: PhotoModel, data: DataFolder) -> list[Side]:
    """Cross-validates, trains on all training photos, and writes manifest, artifact, golden cases and card."""
    corpus = Corpus.read(data, reuse=True)
    networks, logits = cross_validated(model, corpus)
    heat = temperature(logits, corpus.train.labels)
    everything = np.arange(len(corpus.train))
    final = model.fit(corpus, everything, "all training photos")
    files = [*model.write(final, corpus, model.folder), *pictures.write(model.folder)]
    answer = model.answerer(model.folder)
    others = answered(answer, model, corpus.others)
    makes = np.array(corpus.others.classes)[corpus.others.labels]
    flag = unknown(logits, corpus.train.labels, others, makes, heat)
    sides = [test_side(model, corpus, answer, heat), folds_side(model, corpus, logits)]
    raw = figures(softmax(logits, axis=1), corpus.train.labels, corpus.train.classes).calibration_error
    measured = Measured(
        sides,
        heat,
        raw,
        flag,
        model.variants(corpus, networks, final),
        sum(network.seconds for network in (*model.stages(corpus), *networks, final)) / 60,
        len(corpus.train),
        len(np.unique(corpus.train.groups())),
        corpus.train.classes,
        sum((model.folder / file).stat().st_size for file in files if not file.startswith("golden")),
    )
    shown = softmax(answered(answer, model, corpus.test) / heat, axis=1).max(axis=1)
    measured.unknown_test = float(np.mean(shown < flag.threshold))
    facts = labels(data)
    golden(model, answer, heat, corpus.train.classes)
    files.append("golden.json")
    (model.folder / "manifest.toml").write_text(manifest(model, measured, facts, data, files))
    (model.folder / "README.md").write_text(card(model, measured, facts))
    return sides


def evaluate(model: PhotoModel, data: DataFolder, folds: bool) -> list[Side]:
    """Measures the committed files on the test photos and, with `folds`, trains and measures every fold again."""
    corpus = Corpus.read(data, reuse=False)
    committed = tomllib.loads((model.folder / "manifest.toml").read_text())
    heat = committed["calibration"]["tiers"][0]["temperature"]
    sides = [test_side(model, corpus, model.answerer(model.folder), heat)]
    if folds:
        _, logits = cross_validated(model, corpus)
        sides.append(folds_side(model, corpus, logits))
    return sides


def cross_validated(model: PhotoModel, corpus: Corpus) -> tuple[list[nn.Module], np.ndarray]:
    """The networks of the folds, and their logits for the photos they never saw."""
    networks, logits = [], np.full((len(corpus.train), len(corpus.train.classes)), np.nan)
    for index, (seen, held) in enumerate(tqdm(corpus.train.folds(), desc=f"{model.name}: folds", unit="fold", leave=False)):
        networks.append(model.fit(corpus, seen, f"fold {index + 1}"))
        logits[held] = each(networks[-1], corpus.train.take(held), model.chain)
    return networks, logits.astype(float)


def answered(answer, model: PhotoModel, photos: Photos) -> np.ndarray:
    """Logits of the artifact."""
    return np.concatenate([answer(model.chain(image)[None]) for image in photos.images]).astype(float)


def test_side(model: PhotoModel, corpus: Corpus, answer, heat: float) -> Side:
    """The artifact on the supplied test photos."""
    probabilities = softmax(answered(answer, model, corpus.test) / heat, axis=1)
    everything = np.arange(len(corpus.train))
    baseline, naive = corpus.baseline(everything, corpus.test), corpus.naive(everything, len(corpus.test))
    # 23 photos are too few to judge a calibration by: even a perfect one misses by more than the bar.
    return side(model, f"{len(corpus.test)} {TEST}", corpus.test, (probabilities, baseline, naive), calibrated=False)


def folds_side(model: PhotoModel, corpus: Corpus, logits: np.ndarray) -> Side:
    """The same recipe on photos it never saw, fold by fold."""
    photos, baseline, naive = corpus.train, np.empty_like(logits), np.empty_like(logits)
    for seen, held in photos.folds():
        baseline[held], naive[held] = corpus.baseline(seen, held), corpus.naive(seen, len(held))
    probabilities = cross_calibrated(logits, photos.labels, photos.folds())
    return side(model, f"{len(photos)} photos out of fold", photos, (probabilities, baseline, naive), calibrated=True)


def side(model: PhotoModel, name: str, photos: Photos, answers: tuple, calibrated: bool) -> Side:
    """Figures of all three, and the bars that are missed."""
    scored = [figures(answer, photos.labels, photos.classes) for answer in answers]
    found = Side(name, *scored, matrix(answers[0], photos.labels, len(photos.classes)))
    more = found.model.hits - found.baseline.hits
    if model.bar is not None and more < model.bar:
        found.failures.append(f"{more:+} photos against the baseline, not {model.bar:+}")
    if calibrated and found.model.calibration_error > CALIBRATION_ERROR:
        found.failures.append(f"calibration error {found.model.calibration_error:.3f} is above {CALIBRATION_ERROR}")
    return found


def golden(model: PhotoModel, answer, heat: float, classes: tuple[str, ...]) -> None:
    """Writes the golden cases."""
    cases = []
    for file in sorted((model.folder / "golden").glob("*.png")):
        logits = answer(model.chain(opened(file.read_bytes()))[None])[0]
        probabilities = dict(zip(classes, map(float, softmax(logits.astype(float) / heat))))
        margin = [float(str(value)) for value in logits]
        cases.append({"image_file": f"golden/{file.name}", "margin": margin, "expected": {"probabilities": probabilities}})
    text = ",\n  ".join(json.dumps(case) for case in cases)
    (model.folder / "golden.json").write_text(f'{{"library": "{model.library}",\n "cases": [\n  {text}\n]}}\n')


def manifest(model: PhotoModel, measured: Measured, facts: list[dict], data: DataFolder, files: list[str]) -> str:
    """`manifest.toml`."""
    test, folds = measured.sides
    tier = {
        "min_coverage": 0.0,
        "temperature": round(measured.heat, 4),
        "calibration_error": round(folds.model.calibration_error, 4),
    }
    document = {
        "model": {
            "name": model.name,
            "task": "image_classification",
            "description": model.description,
            "backend": model.backend,
            "license": model.license,
            "nature": model.nature,
        },
        "inputs": [
            {
                "name": "image",
                "dtype": "FP32",
                "shape": [3, model.chain.crop, model.chain.crop],
                "required": True,
                "description": "A photo of one car.",
            }
        ],
        "preprocessing": model.preprocessing(),
        "heads": [{"name": "point", "file": model.file}],
        "calibration": {"method": "temperature scaling on out-of-fold logits", "tiers": [tier]},
        "outputs": [
            {
                "name": "vehicle",
                "kind": "classes",
                "unit": "1",
                "classes": list(measured.classes),
                "unknown_below": measured.unknown.threshold,
            }
        ],
        "labels": facts,
        "golden": {"file": "golden.json", "tolerance": TOLERANCE},
        "training": {
            "datasets": data.datasets,
            "data_digest": data.digest,
            "rows": measured.photos,
            "groups": measured.groups,
            "split": SPLIT,
            "target": f"class of {VEHICLES}",
            "command": f"make train MODEL={model.name} DATA=<data folder>",
        },
        "metrics": [entry for found in (test, folds) for entry in metrics(found)],
        "limits": {"max_batch_rows": 64, "memory": model.memory, "latency": model.latency},
        "files": [file_entry(model, file) for file in sorted(files)],
    }
    head = f"# Written by `make train MODEL={model.name}`; change {model.name}/train.py instead.\n\n"
    return head + toml.dumps(document)


def metrics(found: Side) -> list[dict]:
    """`[[metrics]]` of the manifest."""
    entries = []
    for name in ("accuracy", "macro_f1", "top3", "make", "calibration_error"):
        value, baseline, naive = (round(float(getattr(f, name)), 5) for f in (found.model, found.baseline, found.naive))
        label = {"top3": "top3_accuracy", "make": "make_accuracy"}.get(name, name)
        entries.append({"name": label, "split": found.name, "value": value, "baseline": baseline, "naive": naive, "unit": "1"})
    return entries


def file_entry(model: PhotoModel, file: str) -> dict:
    """`[[files]]` of the manifest."""
    content = (model.folder / file).read_bytes()
    return {"path": file, "sha256": f"sha256:{hashlib.sha256(content).hexdigest()}", "size": len(content)}
